"""Discord as delivery sees it: answers in channels and to slash commands, and what stands there already."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar
from weakref import WeakValueDictionary

import discord
import structlog

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.controls import Controls
from bot.delivery.courier import HistoryPage, InDoubt, NotApplied, Post, Refused
from bot.platforms.discord_buttons import components_of, view_of
from bot.platforms.discord_errors import (
    TOKEN_GONE,
    UNKNOWN_CHANNEL,
    UNKNOWN_MESSAGE,
    NotAllowed,
    judging,
    judging_post,
)
from bot.platforms.discord_errors import UNREACHABLE as UNREACHABLE
from bot.platforms.discord_history import Place, find_own, is_answered, list_places, read_page
from bot.platforms.discord_limits import Limiter
from bot.platforms.discord_webhook import InteractionWebhook

log = structlog.get_logger()

MESSAGE_LIMIT, PIECE = 2000, 1900
"""Characters that a message may have, and that a part of an answer has at most."""
TYPING_SECONDS = 8.0
"""Discord's sign lasts ten seconds."""
TOKEN_LASTS = timedelta(minutes=14.5)
NONCE_LASTS = timedelta(seconds=60)
"""Discord remembers a nonce for a few minutes, and gives back the message that it made."""
SETTLE = 3.0
"""Seconds after which a post that Discord applied can be read."""
LONGEST_CALL = 60.0
"""Seconds. discord.py waits inside for limits, and repeats a request up to five times."""


Judge = Callable[[str], AbstractContextManager[None]]


