"""An engine that is still being loaded: platforms are served meanwhile, and whoever asks it waits."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing

from model.protocol import Engine
from model.request import AdapterRef, ChatMessage, Delta, EngineHealth, GenerationRequest


class LateEngine:
    """An `Engine` that passes everything on to the one that `loading` brings."""

    def __init__(self, loading: Awaitable[Engine]) -> None:
        self._loading = asyncio.ensure_future(loading)

    async def loaded(self) -> Engine:
        """The engine itself. Raises what stopped it from being loaded."""
        return await asyncio.shield(self._loading)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        engine = await self.loaded()
        async with aclosing(engine.generate(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def prefetch(self, request: GenerationRequest) -> None:
        if self._loading.done():
            await (await self.loaded()).prefetch(request)

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return await (await self.loaded()).count_tokens(messages)

    async def load_adapter(self, ref: AdapterRef) -> None:
        await (await self.loaded()).load_adapter(ref)

    async def health(self) -> EngineHealth:
        return await (await self.loaded()).health()

    async def close(self) -> None:
        """Loading in a thread cannot be broken off: it is waited for."""
        try:
            engine = await self.loaded()
        except Exception:  # told where it was waited for
            return
        await engine.close()


async def say_what_serves(engine: Engine) -> str:
    """Once it is loaded."""
    return f"model {(await engine.health()).model}"
