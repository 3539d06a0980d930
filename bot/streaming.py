"""From a stream of text to platform messages: first text at once, then paced edits. Knows no platform."""

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from bot.errors import DeliveryFailed
from bot.splitting import split_text

log = structlog.get_logger()


class MessageSink(Protocol):
    """A place where messages can be posted and edited: a channel, a thread, an interaction's response.

    Every method raises `DeliveryFailed` when the platform refuses or cannot be reached.
    """

    limit: int
    """Characters that one message holds."""
    typing_seconds: float
    """How often `typing` must be called for the sign to stay."""

    async def post(self, text: str) -> str:
        """Post a new message; the platform's id of it."""
        ...

    async def edit(self, message_id: str, text: str) -> None: ...

    async def delete(self, message_id: str) -> None: ...

    async def typing(self) -> None:
        """Show that an answer is being written."""
        ...


class StreamedReply:
    """A `Reply` of posted and edited messages. Showing runs beside the stream and never holds it up."""

    def __init__(self, sink: MessageSink, *, edit_seconds: float) -> None:
        self._sink = sink
        self._edit_seconds = edit_seconds
        self._text = ""
        self._shown: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._keep_typing()),
                asyncio.create_task(self._keep_showing()),
            ]

    async def append(self, text: str) -> None:
        await self.replace(self._text + text)

    async def replace(self, text: str) -> None:
        self._text = text
        self._changed.set()

    async def finish(self) -> tuple[str, ...]:
        await self._stop()
        await self._show()
        return tuple(message_id for message_id, _ in self._shown)

    async def fail(self, sentence: str) -> None:
        await self._stop()
        self._text = f"{self._text.rstrip()}\n\n{sentence}".lstrip()
        await self._show()

    async def _stop(self) -> None:
        """End the typing sign, and let a message that is on its way arrive."""
        self._ended.set()
        self._changed.set()
        for task in self._tasks[:1]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_typing(self) -> None:
        while True:
            with suppress(DeliveryFailed):
                await self._sink.typing()
            await asyncio.sleep(self._sink.typing_seconds)

    async def _keep_showing(self) -> None:
        while not self._ended.is_set():
            await self._changed.wait()
            self._changed.clear()
            if self._ended.is_set():
                return
            try:
                await self._show()
            except DeliveryFailed as error:
                log.warning("preview not shown", reason=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._edit_seconds)

    async def _show(self) -> None:
        """Make the messages equal to the pieces of the text: the fewest edits and posts that do."""
        pieces = [piece for piece in split_text(self._text.strip(), self._sink.limit) if piece.strip()]
        for index, piece in enumerate(pieces):
            if index == len(self._shown):
                self._shown.append((await self._sink.post(piece), piece))
            elif self._shown[index][1] != piece:
                await self._sink.edit(self._shown[index][0], piece)
                self._shown[index] = (self._shown[index][0], piece)
        while len(self._shown) > len(pieces):
            await self._sink.delete(self._shown[-1][0])
            self._shown.pop()
