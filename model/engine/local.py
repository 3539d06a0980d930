"""The engine in this process: `Engine` for the event loop, with the computing on a thread of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Messages
from contextlib import suppress

import torch

from model.engine.sequence import Sequence
from model.engine.worker import Worker
from model.errors import BadRequest, DeadlineExceeded, EngineError
from model.hardware import compute_threads
from model.loading import LoadedModel
from model.request import AdapterRef, ChatMessage, Delta, EngineHealth, GenerationRequest

THREADS_PAY_FROM = 30_000_000
"""Parameters. Threads of a smaller model wait for each other longer than they compute: on two busy cores, a model
of 6M wrote 11 tokens a second with two threads, and 208 with one."""


class LocalEngine:
    """Serves one loaded model. White space at the start of a reply is dropped."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        context_tokens: int | None = None,
        max_running: int = 8,
        max_waiting: int = 64,
    ) -> None:
        """`context_tokens` bounds prompt and reply together; the model's own bound holds in any case."""
        self._loaded = loaded
        self._context_tokens = min(context_tokens or loaded.context_tokens, loaded.context_tokens)
        self._worker = Worker(max_running=max_running, max_waiting=max_waiting, threads=_threads_for(loaded))

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """See `Engine.generate`. The deadline counts from this call on."""
        return self._generate(request, called_at=time.monotonic())

    async def count_tokens(self, messages: Messages[ChatMessage]) -> int:
        return len(await self._render(messages))

    async def load_adapter(self, ref: AdapterRef) -> None:
        raise _no_adapters(ref)

    async def health(self) -> EngineHealth:
        """Raises `EngineDied` with the reason when the engine has stopped or was closed."""
        self._worker.check_alive()
        running, waiting = self._worker.count()
        return EngineHealth(
            model=self._loaded.name,
            version=self._loaded.version,
            device=self._loaded.device,
            dtype=self._loaded.dtype,
            parameters=self._loaded.parameters,
            context_tokens=self._context_tokens,
            running=running,
            waiting=waiting,
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._worker.close)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    async def _generate(self, request: GenerationRequest, *, called_at: float) -> AsyncGenerator[Delta, None]:
        if request.adapter is not None:
            raise _no_adapters(request.adapter)
        self._worker.check_alive()
        prompt = await self._render(request.messages)
        self._check_length(prompt)
        inbox: asyncio.Queue[Delta | EngineError] = asyncio.Queue()
        sequence = Sequence(
            self._loaded,
            request,
            prompt,
            context_tokens=self._context_tokens,
            called_at=called_at,
            deliver=_deliver_to(inbox),
        )
        self._worker.submit(sequence)
        try:
            finished = False
            while not finished:
                delta = await _next(inbox, request.deadline_seconds, called_at)
                finished = delta.finish is not None
                yield delta
        finally:
            self._worker.cancel(sequence)

    async def _render(self, messages: Messages[ChatMessage]) -> list[int]:
        return await asyncio.to_thread(self._loaded.format.render, messages)

    def _check_length(self, prompt: list[int]) -> None:
        if len(prompt) >= self._context_tokens:
            raise BadRequest(
                f"The conversation takes {len(prompt):,} tokens, but the context of {self._loaded.name} holds "
                f"{self._context_tokens:,}, the reply included."
            )


def _threads_for(loaded: LoadedModel) -> int:
    return compute_threads() if loaded.device == "cpu" and loaded.parameters >= THREADS_PAY_FROM else 1


def _deliver_to(inbox: asyncio.Queue[Delta | EngineError]) -> Callable[[Delta | EngineError], None]:
    """A way into the running event loop from any thread."""
    loop = asyncio.get_running_loop()

    def deliver(item: Delta | EngineError) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(inbox.put_nowait, item)

    return deliver


async def _next(inbox: asyncio.Queue[Delta | EngineError], deadline: float | None, called_at: float) -> Delta:
    left = None if deadline is None else deadline - (time.monotonic() - called_at)
    try:
        async with asyncio.timeout(left):
            item = await inbox.get()
    except TimeoutError as error:
        raise DeadlineExceeded(f"The reply was not finished within {deadline:g} seconds.") from error
    if isinstance(item, EngineError):
        raise item
    return item


def _no_adapters(ref: AdapterRef) -> BadRequest:
    return BadRequest(f"This engine serves its base model alone: it cannot load the adapter {ref.name!r}.")
