"""Discord as a platform: logs in, stores what people say, and is the courier of the answers."""

import asyncio
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import discord
import structlog
import yarl

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.delivery.ownership import sole_owner
from bot.errors import PlatformRefused
from bot.platforms.discord_commands import CommandTree, add_commands
from bot.platforms.discord_courier import UNREACHABLE, DiscordCourier
from bot.platforms.discord_identify import seconds_before_identify
from bot.platforms.discord_incoming import (
    conversation_at,
    read_edit,
    read_message,
    read_overheard,
    read_typing,
)
from bot.platforms.discord_limits import Limiter
from bot.platforms.discord_menus import add_menus, take_report
from bot.platforms.discord_notices import Notices
from bot.platforms.discord_presses import press
from bot.platforms.discord_reactions import take_reaction
from bot.platforms.discord_threads import add_thread
from bot.use_cases import UseCases
from storage.database import Database
from storage.errors import StorageError
from storage.leases import count_identifies, record_identify

log = structlog.get_logger()

LONGEST_PAUSE = 60.0
LONGEST_LIMIT = 30.0
"""Seconds. What Discord limits for longer is tried again later, and not waited for in discord.py."""
LOGIN_REFUSED = (
    "Discord refused the token in DISCORD_TOKEN. Copy it again from the Bot page of your application on "
    "https://discord.com/developers/applications; Reset Token shows a new one."
)
INTENT_REFUSED = (
    "Discord refused the Message Content intent, which PARLEY_DISCORD_MESSAGE_CONTENT asks for. Switch on "
    "Message Content Intent on the Bot page of your application on https://discord.com/developers/applications, "
    "or set PARLEY_DISCORD_MESSAGE_CONTENT=false."
)
AUTHENTICATION_FAILED = 4004
LOADING = "loading the model"
SECONDS_TO_LOAD = 0.5
"""A model that serves says so earlier, and nothing is shown of loading."""
LONGEST_ACTIVITY = 128


