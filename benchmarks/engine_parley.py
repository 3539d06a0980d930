"""Parley in the engine benchmark: through the `Engine` seam, as the bot calls it."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.engine_peer import Interruption, PeerSettings, Prompt, Stream, seconds_since
from model.checkpoint import Checkpoint, open_checkpoint
from model.engine.local import LocalEngine
from model.hardware import BYTES_PER_PARAMETER
from model.opening import open_model
from model.request import GenerationRequest, SamplingParams

WITHOUT_END = 100_000
"""Tokens of a reply that its reader breaks off."""


class ParleyPeer:
    def __init__(self, settings: PeerSettings) -> None:
        self._loaded = open_model(str(settings.folder), device=settings.device)
        self._device = torch.device(self._loaded.device)
        self._dtype: torch.dtype = getattr(torch, self._loaded.dtype)
        self._threads = settings.threads
        self._context = settings.context_tokens
        self._cost = _cost_of_a_token(open_checkpoint(str(settings.folder)), self._loaded.dtype)
        self._engine = LocalEngine(
            self._loaded,
            context_tokens=settings.context_tokens,
            max_running=settings.streams,
            max_waiting=settings.streams,
        )
        self._known: set[tuple[int, ...]] = set()

    def describe(self) -> dict[str, object]:
        weights, computed = self._cost
        return {
            "way": type(self._loaded).__name__,
            "dtype": self._loaded.dtype,
            "device": self._loaded.device,
            "parameters": self._loaded.parameters,
            "step_bytes": weights,
            "flops_per_token": computed,
        }

    def decode(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        for prompt in prompts:
            if prompt.ids not in self._known:
                self.answer(prompt, 1, str(hash(prompt.ids)))
                self._known.add(prompt.ids)
        return asyncio.run(self._together(prompts, new_tokens))

    def answer(self, prompt: Prompt, new_tokens: int, conversation: str = "") -> Stream:
        return asyncio.run(self._stream(prompt, new_tokens, conversation, time.perf_counter()))

    def prefetch(self, prompt: Prompt, seconds: float) -> None:
        """Have the prompt computed ahead, and wait for so long."""
        asyncio.run(self._prefetch(prompt, seconds))

    def interrupt(self, running: Prompt, arriving: Prompt, undisturbed: int) -> Interruption:
        """Have `arriving` answered with one token beside a stream that has written `undisturbed` tokens."""
        return asyncio.run(self._interrupt(running, arriving, undisturbed))

    def bandwidth(self, megabytes: int) -> float:
        """Bytes a second at which this many threads read memory that no cache holds; the best of some rounds."""
        torch.set_num_threads(self._threads)
        block = torch.ones(megabytes * 2**20 // 4, dtype=torch.float32, device=self._device)
        return block.nbytes / min(_timed(lambda: block.sum(), self._device) for _ in range(6))

    def matrix_rate(self, size: int) -> float:
        """Floating-point operations a second of one large matrix product in the model's dtype."""
        torch.set_num_threads(self._threads)
        left, right = (torch.randn(size, size, dtype=self._dtype, device=self._device) for _ in range(2))
        with torch.inference_mode():
            return 2 * size**3 / min(_timed(lambda: left @ right, self._device) for _ in range(4))

    def close(self) -> None:
        asyncio.run(self._engine.close())

    async def _together(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        started = time.perf_counter()
        streams = (self._stream(prompt, new_tokens, str(hash(prompt.ids)), started) for prompt in prompts)
        return list(await asyncio.gather(*streams))

    async def _stream(self, prompt: Prompt, new_tokens: int, conversation: str, started: float) -> Stream:
        times: list[float] = []
        texts: list[str] = []
        finish = None
        async for delta in self._engine.generate(_request(prompt, new_tokens, new_tokens, conversation)):
            if delta.text:
                times.append(seconds_since(started))
                texts.append(delta.text)
            finish = delta.finish
        assert finish is not None
        return Stream(
            tuple(times) or (seconds_since(started),),
            finish.completion_tokens,
            text="".join(texts),
            cached_tokens=finish.cached_tokens,
        )

    async def _prefetch(self, prompt: Prompt, seconds: float) -> None:
        await self._engine.prefetch(_request(prompt, 1, 1, "prefetch"))
        await asyncio.sleep(seconds)

    async def _interrupt(self, running: Prompt, arriving: Prompt, undisturbed: int) -> Interruption:
        started = time.perf_counter()
        times: list[float] = []
        ready, answered_at = asyncio.Event(), asyncio.Event()
        moments = [0.0, 0.0]

        async def write() -> None:
            room = self._context - len(running.ids) - 1
            replies = self._engine.generate(_request(running, min(WITHOUT_END, room), room, "running"))
            async for delta in replies:
                if delta.text:
                    times.append(seconds_since(started))
                if len(times) >= undisturbed:
                    ready.set()
                if answered_at.is_set() and times[-1] > moments[1]:
                    break
            await replies.aclose()
            ready.set()

        async def arrive() -> None:
            await ready.wait()
            moments[0] = seconds_since(started)
            async for _ in self._engine.generate(_request(arriving, 1, 1, "arriving")):
                pass
            moments[1] = seconds_since(started)
            answered_at.set()

        await asyncio.gather(write(), arrive())
        return Interruption(Stream(tuple(times), len(times)), *moments)


def _request(prompt: Prompt, new_tokens: int, least: int, conversation: str) -> GenerationRequest:
    sampling = SamplingParams(
        temperature=0, top_p=1, repetition_penalty=1, min_tokens=least, max_tokens=new_tokens
    )
    return GenerationRequest(prompt.messages, sampling, conversation=conversation)


def _cost_of_a_token(checkpoint: Checkpoint, dtype: str) -> tuple[int, int]:
    """Bytes that one decode step reads, and the floating-point operations that a token costs in its products.

    An embedding that is not also the head is a look-up of one row; a prompt needs the head for its last token only.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    embedding = math.prod(next(shape for name, shape in shapes.items() if name.endswith(_EMBEDDINGS)))
    tied = "lm_head.weight" not in shapes
    read = sum(map(math.prod, shapes.values())) - (0 if tied else embedding)
    layers = sum(math.prod(shape) for shape in shapes.values() if len(shape) > 1)
    return read * BYTES_PER_PARAMETER[dtype], 2 * (layers - embedding * (1 if tied else 2))


_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")


def _timed(compute: Callable[[], torch.Tensor], device: torch.device) -> float:
    started = time.perf_counter()
    compute()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return seconds_since(started)
