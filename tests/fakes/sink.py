"""A `PreviewSink` in memory: what people see of an unfinished answer."""

import asyncio
from collections.abc import Sequence


class FakeSink:
    def __init__(self, *, limit: int = 2000) -> None:
        self.limit = limit
        self.typing_seconds = 3600.0
        self.messages: dict[int, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.may_edit = asyncio.Event()
        """While it is clear, an edit is on its way and does not arrive."""
        self.may_edit.set()
        self._called = asyncio.Condition()

    @property
    def begun(self) -> bool:
        return bool(self.messages)

    async def show(self, pieces: Sequence[str]) -> bool:
        edited = False
        for part, text in enumerate(pieces):
            assert len(text) <= self.limit
            if part in self.messages and self.messages[part] != text:
                if edited:
                    return False
                edited = True
                await self._note("edit", text)
                await self.may_edit.wait()
            elif part not in self.messages:
                await self._note("post", text)
            self.messages[part] = text
        await self._note("shown", "")
        return True

    async def typing(self) -> None:
        await self._note("typing", "")

    async def wait_for(self, call: str, *, times: int = 1) -> None:
        async with self._called:
            await self._called.wait_for(lambda: sum(name == call for name, _ in self.calls) >= times)

    async def _note(self, call: str, text: str) -> None:
        async with self._called:
            self.calls.append((call, text))
            self._called.notify_all()

    @property
    def texts(self) -> list[str]:
        return list(self.messages.values())
