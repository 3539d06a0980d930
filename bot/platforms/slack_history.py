"""What stands in Slack's channels and threads: the bot's answers by their markers, and questions that were missed."""

from collections.abc import AsyncIterator

from bot.chat import ConversationKey, IncomingMessage
from bot.delivery.courier import HistoryPage
from bot.platforms.slack_api import SlackApi, judging
from bot.platforms.slack_incoming import Event, how_addressed, read_event
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_text import mentioned_users

MARKER = "parley_answer"
"""The `event_type` of the metadata that every answer carries; Slack keeps it when a message is edited."""
PER_PAGE = 200
AT_ONCE = 1000
"""Messages that one reading hands over; what is newer is read the next time."""


class SlackHistory:
    """Reads a channel, or a thread where one is named. Raises what a courier raises."""

    def __init__(self, api: SlackApi, workspace: Workspace) -> None:
        self._api = api
        self._workspace = workspace

    async def find(self, channel: str, thread: str, oldest: str, nonce: str) -> str | None:
        """The id of the bot's message with this marker, posted after `oldest`."""
        async for page in self._pages(channel, thread, oldest):
            for message in page:
                if self._marks(message).get("nonce") == nonce:
                    return str(message["ts"])
        return None

    async def read_text(self, channel: str, message_id: str) -> str:
        """What a message in a channel itself shows; empty where it is gone."""
        with judging(f"conversations.history in {channel}"):
            answer = await self._api.calling.conversations_history(
                channel=channel, latest=message_id, inclusive=True, limit=1
            )
            found = (message for message in answer["messages"] if message["ts"] == message_id)
            return next((str(message.get("text") or "") for message in found), "")

    async def is_answered(self, question: IncomingMessage) -> bool:
        """Whether a message of the bot's is marked as an answer to it. A command stands in no history."""
        if question.via == "command":
            return False
        where, asked = question.conversation, question.message_id
        async for page in self._pages(where.channel, where.thread, asked):
            if any(self._marks(message).get("question") == asked for message in page):
                return True
        return False

    async def read(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        """The oldest messages after `after`, at most `AT_ONCE`.

        A channel's pages come newest first and a thread's oldest first, so all of them are read and only the oldest
        messages are kept: nothing at or before `verified_upto` was left unread, whatever their order.
        """
        kept: list[Event] = []
        more = False
        async for page in self._pages(place.channel, place.thread, after):
            kept = sorted(kept + [m for m in page if m["ts"] > after], key=lambda message: str(message["ts"]))
            more = more or len(kept) > AT_ONCE
            del kept[AT_ONCE:]
        upto = str(kept[-1]["ts"]) if kept else after
        return HistoryPage(await self._questions(place, private, kept), upto, more)

    async def _questions(
        self, place: ConversationKey, private: bool, messages: list[Event]
    ) -> list[IncomingMessage]:
        answered = {self._marks(message).get("question") for message in messages}
        found = []
        for message in messages:
            event = self._as_event(message, place.channel, private)
            via = how_addressed(event, self._workspace)
            if via is None or event["ts"] in answered:
                continue
            if not await self._is_answered_below(event):
                found.append(read_event(event, via, self._workspace))
        return found

    async def _is_answered_below(self, event: Event) -> bool:
        """A channel's history has no replies, and a mention at its top is answered in a thread."""
        if not event.get("reply_count"):
            return False
        async for page in self._pages(event["channel"], event["ts"], event["ts"]):
            if any(self._marks(message).get("question") == event["ts"] for message in page):
                return True
        return False

    def _as_event(self, message: Event, channel: str, private: bool) -> Event:
        """As the socket would have told it. What is a mention comes once here, and there as two events."""
        direct = private or channel.startswith("D")
        mentioned = self._workspace.bot_user in mentioned_users(message.get("text") or "")
        kind = "app_mention" if mentioned and not direct else "message"
        return message | {"type": kind, "channel": channel, "channel_type": "im" if direct else "channel"}

    def _marks(self, message: Event) -> Event:
        """What the bot wrote into an answer's metadata; nothing where another wrote it."""
        metadata = message.get("metadata") or {}
        own = message.get("user") == self._workspace.bot_user and metadata.get("event_type") == MARKER
        return (metadata.get("event_payload") or {}) if own else {}

    async def _pages(self, channel: str, thread: str, oldest: str) -> AsyncIterator[list[Event]]:
        cursor: str | None = None
        while cursor is None or cursor:
            messages, cursor = await self._page(channel, thread, oldest, cursor)
            yield messages

    async def _page(
        self, channel: str, thread: str, oldest: str, cursor: str | None
    ) -> tuple[list[Event], str]:
        """Some messages, and the cursor of the next ones; empty at the end."""
        client = self._api.calling
        with judging(f"conversations.{'replies' if thread else 'history'} in {channel}"):
            if thread:
                answer = await client.conversations_replies(
                    channel=channel,
                    ts=thread,
                    oldest=oldest,
                    cursor=cursor,
                    limit=PER_PAGE,
                    include_all_metadata=True,
                )
            else:
                answer = await client.conversations_history(
                    channel=channel, oldest=oldest, cursor=cursor, limit=PER_PAGE, include_all_metadata=True
                )
            return list(answer["messages"]), (answer.get("response_metadata") or {}).get("next_cursor") or ""
