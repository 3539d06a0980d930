"""The seam between bot and engine. Local, child-process and remote engines pass one contract suite."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from model.request import AdapterRef, ChatMessage, Delta, EngineHealth, GenerationRequest


class Engine(Protocol):
    """Text in, text out. Every method is safe to call from the event loop: none of them blocks it.

    Errors: `Overloaded`, `DeadlineExceeded`, `EngineDied`, `BadRequest`, and nothing else.
    """

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """Stream the reply. Ends with exactly one `finish`, or raises; closing the generator (`aclose`) cancels."""
        ...

    async def prefetch(self, request: GenerationRequest) -> None:
        """Compute the prompt of `request` while nothing else is to do, so that a reply to it, or to what follows on
        it, begins sooner. A hint: returns at once, and a busy engine ignores it."""
        ...

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """The prompt tokens that `messages` take when rendered for a reply."""
        ...

    async def load_adapter(self, ref: AdapterRef) -> None:
        """Make requests with `ref` possible; a name that is loaded already gets new weights, for new requests."""
        ...

    async def health(self) -> EngineHealth: ...

    async def close(self) -> None:
        """Cancel what runs and free the memory. Closing twice does nothing."""
        ...
