"""Where answers go on Discord: a channel, thread or direct message, or a slash command's own response."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import aiohttp
import discord
import structlog

from bot.errors import DeliveryFailed

log = structlog.get_logger()
T = TypeVar("T")

MESSAGE_LIMIT = 2000
TYPING_SECONDS = 8.0
"""Discord's sign lasts ten seconds."""
UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)

UNKNOWN_CHANNEL, UNKNOWN_MESSAGE = 10003, 10008
NOT_ALLOWED = (50001, 50013, 160002)
TOKEN_EXPIRED = (10015, 50027)


class ChannelSink:
    """Posts to a channel; the first message replies to the one that asked, if that still stands."""

    limit = MESSAGE_LIMIT
    typing_seconds = TYPING_SECONDS

    def __init__(
        self, channel: discord.PartialMessageable, asked: discord.MessageReference | None = None
    ) -> None:
        self._channel = channel
        self._asked = asked

    async def post(self, text: str) -> str:
        with delivery(self._channel):
            if self._asked is None:
                message = await self._channel.send(text, suppress_embeds=True)
            else:
                message = await self._channel.send(text, reference=self._asked, suppress_embeds=True)
        self._asked = None
        return str(message.id)

    async def edit(self, message_id: str, text: str) -> None:
        with delivery(self._channel):
            await self._channel.get_partial_message(int(message_id)).edit(content=text)

    async def delete(self, message_id: str) -> None:
        with delivery(self._channel):
            await self._channel.get_partial_message(int(message_id)).delete()

    async def typing(self) -> None:
        with delivery(self._channel):
            await self._channel.typing()


class InteractionSink:
    """Answers a deferred slash command: its response first, then follow-ups.

    The command's token lives 15 minutes. What comes later goes to the channel, as far as the bot may write
    there; an ephemeral answer does not, for the others in the channel are not to see it.
    """

    limit = MESSAGE_LIMIT
    typing_seconds = TYPING_SECONDS

    def __init__(self, interaction: discord.Interaction, *, ephemeral: bool = False) -> None:
        assert interaction.channel_id is not None  # a slash command is given in a channel
        self._interaction = interaction
        self._ephemeral = ephemeral
        self._original: str | None = None
        self._expired = False
        self._place = interaction.client.get_partial_messageable(
            interaction.channel_id, guild_id=interaction.guild_id
        )
        self._channel = ChannelSink(self._place)

    async def post(self, text: str) -> str:
        return await self._deliver(lambda: self._respond(text), lambda: self._channel.post(text))

    async def edit(self, message_id: str, text: str) -> None:
        await self._deliver(
            lambda: self._edit_response(message_id, text), lambda: self._channel.edit(message_id, text)
        )

    async def delete(self, message_id: str) -> None:
        await self._deliver(
            lambda: self._interaction.followup.delete_message(int(message_id)),
            lambda: self._channel.delete(message_id),
        )

    async def typing(self) -> None:
        """Nothing to do: a deferred command says that the bot is thinking."""

    async def _deliver(
        self, by_token: Callable[[], Awaitable[T]], in_channel: Callable[[], Awaitable[T]]
    ) -> T:
        with delivery(self._place):
            if not self._expired:
                try:
                    return await by_token()
                except discord.HTTPException as error:
                    if error.code not in TOKEN_EXPIRED or self._ephemeral:
                        raise
                    self._expired = True
                    log.info("a slash command's 15 minutes are over; its answer goes on in the channel")
        return await in_channel()

    async def _respond(self, text: str) -> str:
        if self._original is None:
            self._original = str((await self._interaction.edit_original_response(content=text)).id)
            return self._original
        message = await self._interaction.followup.send(
            text, ephemeral=self._ephemeral, suppress_embeds=True, wait=True
        )
        return str(message.id)

    async def _edit_response(self, message_id: str, text: str) -> None:
        if message_id == self._original:
            await self._interaction.edit_original_response(content=text)
        else:
            await self._interaction.followup.edit_message(int(message_id), content=text)


@contextmanager
def delivery(place: discord.PartialMessageable) -> Iterator[None]:
    """Turn what discord.py raises into a `DeliveryFailed` with a sentence that names the place."""
    try:
        yield
    except discord.HTTPException as error:
        raise DeliveryFailed(_sentence(error, _name(place))) from error
    except UNREACHABLE as error:
        reason = str(error) or type(error).__name__
        raise DeliveryFailed(f"Discord could not be reached for {_name(place)}: {reason}") from error


def _sentence(error: discord.HTTPException, place: str) -> str:
    if error.code in NOT_ALLOWED:
        return (
            f"I may not write in {place}: my role needs View Channel, Send Messages (also in threads) "
            f"and Read Message History there (Discord's code {error.code})."
        )
    if error.code == UNKNOWN_CHANNEL:
        return f"I could not answer in {place}: it is gone (Discord's code {error.code})."
    if error.code == UNKNOWN_MESSAGE:
        return f"My answer in {place} was deleted before its end (Discord's code {error.code})."
    # Without a code it is a proxy that speaks, in HTML.
    reason = error.text.replace("\n", " ") if error.code else error.response.reason
    return f"Discord did not take my message for {place}: {reason} (HTTP {error.status}, code {error.code})."


def _name(place: discord.PartialMessageable) -> str:
    if place.guild_id is None:
        return "a direct message"
    channel = place.guild.get_channel_or_thread(place.id) if place.guild else None
    return f"#{channel.name}" if channel else f"channel {place.id}"
