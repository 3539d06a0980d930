"""A `Reply` in memory: what a person has read, and how it ended."""

import asyncio
import itertools

from bot.errors import DeliveryFailed

_numbers = itertools.count(1)


class FakeReply:
    def __init__(self, *, undeliverable: str = "") -> None:
        self.text = ""
        self.started = asyncio.Event()
        self.finished = False
        self.failed_with: str | None = None
        self._undeliverable = undeliverable
        self._awaited = ""
        self._read = asyncio.Event()

    async def start(self) -> None:
        self.started.set()

    async def append(self, text: str) -> None:
        self.text += text
        if self._awaited and self._awaited in self.text:
            self._read.set()

    async def wait_until_read(self, text: str) -> None:
        if text not in self.text:
            self._awaited = text
            await self._read.wait()

    async def replace(self, text: str) -> None:
        self.text = text

    async def finish(self) -> tuple[str, ...]:
        if self._undeliverable:
            raise DeliveryFailed(self._undeliverable)
        self.finished = True
        return (f"shown-{next(_numbers)}",)

    async def fail(self, sentence: str) -> None:
        if self._undeliverable:
            raise DeliveryFailed(self._undeliverable)
        self.failed_with = sentence
