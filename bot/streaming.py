"""What people see while an answer is being written: its first text at once, then edits in turn. Knows no platform."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Protocol

from bot.edit_budget import EditBudget
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

    @property
    def begun(self) -> bool:
        """Whether a message of the answer stands there, so that showing more is an edit."""
        ...

    async def show(self, pieces: Sequence[str]) -> bool:
        """Post what does not stand there yet, and edit at most one message. False when another needs an edit, too.
        Never fails: a preview may stay behind."""
        ...

    async def typing(self) -> None:
        """Show that an answer is being written. Raises `DeliveryFailed`."""
        ...


class Preview:
    """A `Reply` that shows an answer as it grows. Showing runs beside the stream and never holds it up."""

    def __init__(self, sink: PreviewSink, budget: EditBudget) -> None:
        """`budget` is that of the channel."""
        self._sink = sink
        self._budget = budget
        self._text = ""
        self._changed = asyncio.Event()
        self._showing = False
        self._ended = False
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
        self._ended = True
        for task in self._tasks[:1] if self._showing else self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_typing(self) -> None:
        while True:
            with suppress(DeliveryFailed):
                await self._sink.typing()
            await asyncio.sleep(self._sink.typing_seconds)

    async def _keep_showing(self) -> None:
        await self._changed.wait()
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        while not self._ended:
            await self._changed.wait()
            async with self._budget.turn() if self._sink.begun else nullcontext():
                await self._show_newest()

    async def _show_newest(self) -> None:
        self._showing = True
        self._changed.clear()
        if not await self._sink.show(_pieces(self._text, self._sink.limit)):
            self._changed.set()
        self._showing = False


def _pieces(text: str, limit: int) -> list[str]:
    return [piece for piece in split_text(text.strip(), limit) if piece.strip()]
