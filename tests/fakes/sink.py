"""A `MessageSink` in memory: what stands in the channel, and everything that stood there before."""

import asyncio

from bot.errors import DeliveryFailed


class FakeSink:
    def __init__(self, *, limit: int = 2000) -> None:
        self.limit = limit
        self.typing_seconds = 3600.0
        self.messages: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.failures: list[str] = []
        """Reasons that the next calls fail for, in order."""
        self._called = asyncio.Condition()

    async def post(self, text: str) -> str:
        await self._note("post", text)
        message_id = f"m{len(self.calls)}"
        self.messages[message_id] = text
        return message_id

    async def edit(self, message_id: str, text: str) -> None:
        await self._note("edit", text)
        self.messages[message_id] = text

    async def delete(self, message_id: str) -> None:
        await self._note("delete", message_id)
        del self.messages[message_id]

    async def typing(self) -> None:
        await self._note("typing", "")

    async def wait_for(self, call: str) -> None:
        async with self._called:
            await self._called.wait_for(lambda: any(name == call for name, _ in self.calls))

    async def _note(self, call: str, text: str) -> None:
        if call != "typing" and self.failures:
            raise DeliveryFailed(self.failures.pop(0))
        assert len(text) <= self.limit
        async with self._called:
            self.calls.append((call, text))
            self._called.notify_all()

    @property
    def texts(self) -> list[str]:
        return list(self.messages.values())
