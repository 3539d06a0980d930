"""The engine in this process: `Engine` for the event loop, with the computing on a thread of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Messages
from contextlib import suppress
from typing import TYPE_CHECKING

from model.constraints import compile_constraint
from model.engine.runner import Runner
from model.engine.sampler import Sampler
from model.engine.sequence import Sequence
from model.engine.served import Opened, Quantisation, ServedModel
from model.engine.text import ReplyText
from model.engine.words import token_texts
from model.engine.worker import Worker
from model.errors import BadRequest, DeadlineExceeded, EngineError
from model.hardware import empty_device_caches
from model.request import AdapterRef, ChatMessage, Delta, EngineHealth, GenerationRequest

if TYPE_CHECKING:
    from model.engine.lora import Adapters


class LocalEngine:
    """Serves one model, which nobody else may use meanwhile. White space before a reply is dropped."""

    def __init__(
        self,
        loaded: ServedModel,
        *,
        context_tokens: int | None = None,
        max_running: int = 8,
        max_waiting: int = 64,
        cache_bytes: int | None = None,
        quantise: Quantisation = "none",
        runner: Runner | None = None,
    ) -> None:
        """`context_tokens` bounds prompt and reply together; the model's own bound holds in any case.

        `cache_bytes` bounds the memory of conversations; None takes a share of what is free. `runner` computes in
        place of the one that suits the model.
        """
        self._loaded = loaded
        self._context_tokens = min(context_tokens or loaded.context_tokens, loaded.context_tokens)
        self._cache_bytes = cache_bytes
        self._quantise = quantise
        self._max_running = max_running
        opened = self._open(loaded)
        self._adapters = opened.adapters
        self._becoming_full = asyncio.Lock()
        self._keys: dict[str, str] = {}
        """Of each adapter by name, the key of the weights that serve it now."""
        self._words = token_texts(loaded.tokenizer)
        self._worker = Worker(
            runner or opened.runner,
            max_running=max_running,
            max_waiting=max_waiting,
            computing=loaded.computing,
        )

    def _open(self, loaded: ServedModel) -> Opened:
        return loaded.open_runner(
            context_tokens=self._context_tokens,
            max_running=self._max_running,
            cache_bytes=self._cache_bytes,
            quantise=self._quantise,
        )

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """See `Engine.generate`. The deadline counts from this call on."""
        return self._generate(request, called_at=time.monotonic())

    async def prefetch(self, request: GenerationRequest) -> None:
        self._worker.check_alive()
        prompt = await self._render(request.messages)
        if len(prompt) < self._context_tokens:
            sequence = await self._sequence(
                request, prompt, called_at=time.monotonic(), deliver=lambda item: None
            )
            self._worker.compute_ahead(sequence)

    async def count_tokens(self, messages: Messages[ChatMessage]) -> int:
        return len(await self._render(messages))

    async def load_adapter(self, ref: AdapterRef) -> None:
        """Attach the adapter, or put new weights in its place; replies that are under way keep the old ones."""
        adapters = await self._full_adapters()
        adapter = await asyncio.to_thread(adapters.read, ref)
        key = await asyncio.wrap_future(self._worker.call(lambda: adapters.add(adapter)))
        self._keys[ref.name] = key
        self._release_stale_adapters()

    async def _full_adapters(self) -> "Adapters":
        """A lean model becomes the full one with the first adapter; replies that are under way go on in it."""
        async with self._becoming_full:
            if self._adapters is None:
                full = await asyncio.to_thread(self._loaded.in_full)
                opened = await asyncio.to_thread(self._open, full)
                assert opened.adapters is not None
                move = self._worker.call(lambda: self._worker.move(opened.runner, full.computing))
                await asyncio.wrap_future(move)
                self._loaded, self._adapters = full, opened.adapters
            return self._adapters

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
            sampling_defaults=self._loaded.sampling_defaults,
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._worker.close)
        empty_device_caches()

    async def _generate(self, request: GenerationRequest, *, called_at: float) -> AsyncGenerator[Delta, None]:
        self._worker.check_alive()
        prompt = await self._render(request.messages)
        self._check_length(prompt)
        inbox: asyncio.Queue[Delta | EngineError] = asyncio.Queue()
        sequence = await self._sequence(request, prompt, called_at=called_at, deliver=_deliver_to(inbox))
        self._worker.submit(sequence)
        try:
            finished = False
            while not finished:
                delta = await _next(inbox, request.deadline_seconds, called_at)
                finished = delta.finish is not None
                yield delta
        finally:
            self._worker.cancel(sequence)
            if sequence.adapter not in (None, *self._keys.values()):
                self._release_stale_adapters()

    async def _sequence(
        self,
        request: GenerationRequest,
        prompt: list[int],
        *,
        called_at: float,
        deliver: Callable[[Delta | EngineError], None],
    ) -> Sequence:
        loaded, sampling = self._loaded, request.sampling
        matcher = None
        if sampling.constraint is not None:
            matcher = await asyncio.to_thread(compile_constraint, sampling.constraint, loaded.tokenizer)
        return Sequence(
            prompt,
            max_tokens=min(sampling.max_tokens, self._context_tokens - len(prompt)),
            stop_tokens=loaded.stop_token_ids,
            sampler=Sampler(
                sampling,
                prompt=prompt,
                vocabulary=loaded.vocabulary,
                stop_tokens=loaded.stop_token_ids,
                words=self._words,
                constraint=matcher,
            ),
            text=ReplyText(loaded.tokenizer, (*sampling.stop, *loaded.format.stop_strings(request.messages))),
            deliver=deliver,
            called_at=called_at,
            conversation=request.conversation,
            adapter=self._key_of(request.adapter),
        )

    def _key_of(self, adapter: AdapterRef | None) -> str | None:
        if adapter is None:
            return None
        if adapter.name not in self._keys:
            known = ", ".join(sorted(self._keys)) or "none"
            raise BadRequest(f"The adapter {adapter.name!r} is not loaded; loaded: {known}.")
        return self._keys[adapter.name]

    def _release_stale_adapters(self) -> None:
        """Weights that others have taken the place of go with the last reply that began with them."""

        adapters = self._adapters
        if adapters is None:
            return

        def release() -> None:
            stale = set(adapters.keys) - set(self._keys.values()) - self._worker.adapters_in_use()
            for key in stale:
                adapters.release(key)

        with suppress(EngineError):
            self._worker.call(release)

    async def _render(self, messages: Messages[ChatMessage]) -> list[int]:
        return await asyncio.to_thread(self._loaded.format.render, messages)

    def _check_length(self, prompt: list[int]) -> None:
        if len(prompt) >= self._context_tokens:
            raise BadRequest(
                f"The conversation takes {len(prompt):,} tokens, but the context of {self._loaded.name} holds "
                f"{self._context_tokens:,}, the reply included."
            )


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