class DiscordPlatform:
    """Answers mentions, replies, direct messages and slash commands.

    With `message_content`, the privileged intent, also what is said without a mention in threads.
    """

    name: ClassVar[PlatformName] = "discord"

    def __init__(
        self,
        *,
        token: str,
        use_cases: UseCases,
        database: Database,
        holder: str,
        lease_seconds: float,
        api_url: str,
        gateway_url: str,
        cdn_url: str,
        message_content: bool = False,
        commands_guild: int | None = None,
    ) -> None:
        self._token = token
        self._use_cases = use_cases
        self._database = database
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._addresses = (api_url, gateway_url, cdn_url)
        self._message_content = message_content
        self._commands_guild = commands_guild

    async def run(self) -> None:
        """Serve until cancelled. Raises `PlatformRefused` when Discord does not want this bot.

        One process at a time has the gateway's session; another on the same database stands by.
        """
        use_addresses(*self._addresses)
        if self._database.exclusive:
            await self._keep_serving()
        while True:
            async with sole_owner(
                self._database, "discord", self._holder, seconds=self._lease_seconds
            ) as lost:
                serving = asyncio.create_task(self._keep_serving())
                losing = asyncio.create_task(lost.wait())
                try:
                    await asyncio.wait({serving, losing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    losing.cancel()
                    serving.cancel()
                    with suppress(asyncio.CancelledError):
                        await serving
            log.warning("another Parley serves Discord now; standing by")

    async def _keep_serving(self) -> None:
        """discord.py comes back by itself once it was connected; until then we try again, ever more slowly."""
        pause = 1.0
        while True:
            try:
                await self._serve()
            except (discord.HTTPException, *UNREACHABLE) as error:
                log.warning(
                    "Discord could not be reached", reason=str(error)[:200], next_try_in_seconds=pause
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve(self) -> None:
        client = Client(
            use_cases=self._use_cases,
            database=self._database,
            message_content=self._message_content,
            commands_guild=self._commands_guild,
        )
        async with client:
            try:
                await client.start(self._token)
            except discord.LoginFailure as error:
                raise PlatformRefused(LOGIN_REFUSED) from error
            except discord.PrivilegedIntentsRequired as error:
                raise PlatformRefused(INTENT_REFUSED) from error
            except discord.ConnectionClosed as error:
                raise PlatformRefused(_refusal(error.code)) from error
            except AttributeError as error:
                # discord.py wants to resume on the socket that it has not got yet: the first one broke in the login.
                if getattr(client, "ws", None) is not None:
                    raise
                raise ConnectionError("The connection broke during the login.") from error
            finally:
                self._use_cases.delivery.connecting("discord")
                await client.end_tasks()


class Client(discord.Client):
    """discord.py's client with as little as Parley needs: no message cache, few intents, no pings."""

    def __init__(
        self,
        *,
        use_cases: UseCases,
        database: Database,
        message_content: bool,
        commands_guild: int | None,
    ) -> None:
        intents = discord.Intents(
            guilds=True,
            guild_messages=True,
            guild_reactions=True,
            guild_typing=True,
            dm_messages=True,
            dm_reactions=True,
            dm_typing=True,
            message_content=message_content,
        )
        limiter = Limiter()
        super().__init__(
            intents=intents,
            max_messages=None,
            allowed_mentions=discord.AllowedMentions.none(),
            http_trace=limiter.trace(),
            max_ratelimit_timeout=LONGEST_LIMIT,
        )
        self._use_cases = use_cases
        self._delivery = delivery = use_cases.delivery
        self._database = database
        self._notices = Notices(self, database)
        self._courier = DiscordCourier(
            self, reads_threads=message_content, limiter=limiter, not_allowed=self._note_not_allowed
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._tree = CommandTree(self)
        self._commands_guild = commands_guild
        run_command, complete, pointing = use_cases.run_command, use_cases.complete, use_cases.pointing
        add_commands(self._tree, delivery=delivery, run_command=run_command, complete=complete)
        add_menus(self._tree, delivery=delivery, pointing=pointing, message_content=message_content)
        add_thread(self._tree, delivery=delivery, pointing=pointing, message_content=message_content)

    async def setup_hook(self) -> None:
        try:
            await self._tree.publish(self._commands_guild)
        except discord.HTTPException as error:
            log.warning("Discord did not take the slash commands", reason=str(error))

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Counted in the database, so that a process that dies and starts in a loop stays below a day's budget."""
        while True:
            try:
                await self._count_identify()
                return
            except StorageError as error:
                log.warning("a login at Discord waits for the database", reason=str(error))
            await asyncio.sleep(1)

    async def _count_identify(self) -> None:
        now = datetime.now(UTC)
        recent = await self._database.read(count_identifies, "discord", now - timedelta(minutes=15))
        today = await self._database.read(count_identifies, "discord", now - timedelta(days=1))
        wait = seconds_before_identify(recent, today)
        if wait:
            log.info("waiting before the next login at Discord", seconds=wait, logins_today=today)
            await asyncio.sleep(wait)
        await self._database.write(record_identify, "discord", datetime.now(UTC))

    async def on_connect(self) -> None:
        self._delivery.connecting("discord")
        log.info("connected to Discord", bot=str(self.user))

    async def on_ready(self) -> None:
        """A new session, so events may have been missed. They are read, and answered before newer ones."""
        self._begin(self._catch_up())
        self._begin(self._show_what_serves())

    async def on_resumed(self) -> None:
        self._begin(self._delivery.connected(self._courier))

    async def _catch_up(self) -> None:
        try:
            await self._delivery.watch(self._courier.list_places())
        except StorageError as error:
            log.error("the channels to look at could not be stored", reason=str(error))
        await self._delivery.connected(self._courier)

    async def _show_what_serves(self) -> None:
        """And that it is still being loaded, where one has to wait for it."""
        asking = asyncio.ensure_future(self._use_cases.status())
        try:
            if not (await asyncio.wait({asking}, timeout=SECONDS_TO_LOAD))[0]:
                await self._show(LOADING)
            await self._show(await asking)
        except Exception as error:  # whoever waits for the model tells what is wrong with it
            log.info("what serves could not be shown", reason=str(error))
        finally:
            asking.cancel()

    async def _show(self, activity: str) -> None:
        await self.change_presence(activity=discord.CustomActivity(name=activity[:LONGEST_ACTIVITY]))

    async def on_guild_join(self, guild: discord.Guild) -> None:
        await self._notices.welcome(guild)

    async def on_guild_available(self, guild: discord.Guild) -> None:
        await self._notices.welcome_if_new(guild)

    def _note_not_allowed(self, place: ConversationKey) -> None:
        self._begin(self._notices.tell_missing(place))

    async def on_message(self, message: discord.Message) -> None:
        assert self.user is not None
        said = read_message(message, self.user, reads_threads=self.intents.message_content)
        if said is None and self.intents.message_content:
            said = await self._overhear(message, self.user)
        if said is not None:
            await self._delivery.receive(said)

    async def _overhear(self, message: discord.Message, bot: discord.ClientUser) -> IncomingMessage | None:
        """A wake word, or a place where the bot talks unasked."""
        overheard = read_overheard(message, bot)
        if overheard is None:
            return None
        heard, for_others = overheard
        return await self._use_cases.listen(heard, for_others=for_others)

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        assert self.user is not None
        text = read_edit(event.message, self.user)
        if text is not None:
            place = conversation_at(event.message.guild, event.message.channel)
            await self._delivery.edited(place, str(event.message_id), text)

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        guild = self.get_guild(event.guild_id) if event.guild_id else None
        channel = guild.get_channel_or_thread(event.channel_id) if guild else None
        place = conversation_at(guild, channel or discord.Object(event.channel_id))
        await self._delivery.deleted(place, str(event.message_id))

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """The slash commands are discord.py's own business."""
        await press(interaction, self._use_cases.actions)
        await take_report(interaction, self._use_cases.pointing)

    async def on_raw_reaction_add(self, event: discord.RawReactionActionEvent) -> None:
        await take_reaction(event, self, self._use_cases.pointing)

    async def on_raw_typing(self, event: discord.RawTypingEvent) -> None:
        assert self.user is not None
        if event.user_id != self.user.id:
            guild = self.get_guild(event.guild_id) if event.guild_id else None
            await self._use_cases.prepare(read_typing(event, guild))

    async def on_error(self, event_method: str, /, *args: object, **kwargs: object) -> None:
        error = sys.exception()
        if isinstance(error, StorageError):
            log.error("an event waits for the database", event_name=event_method, reason=str(error))
            return
        log.exception("an event from Discord failed", event_name=event_method)

    async def close(self) -> None:
        """Also of a login that was cut short, whose heartbeat discord.py leaves behind."""
        await super().close()
        for thread in threading.enumerate():
            if isinstance(thread, discord.gateway.KeepAliveHandler):
                thread.stop()

    async def end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def use_addresses(api_url: str, gateway_url: str, cdn_url: str) -> None:
    """Point discord.py at a server. It keeps its addresses in classes: one process talks to one Discord."""
    discord.http.Route.BASE = api_url.rstrip("/")
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway_url)
    discord.Asset.BASE = cdn_url.rstrip("/")


def _refusal(code: int) -> str:
    if code == AUTHENTICATION_FAILED:
        return LOGIN_REFUSED
    return f"Discord closed the connection for good, with code {code}; its gateway documentation explains it."
