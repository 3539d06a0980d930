"""What people see while an answer is being written: its first text at once, then paced edits. Knows no platform."""

import asyncio
from contextlib import suppress
from typing import Protocol

from bot.errors import DeliveryFailed
from bot.splitting import split_text

FIRST_LOOK_SECONDS = 0.05
"""What is answered faster than this is shown at once as a whole, and not posted first and edited then."""


class PreviewSink(Protocol):
    """Where the pieces of an unfinished answer are shown."""

    limit: int
    """Characters that one message holds."""
    typing_seconds: float
    """How often `typing` must be called for the sign to stay."""

    async def show(self, part: int, text: str) -> None:
        """Post the message number `part` of the answer, or edit it. Never fails: a preview may stay behind."""
        ...

    async def typing(self) -> None:
        """Show that an answer is being written. Raises `DeliveryFailed`."""
        ...


class Preview:
    """A `Reply` that shows an answer as it grows. Showing runs beside the stream and never holds it up."""

    def __init__(self, sink: PreviewSink, *, edit_seconds: float) -> None:
        self._sink = sink
        self._edit_seconds = edit_seconds
        self._text = ""
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
        """End showing, and let a message that is on its way arrive. The pieces of the whole text."""
        await self._stop()
        return tuple(_pieces(self._text, self._sink.limit))

    async def fail(self, sentence: str) -> None:
        self._text = f"{self._text.rstrip()}\n\n{sentence}".lstrip()
        await self._stop()

    async def _stop(self) -> None:
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
        await self._changed.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), FIRST_LOOK_SECONDS)
        while not self._ended.is_set():
            await self._changed.wait()
            self._changed.clear()
            if self._ended.is_set():
                return
            for part, piece in enumerate(_pieces(self._text, self._sink.limit)):
                await self._sink.show(part, piece)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._edit_seconds)


def _pieces(text: str, limit: int) -> list[str]:
    return [piece for piece in split_text(text.strip(), limit) if piece.strip()]