class DiscordCourier:
    """A `Courier` for a client that is logged in."""

    name: ClassVar[PlatformName] = "discord"
    typing_seconds: float = TYPING_SECONDS
    has_controls = True

    def __init__(
        self,
        client: discord.Client,
        *,
        reads_threads: bool,
        limiter: Limiter,
        not_allowed: Callable[[ConversationKey], None] = lambda place: None,
        settle_seconds: float = SETTLE,
        call_seconds: float = LONGEST_CALL,
    ) -> None:
        """`not_allowed` hears where an answer was refused because permissions are missing."""
        self._client = client
        self._reads_threads = reads_threads
        self._limiter = limiter
        self._not_allowed = not_allowed
        self._settle = settle_seconds
        self._call_seconds = call_seconds
        self._granted = 0
        self._edits: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def limit(self, question: IncomingMessage) -> int:
        return PIECE

    async def describe(self, question: IncomingMessage) -> IncomingMessage:
        """Names come with every event."""
        return question

    async def post(self, post: Post) -> str:
        await self._limiter.turn()
        try:
            return await self._respond(post) or await self._post_in_channel(post, judging_post)
        except NotAllowed:
            self._not_allowed(post.question.conversation)
            raise

    async def find(self, post: Post) -> str | None:
        """A response is filled once more, and a nonce is sent once more while Discord knows it; else we read.

        Whatever keeps us from finding the post leaves it in doubt.
        """
        await self._limiter.turn()
        try:
            if post.part == 0 and (responded := await self._respond(post)):
                return responded
            in_channel = not _has_token(post.question, post.first_try_at)
            if in_channel and datetime.now(UTC) - post.first_try_at < NONCE_LASTS:
                return await self._post_in_channel(post, judging)
            await asyncio.sleep(self._settle)
            return await self._search(post)
        except NotApplied as error:
            raise InDoubt(str(error)) from error

    async def is_answered(self, question: IncomingMessage) -> bool:
        await self._limiter.turn()
        async with self._calling(question.conversation):
            return await is_answered(self._channel(question.conversation), self._bot, question)

    async def edit(
        self,
        question: IncomingMessage,
        message_id: str,
        text: str,
        part: int,
        controls: Controls | None = None,
    ) -> None:
        """One at a time in a channel: a crowd that waits inside discord.py for the next window overruns it.

        A preview's edit, for which `may_edit` took the turn, is left out where it would wait or Discord said 429.
        """
        place, preview = question.conversation, self._granted > 0
        self._granted = max(self._granted - 1, 0)
        one_at_a_time = self._edits.setdefault(_number(place), asyncio.Lock())
        if not preview:
            await self._limiter.turn()
        elif (limited := self._limiter.seconds_limited(_number(place))) or one_at_a_time.locked():
            raise NotApplied(f"There is no room for a preview in {self._name(place)}.", limited)
        async with one_at_a_time:
            rows = components_of(controls)
            if await self._by_token(question, lambda webhook: webhook.edit(message_id, text, rows)) is None:
                async with self._calling(place):
                    message = self._channel(place).get_partial_message(int(message_id))
                    await message.edit(content=text, view=view_of(controls))

    def may_edit(self) -> bool:
        """The turn that is taken here is the next edit's: call `edit` before anything else can."""
        if not self._limiter.take_if_free():
            return False
        self._granted += 1
        return True

    async def delete(self, question: IncomingMessage, message_id: str) -> None:
        """What is gone already counts as deleted."""
        await self._limiter.turn()
        if await self._by_token(question, lambda webhook: webhook.delete(message_id)) is not None:
            return
        async with self._calling(question.conversation):
            try:
                await self._channel(question.conversation).get_partial_message(int(message_id)).delete()
            except discord.NotFound as error:
                if error.code not in (UNKNOWN_MESSAGE, UNKNOWN_CHANNEL):
                    raise

    async def typing(self, question: IncomingMessage) -> None:
        """Left out where there is no room. An acknowledged command says by itself that the bot is thinking."""
        place = question.conversation
        if _has_token(question, datetime.now(UTC)) or self._limiter.seconds_limited(_number(place)):
            return
        if self._limiter.take_if_free():
            async with self._calling(place):
                await self._channel(place).typing()

    async def read_history(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        await self._limiter.turn()
        async with self._calling(place):
            channel = await self._real_channel(place)
            return await read_page(channel, self._bot, after, reads_threads=self._reads_threads)

    async def is_newer(self, place: ConversationKey, after: str) -> bool:
        """discord.py keeps count of workspaces' channels; of direct messages it does not."""
        channel = self._client.get_channel(int(_number(place)))
        last = None if isinstance(channel, discord.DMChannel) else getattr(channel, "last_message_id", None)
        return last is None or last > int(after)

    def list_places(self) -> list[Place]:
        """Every channel and active thread that the bot can read, so that all of them can be watched."""
        return list_places(self._client)

    async def _respond(self, post: Post) -> str | None:
        """To a slash command: its response first, then follow-ups. None where its token does not do that."""
        rows = components_of(post.controls)
        if post.part == 0:
            return await self._by_token(post.question, lambda webhook: webhook.respond(post.text, rows))
        return await self._by_token(post.question, lambda webhook: webhook.follow_up(post.text, rows))

    async def _by_token(
        self, question: IncomingMessage, call: Callable[[InteractionWebhook], Awaitable[str]]
    ) -> str | None:
        """None where the question has no token, or where its webhook does not know token or message any more."""
        if question.token is None or not _has_token(question, datetime.now(UTC)):
            return None
        async with self._calling(question.conversation):
            try:
                return await call(InteractionWebhook(self._client, question.token))
            except discord.HTTPException as error:
                if error.code not in (*TOKEN_GONE, UNKNOWN_MESSAGE):
                    raise
                log.info("a slash command's answer goes on in the channel", code=error.code)
        return None

    async def _post_in_channel(self, post: Post, judge: Judge) -> str:
        """As a reply, if the question still stands. A command is no message that one could reply to."""
        question, place = post.question, post.question.conversation
        async with self._calling(place, judge):
            channel = self._channel(place)
            send = partial(channel.send, post.text, nonce=post.nonce, suppress_embeds=True)
            if post.controls is not None:
                send = partial(send, view=view_of(post.controls))
            if post.part or question.via in ("command", "button"):
                return str((await send()).id)
            asked = discord.MessageReference(
                message_id=int(question.message_id), channel_id=channel.id, fail_if_not_exists=False
            )
            return str((await send(reference=asked)).id)

    async def _search(self, post: Post) -> str | None:
        place = post.question.conversation
        async with self._calling(place):
            return await find_own(self._channel(place), self._bot, post)

    @asynccontextmanager
    async def _calling(self, place: ConversationKey, judge: Judge = judging) -> AsyncIterator[None]:
        """Raises one of the courier's errors, and makes a note of limits for the previews."""
        if self._client.is_closed() or self._client.user is None:
            raise NotApplied("Discord is not connected.")
        try:
            with judge(self._name(place)):
                async with asyncio.timeout(self._call_seconds):
                    yield
        except NotApplied as error:
            if error.retry_after:
                self._limiter.note_limit(_number(place), error.retry_after)
            raise

    @property
    def _bot(self) -> discord.ClientUser:
        assert self._client.user is not None  # `_calling` asked
        return self._client.user

    def _channel(self, place: ConversationKey) -> discord.PartialMessageable:
        guild_id = None if place.workspace == "dm" else int(place.workspace)
        return self._client.get_partial_messageable(int(_number(place)), guild_id=guild_id)

    async def _real_channel(self, place: ConversationKey) -> discord.abc.Messageable:
        """Which says what its messages are: a thread's, or direct ones."""
        number = int(_number(place))
        channel = self._client.get_channel(number) or await self._client.fetch_channel(number)
        if not isinstance(channel, discord.abc.Messageable):
            raise Refused(f"{self._name(place)} holds no messages.")
        return channel

    def _name(self, place: ConversationKey) -> str:
        if place.workspace == "dm":
            return "a direct message"
        channel = self._client.get_channel(int(_number(place)))
        return f"#{getattr(channel, 'name', '')}" if channel else f"channel {_number(place)}"


def _number(place: ConversationKey) -> str:
    """Discord's id of the channel: a thread is one, too."""
    return place.thread or place.channel


def _has_token(question: IncomingMessage, then: datetime) -> bool:
    return question.token is not None and then - question.created_at < TOKEN_LASTS
