"""Slack as delivery sees it: parts of answers are posted with a marker, edited, and found again by it."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from slack_sdk.errors import SlackApiError

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.controls import Controls
from bot.delivery.courier import HistoryPage, InDoubt, Post, Refused
from bot.platforms.slack_api import SlackApi, error_code, judging
from bot.platforms.slack_buttons import blocks_of
from bot.platforms.slack_history import MARKER, SlackHistory
from bot.platforms.slack_incoming import People
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_private import CUT, PRIVATE_POSTS, PRIVATELY, is_private, post_privately, private_id
from bot.platforms.slack_text import LONGEST_TEXT, escape, message_text

SETTLE = 3.0
"""Seconds after which a post that Slack applied can be read."""
CLOCKS_DIFFER = timedelta(minutes=5)
LIMIT = 3500
"""Characters of one message, before escapes."""
STATUS = "is writing..."
STATUS_LASTS, STATUS_TIMEOUT = 100.0, 2.0
"""Seconds. Slack takes a status away by itself after two minutes, or when the bot posts in the thread."""
QUOTED = 300
"""Characters of a question that stand above its answer."""
LONGEST_HEADING = 600
"""What is kept free for one that is not known yet. Where a longer one does not fit, the answer stands alone."""
_HEADING = re.compile(r"\*[^\n]*\* asked:\n&gt; [^\n]*\n\n")
_ANSWERS_AT_ONCE = 1000


@dataclass(slots=True)
class _Answer:
    """What is known of one answer. A status that arrives after the first post would stay under it."""

    in_order: asyncio.Lock = field(default_factory=asyncio.Lock)
    posted: bool = False


@dataclass(frozen=True, slots=True)
class _Doubt:
    since: datetime
    private: bool


class SlackCourier:
    """A `Courier` for one workspace. All but `describe` expect a question that `describe` has given names."""

    name: ClassVar[PlatformName] = "slack"
    typing_seconds: float = STATUS_LASTS
    has_controls = True

    def __init__(
        self, api: SlackApi, workspace: Workspace, people: People, *, settle_seconds: float = SETTLE
    ) -> None:
        self._api = api
        self._workspace = workspace
        self._people = people
        self._history = SlackHistory(api, workspace)
        self._settle = timedelta(seconds=settle_seconds)
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._headings: dict[tuple[str, str], str] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._granted = 0

    def limit(self, question: IncomingMessage) -> int:
        return LIMIT - (LONGEST_HEADING if _keeps_heading(question) else len(heading_of(question, part=0)))

    async def describe(self, question: IncomingMessage) -> IncomingMessage:
        return await self._people.describe(question, self._workspace)

    async def post(self, post: Post) -> str:
        """A command's answer goes to the asker alone where the channel refuses it, but only when it is final:
        what is said privately cannot be edited."""
        if not is_private(post.previous):
            try:
                return await self._post(post)
            except InDoubt:
                self._doubts[post.nonce] = _Doubt(datetime.now(UTC), private=False)
                raise
            except Refused:
                if post.question.token is None or not post.final:
                    raise
        return await self._post_privately(post)

    async def find(self, post: Post) -> str | None:
        """A private post cannot be looked for and counts as told: silent is better than twice. After a crash it is
        known by the channel, which the bot may not read."""
        doubt = self._doubts.get(post.nonce)
        if is_private(post.previous) or (doubt and doubt.private):
            self._doubts.pop(post.nonce, None)
            return private_id(post.part)
        await self._settled(doubt.since if doubt else post.first_try_at)
        try:
            where = post.question.conversation
            oldest = _begin_of_search(post)
            found = await self._history.find(where.channel, where.thread, oldest, post.nonce)
        except Refused:
            if post.question.token is None:
                raise
            found = None if doubt else private_id(post.part)
        self._doubts.pop(post.nonce, None)
        return found

    async def is_answered(self, question: IncomingMessage) -> bool:
        return await self._history.is_answered(question)

    async def edit(
        self,
        question: IncomingMessage,
        message_id: str,
        text: str,
        part: int,
        controls: Controls | None = None,
    ) -> None:
        """Slack keeps the metadata of a message whose text is changed. What was said privately stays as it is.

        Without buttons the list of blocks is empty: the ones that stand there are to go.
        """
        granted, self._granted = self._granted > 0, max(self._granted - 1, 0)
        if is_private(message_id):
            return
        if not granted:
            await self._api.edits.turn()
        channel = question.conversation.channel
        heading = await self._heading(question, message_id, part)
        if len(message_text(text, heading)) > LONGEST_TEXT:
            heading = ""
        with judging(f"chat.update in {channel}"):
            await self._api.once.chat_update(
                channel=channel,
                ts=message_id,
                text=message_text(text, heading),
                blocks=blocks_of(text, heading, controls),
                parse="none",
                link_names=False,
            )

    def may_edit(self) -> bool:
        """The turn that is taken here is the next edit's: call `edit` before anything else can."""
        if not self._api.edits.take_if_free():
            return False
        self._granted += 1
        return True

    async def delete(self, question: IncomingMessage, message_id: str) -> None:
        """What is gone already counts as deleted, and so does what was said privately."""
        if is_private(message_id):
            return
        channel = question.conversation.channel
        with judging(f"chat.delete in {channel}"):
            try:
                await self._api.once.chat_delete(channel=channel, ts=message_id)
            except SlackApiError as error:
                if error_code(error) != "message_not_found":
                    raise

    async def typing(self, question: IncomingMessage) -> None:
        """Slack has no typing sign for bots; in a thread it shows a status, until the bot's first message there: not
        where a message that stands there is to be changed."""
        where, answer = question.conversation, self._answer_to(question)
        async with answer.in_order:
            if where.thread and not answer.posted and question.press is None:
                with judging(f"assistant.threads.setStatus in {where.channel}"):
                    async with asyncio.timeout(STATUS_TIMEOUT):
                        await self._api.once.assistant_threads_setStatus(
                            channel_id=where.channel, thread_ts=where.thread, status=STATUS
                        )

    async def read_history(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        return await self._history.read(place, private, after)

    async def is_newer(self, place: ConversationKey, after: str) -> bool:
        return True

    async def _post(self, post: Post) -> str:
        where, answer = post.question.conversation, self._answer_to(post.question)
        heading = heading_of(post.question, post.part)
        async with answer.in_order:
            answer.posted = True
            with judging(f"chat.postMessage in {where.channel}"):
                posted = await self._api.once.chat_postMessage(
                    channel=where.channel,
                    thread_ts=where.thread or None,
                    text=message_text(post.text, heading),
                    blocks=blocks_of(post.text, heading, post.controls) or None,
                    metadata=_metadata(post),
                    parse="none",
                    link_names=False,
                    unfurl_links=False,
                    unfurl_media=False,
                )
        return str(posted["ts"])

    async def _post_privately(self, post: Post) -> str:
        """By the command's response_url, good for half an hour and five posts: what is longer is cut, and says so."""
        if post.part >= PRIVATE_POSTS:
            return private_id(post.part)
        text = post.text if is_private(post.previous) else f"{PRIVATELY}\n\n{post.text}"
        if post.part == PRIVATE_POSTS - 1 and not post.last:
            text = f"{text}\n\n{CUT}"
        try:
            await post_privately(post.question.token or "", text)
        except InDoubt:
            self._doubts[post.nonce] = _Doubt(datetime.now(UTC), private=True)
            raise
        return private_id(post.part)

    async def _heading(self, question: IncomingMessage, message_id: str, part: int) -> str:
        """What stands above an answer stays there when another answer takes its place."""
        if part or not _keeps_heading(question):
            return heading_of(question, part)
        channel = question.conversation.channel
        if (channel, message_id) not in self._headings:
            text = await self._history.read_text(channel, message_id)
            if len(self._headings) >= _ANSWERS_AT_ONCE:
                del self._headings[next(iter(self._headings))]
            self._headings[channel, message_id] = find_heading(text)
        return self._headings[channel, message_id]

    def _answer_to(self, question: IncomingMessage) -> _Answer:
        key = (question.conversation.channel, question.message_id)
        if len(self._answers) >= _ANSWERS_AT_ONCE and key not in self._answers:
            del self._answers[next(iter(self._answers))]
        return self._answers.setdefault(key, _Answer())

    async def _settled(self, since: datetime) -> None:
        left = since + self._settle - datetime.now(UTC)
        await asyncio.sleep(max(left.total_seconds(), 0))


def heading_of(question: IncomingMessage, part: int) -> str:
    """Who asked what, above the first part of an answer to a command: nobody else has seen the question."""
    shown = part == 0 and question.via == "command" and not question.private
    return quote(question.author.name, question.text) if shown else ""


def find_heading(text: str) -> str:
    """The heading of a message of the bot's, empty where it has none."""
    match = _HEADING.match(text)
    return match[0] if match else ""


def _keeps_heading(question: IncomingMessage) -> bool:
    """Whether it changes an answer that may be one to a command: such stand in a channel itself."""
    place = question.conversation
    return question.press is not None and not place.thread and not question.private


def quote(asker: str, question: str) -> str:
    words = " ".join(question.split())
    shown = words if len(words) <= QUOTED else f"{words[:QUOTED].rstrip()}..."
    return f"*{escape(asker)}* asked:\n&gt; {escape(shown)}\n\n"


def _metadata(post: Post) -> dict[str, object]:
    payload = {"nonce": post.nonce, "part": post.part, "question": post.question.message_id}
    return {"event_type": MARKER, "event_payload": payload}


def _begin_of_search(post: Post) -> str:
    """Right where the question stands. A command's has no place, only a time by a clock that is not Slack's."""
    if post.question.via != "command":
        return post.question.message_id
    return f"{(post.first_try_at - CLOCKS_DIFFER).timestamp():.6f}"
