"""Replies on Slack: messages that are posted and edited, and answers that only the asker sees."""

import asyncio
from contextlib import suppress

from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.chat import Reply
from bot.errors import DeliveryFailed
from bot.platforms.slack_api import SlackApi, delivering, wait_when_limited
from bot.platforms.slack_text import escape, message_text
from bot.splitting import split_text
from bot.streaming import StreamedReply

LIMIT = 3500
"""Characters of one message, before escapes."""
STATUS = "is writing..."
STATUS_LASTS, STATUS_TIMEOUT = 100.0, 2.0
"""Seconds. Slack takes a status away by itself after two minutes, or when the bot posts in the thread."""
QUOTED = 300
"""Characters of a question that stand above its answer."""
PRIVATE_MESSAGES = 4
"""A response_url is good for five posts, and the first one says that an answer will come."""
PRIVATELY = (
    "I may not write in this channel, so only you see my answer; /invite me to share it. One moment ..."
)
CUT = "(My answer was longer than Slack lets me show here.)"


class ChannelSink:
    """A `MessageSink` for a channel, a thread or a direct message. Nothing that it posts pings or unfolds."""

    limit = LIMIT
    typing_seconds = STATUS_LASTS

    def __init__(self, api: SlackApi, channel: str, thread: str = "") -> None:
        self._api = api
        self._channel = channel
        self._thread = thread
        self._in_order = asyncio.Lock()
        self._posted = False

    async def post(self, text: str) -> str:
        return await self._post(message_text(text))

    async def edit(self, message_id: str, text: str) -> None:
        await self._edit(message_id, message_text(text))

    async def delete(self, message_id: str) -> None:
        with delivering(f"chat.delete in {self._channel}"):
            await self._api.calling.chat_delete(channel=self._channel, ts=message_id)

    async def typing(self) -> None:
        """Slack has no typing sign for bots; in a thread it shows a status, until the bot's first message there."""
        async with self._in_order:
            if self._thread and not self._posted:
                with delivering(f"assistant.threads.setStatus in {self._channel}"):
                    async with asyncio.timeout(STATUS_TIMEOUT):
                        await self._api.posting.assistant_threads_setStatus(
                            channel_id=self._channel, thread_ts=self._thread, status=STATUS
                        )

    async def _post(self, mrkdwn: str) -> str:
        # One at a time: a status that arrives after the first message would stay under a finished answer.
        async with self._in_order:
            self._posted = True
            with delivering(f"chat.postMessage in {self._channel}"):
                answer = await self._api.posting.chat_postMessage(
                    channel=self._channel,
                    thread_ts=self._thread or None,
                    text=mrkdwn,
                    parse="none",
                    link_names=False,
                    unfurl_links=False,
                    unfurl_media=False,
                )
        return str(answer["ts"])

    async def _edit(self, message_id: str, mrkdwn: str) -> None:
        await self._api.edits.turn()
        with delivering(f"chat.update in {self._channel}"):
            await self._api.calling.chat_update(
                channel=self._channel, ts=message_id, text=mrkdwn, parse="none", link_names=False
            )


class HeadedSink(ChannelSink):
    """A channel where a heading stands before the answer comes, and above it afterwards, in the same message."""

    def __init__(self, api: SlackApi, channel: str, heading: str) -> None:
        super().__init__(api, channel)
        self.limit = LIMIT - len(heading)
        self._heading = heading
        self._first = ""
        self._taken = False

    async def open(self) -> None:
        """Show the heading. Raises `DeliveryFailed`, for example where the bot is not a member."""
        self._first = await self._post(f"{self._heading}...")

    async def post(self, text: str) -> str:
        if self._taken:
            return await super().post(text)
        await self.edit(self._first, text)
        self._taken = True
        return self._first

    async def edit(self, message_id: str, text: str) -> None:
        heading = self._heading if message_id == self._first else ""
        await self._edit(message_id, message_text(text, heading))


class PrivateReply:
    """A `Reply` by response_url, for the asker alone. It comes in one go: Slack does not let it be edited."""

    def __init__(self, response_url: str) -> None:
        self._response_url = response_url
        self._text = ""

    async def start(self) -> None:
        with suppress(DeliveryFailed):
            await post_privately(self._response_url, PRIVATELY)

    async def append(self, text: str) -> None:
        self._text += text

    async def replace(self, text: str) -> None:
        self._text = text

    async def finish(self) -> tuple[str, ...]:
        """Posts the answer. It has no ids: Slack gives none."""
        text, self._text = self._text.strip(), ""
        pieces = split_text(text, LIMIT - len(CUT) - 2)
        if len(pieces) > PRIVATE_MESSAGES:
            pieces[PRIVATE_MESSAGES - 1 :] = [f"{pieces[PRIVATE_MESSAGES - 1]}\n\n{CUT}"]
        for piece in pieces:
            await post_privately(self._response_url, piece)
        return ()

    async def fail(self, sentence: str) -> None:
        self._text = f"{self._text.rstrip()}\n\n{sentence}"
        await self.finish()


class CommandReply:
    """A `Reply` to `/parley`: in the channel for everybody, or privately where the bot may not post."""

    def __init__(self, sink: HeadedSink, privately: PrivateReply, *, edit_seconds: float) -> None:
        self._sink = sink
        self._privately = privately
        self._edit_seconds = edit_seconds
        self._chosen: Reply | None = None

    async def start(self) -> None:
        await (await self._choose()).start()

    async def append(self, text: str) -> None:
        await (await self._choose()).append(text)

    async def replace(self, text: str) -> None:
        await (await self._choose()).replace(text)

    async def finish(self) -> tuple[str, ...]:
        return await (await self._choose()).finish()

    async def fail(self, sentence: str) -> None:
        await (await self._choose()).fail(sentence)

    async def _choose(self) -> Reply:
        if self._chosen is None:
            try:
                await self._sink.open()
                self._chosen = StreamedReply(self._sink, edit_seconds=self._edit_seconds)
            except DeliveryFailed:
                self._chosen = self._privately
        return self._chosen


async def post_privately(response_url: str, text: str) -> None:
    """A message that only the person who used a command sees. Raises `DeliveryFailed`."""
    client = AsyncWebhookClient(response_url, retry_handlers=[wait_when_limited()])
    with delivering("an answer to a command"):
        answer = await client.send(text=message_text(text), response_type="ephemeral")
    if answer.status_code != 200:
        raise DeliveryFailed(f"Slack refused an answer to a command: {answer.body}.")


def quote(asker: str, question: str) -> str:
    """Who asked what, for the heading of an answer: nobody else has seen the question."""
    words = " ".join(question.split())
    shown = words if len(words) <= QUOTED else f"{words[:QUOTED].rstrip()}..."
    return f"*{escape(asker)}* asked:\n&gt; {escape(shown)}\n\n"
