"""What Parley says on Discord without being asked: a welcome, and that it lacks permissions. Each is said once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import discord
import structlog

from bot.chat import ConversationKey
from bot.platforms.discord_commands import CHINESE_LOCALES
from bot.platforms.discord_errors import UNREACHABLE
from storage.database import Database
from storage.errors import StorageError
from storage.once import EVER, is_first_time

log = structlog.get_logger()

MOST_TRIES = 5
"""Channels, for a welcome."""
JUST_JOINED = timedelta(days=1)
A_DAY = timedelta(days=1)
FAILURES = (discord.DiscordException, *UNREACHABLE)

WELCOME = (
    "Hello, I am Parley, a chatbot that runs on this community's own machine.\n"
    "Mention me, reply to me, write me a direct message, or use `/chat`. A message's menu (Apps) can explain, "
    "translate, summarise and report.\n"
    "I store the messages that are addressed to me, and my answers, in this community's own database. Nothing is "
    "trained on without consent: training is off.\n"
    "`/help` shows everything that I can do."
)
WELCOME_ZH = (
    "大家好，我是 Parley，一个运行在本社区自己机器上的聊天机器人。\n"
    "提及我、回复我、给我发私信，或者使用 `/chat`。消息菜单（应用）里可以解释、翻译、总结和举报。\n"
    "发给我的消息和我的回答保存在本社区自己的数据库里。未经同意不会用来训练：训练是关闭的。\n"
    "`/help` 会列出我能做的一切。"
)
MISSING = (
    "Somebody asked me something in <#{channel}> of {guild}, and I may not write there. My role needs View Channel, "
    "Send Messages, Send Messages in Threads and Read Message History in that channel."
)


class Notices:
    def __init__(self, client: discord.Client, database: Database) -> None:
        self._client = client
        self._database = database

    async def welcome_if_new(self, guild: discord.Guild) -> None:
        """A workspace that was joined while nobody listened."""
        joined = guild.me.joined_at
        if joined is not None and datetime.now(UTC) - joined < JUST_JOINED:
            await self.welcome(guild)

    async def welcome(self, guild: discord.Guild) -> None:
        """In the system channel, or in the first channel that takes it."""
        if not await self._is_first_time(f"discord welcome {guild.id}", EVER):
            return
        text = WELCOME_ZH if guild.preferred_locale in CHINESE_LOCALES else WELCOME
        for channel in _channels_for_a_welcome(guild)[:MOST_TRIES]:
            if await _say(channel, text):
                return
        log.info("there is no channel for a welcome", workspace=guild.name)

    async def tell_missing(self, place: ConversationKey) -> None:
        """To who manages the workspace: the owner, or the system channel where that is not to be had."""
        guild = None if place.workspace == "dm" else self._client.get_guild(int(place.workspace))
        channel = place.thread or place.channel
        if guild is None or not await self._is_first_time(f"discord permissions {channel}", A_DAY):
            return
        text = MISSING.format(channel=channel, guild=discord.utils.escape_markdown(guild.name))
        async for listener in self._managers_of(guild, place):
            if await _say(listener, text):
                return
        log.info("nobody could be told of missing permissions", workspace=guild.name, channel=channel)

    async def _managers_of(
        self, guild: discord.Guild, place: ConversationKey
    ) -> AsyncIterator[discord.abc.Messageable]:
        try:
            if guild.owner_id is not None:
                yield await self._client.fetch_user(guild.owner_id)
        except FAILURES as error:
            log.info("the owner of a workspace was not found", workspace=guild.name, reason=str(error))
        if guild.system_channel is not None and str(guild.system_channel.id) != place.channel:
            yield guild.system_channel

    async def _is_first_time(self, name: str, within: timedelta) -> bool:
        """Without the database it is left unsaid."""
        try:
            return await self._database.write(is_first_time, name, datetime.now(UTC), within)
        except StorageError as error:
            log.warning("a notice was not given", reason=str(error))
            return False


def _channels_for_a_welcome(guild: discord.Guild) -> list[discord.TextChannel]:
    first = [guild.system_channel] if guild.system_channel else []
    channels = [*first, *(channel for channel in guild.text_channels if channel not in first)]
    allowed = ((channel, channel.permissions_for(guild.me)) for channel in channels)
    return [channel for channel, may in allowed if may.view_channel and may.send_messages]


async def _say(where: discord.abc.Messageable, text: str) -> bool:
    """Silent, which also tells it from answers. False where it was not taken."""
    try:
        await where.send(text, silent=True, suppress_embeds=True)
    except FAILURES as error:
        log.info("a notice was not taken", reason=str(error))
        return False
    return True
