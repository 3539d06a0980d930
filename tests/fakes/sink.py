"""A `PreviewSink` in memory: what people see of an unfinished answer."""

import asyncio


class FakeSink:
    def __init__(self, *, limit: int = 2000) -> None:
        self.limit = limit
        self.typing_seconds = 3600.0
        self.messages: dict[int, str] = {}
        self.calls: list[tuple[str, str]] = []
        self._called = asyncio.Condition()

    async def show(self, part: int, text: str) -> None:
        assert len(text) <= self.limit
        self.messages[part] = text
        await self._note("show", text)

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
