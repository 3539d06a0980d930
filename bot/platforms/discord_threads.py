"""/thread on Discord: go on from the last answer, or talk of something new, in a thread of its own."""

from dataclasses import replace
from typing import Any

import discord
from discord import app_commands

from bot.actions import Presser
from bot.delivery.desk import Delivery
from bot.errors import DeliveryFailed
from bot.platforms.discord_commands import CommandTree, place_name, show_privately, words
from bot.platforms.discord_errors import THREAD_EXISTS, UNKNOWN_MESSAGE, judging
from bot.platforms.discord_incoming import conversation_at, read_chat_command
from bot.platforms.discord_presses import presser_of
from bot.pointing import Pointing

LONGEST_MESSAGE = 1500
LONGEST_NAME = 100
LONGEST_TITLE = 60
"""Of a name that is made from what is asked."""
NOT_HERE = "Threads can be opened in a server's text channels."
SAY_WHAT = (
    "I have answered nothing here yet that a thread could go on from. Give the thread a name or a message."
)
MAY_NOT = (
    "I may not open threads in {place}: my role needs Create Public Threads and Send Messages in Threads."
)
HOW_TO_GO_ON = "Let us go on here."
HOW_TO_MENTION = "Let us go on here. Mention me when you want an answer."

_TEXT = app_commands.Range[str, 1, LONGEST_MESSAGE]
_NAME = app_commands.Range[str, 1, LONGEST_NAME]


def add_thread(tree: CommandTree, *, delivery: Delivery, pointing: Pointing, message_content: bool) -> None:
    async def thread(
        interaction: discord.Interaction, message: _TEXT | None = None, name: _NAME | None = None
    ) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        presser = presser_of(interaction)
        refused = await pointing.refuse("command", presser)
        if refused is None and not isinstance(interaction.channel, discord.TextChannel):
            refused = NOT_HERE
        if refused is None:
            assert isinstance(interaction.channel, discord.TextChannel)
            try:
                with judging(place_name(interaction)):
                    refused = await open_in(interaction, interaction.channel, presser, message, name)
            except DeliveryFailed as error:
                refused = str(error)
        await show_privately(interaction, refused)

    async def open_in(
        interaction: discord.Interaction,
        channel: discord.TextChannel,
        presser: Presser,
        message: str | None,
        name: str | None,
    ) -> str:
        """What only who asked reads."""
        last = None if name else await pointing.last_answer(presser.conversation)
        if last is None and name is None and message is None:
            return SAY_WHAT
        try:
            begun = await _begin(channel, last, name or _title(message))
        except discord.Forbidden:
            return MAY_NOT.format(place=place_name(interaction))
        place = conversation_at(channel.guild, begun)
        await pointing.join(place)
        if message is None:
            await begun.send(HOW_TO_GO_ON if message_content else HOW_TO_MENTION, silent=True)
        else:
            await begun.send(f"{presser.author.name}: {message}", silent=True)
            asked = read_chat_command(interaction, message)
            await delivery.receive(replace(asked, conversation=place, token=None, reply_to=last))
        return f"The thread is open: {begun.mention}"

    described = app_commands.describe(
        message=words("What you want to say there", "你想在那里说的话"),
        name=words("How to call it; without, it goes on from my last answer", "名称；不填则接着我上次的回答"),
    )(thread)
    command: app_commands.Command[Any, ..., None] = app_commands.Command(
        name=words("thread", "子区"),
        description=words("Go on in a thread of its own", "在单独的子区里继续"),
        callback=described,
        allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=False, private_channel=False),
    )
    command.default_permissions = discord.Permissions(
        create_public_threads=True, send_messages_in_threads=True
    )
    tree.add_command(command)


async def _begin(channel: discord.TextChannel, last: str | None, name: str) -> discord.Thread:
    """From the last answer where it still stands; a message has one thread at most, which is then gone on with."""
    if last is not None:
        try:
            return await channel.get_partial_message(int(last)).create_thread(name=name)
        except discord.HTTPException as error:
            if error.code == THREAD_EXISTS:
                existing = await channel.guild.fetch_channel(int(last))
                assert isinstance(existing, discord.Thread)
                return existing
            if error.code != UNKNOWN_MESSAGE:
                raise
    return await channel.create_thread(name=name, type=discord.ChannelType.public_thread)


def _title(message: str | None) -> str:
    line = " ".join((message or "").split())
    if len(line) > LONGEST_TITLE:
        line = f"{line[: LONGEST_TITLE - 1]}…"
    return line or "With Parley"
