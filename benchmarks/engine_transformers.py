"""transformers in the engine benchmark: `generate`, one by one and as a static batch, and its continuous batching."""

import copy
import time
from collections.abc import Sequence

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from benchmarks.engine_peer import PeerSettings, Prompt, Stream, seconds_since
from model.checkpoint import open_checkpoint
from model.fitting import choose_device, choose_dtype
from model.loading import DTYPES

WITHOUT_PROGRESS = 120.0
"""Seconds without a token after which continuous batching is given up."""
PAGE_TOKENS = 256
THREADS_PAY_FROM = 30_000_000
"""Parameters; below, it is tried out."""


class TransformersPeer:
    """The model as `from_pretrained` gives it, with SDPA attention, in the dtype that Parley chooses here."""

    def __init__(self, settings: PeerSettings) -> None:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        checkpoint = open_checkpoint(str(settings.folder))
        device = choose_device(settings.device)
        self._dtype = choose_dtype("auto", device, checkpoint)
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, dtype=DTYPES[self._dtype], attn_implementation="sdpa"
        )
        self._model.eval().to(device.name)
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
        self._streams = settings.streams
        self._computed: dict[tuple[tuple[int, ...], ...], DynamicCache] = {}
        self._threads = self._choose_threads(settings.threads)

    def describe(self) -> dict[str, object]:
        return {"dtype": self._dtype, "device": str(self._model.device), "threads": self._threads}

    def decode(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        key = tuple(prompt.ids for prompt in prompts)
        ids = torch.tensor(key, device=self._model.device)
        if key not in self._computed:
            self._computed[key] = self._compute(ids[:, :-1])
        cache = copy.deepcopy(self._computed[key])
        return self._generate(ids, new_tokens, past_key_values=cache)

    def answer(self, prompt: Prompt, new_tokens: int, conversation: str = "") -> Stream:
        """`generate` keeps nothing of earlier prompts."""
        return self._generate(torch.tensor([prompt.ids], device=self._model.device), new_tokens)[0]

    def continuous(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        """Continuous batching as it comes, with streaming; its cache is as large as these requests need."""
        longest = max(len(prompt.ids) for prompt in prompts) + new_tokens
        config = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=(longest // PAGE_TOKENS + 2) * len(prompts),
            max_batch_tokens=512,
            max_requests_per_batch=len(prompts),
        )
        with self._model.continuous_batching_context_manager(
            generation_config=_exactly(new_tokens), continuous_batching_config=config, timeout=30
        ) as manager:
            started = time.perf_counter()
            names = [
                manager.add_request(list(prompt.ids), max_new_tokens=new_tokens, streaming=True)
                for prompt in prompts
            ]
            times: dict[str, list[float]] = {name: [] for name in names}
            written: dict[str, tuple[int, ...]] = {}
            while len(written) < len(names):
                output = manager.get_result(timeout=WITHOUT_PROGRESS)
                if output is None or output.error is not None:
                    raise RuntimeError(f"Continuous batching stopped: {output and output.error}")
                if len(output.generated_tokens) > len(times[output.request_id]):
                    times[output.request_id].append(seconds_since(started))
                if output.is_finished():
                    written[output.request_id] = tuple(output.generated_tokens)
        return [Stream(tuple(times[name]), len(written[name]), written[name]) for name in names]

    def close(self) -> None:
        self._computed.clear()

    def _generate(
        self, ids: torch.Tensor, new_tokens: int, past_key_values: DynamicCache | None = None
    ) -> list[Stream]:
        stopwatch = Stopwatch()
        with torch.inference_mode():
            written = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_exactly(new_tokens),
                past_key_values=past_key_values,
                streamer=stopwatch,
            )
        rows = written[:, ids.shape[1] :].tolist()
        return [
            Stream(tuple(stopwatch.times), len(row), tuple(row), self._tokenizer.decode(row)) for row in rows
        ]

    def _choose_threads(self, most: int) -> int:
        """A small model is faster with one thread: whichever writes faster here."""
        ids = torch.tensor([range(32)], device=self._model.device)
        seconds = {}
        for threads in {most, 1} if self._model.num_parameters() < THREADS_PAY_FROM else {most}:
            torch.set_num_threads(threads)
            rounds = [self._generate(ids, 12)[0] for _ in range(3)]
            seconds[threads] = min(stream.times[-1] - stream.times[0] for stream in rounds)
        fastest = min(seconds, key=lambda threads: seconds[threads])
        torch.set_num_threads(fastest)
        return fastest

    def _compute(self, ids: torch.Tensor) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        with torch.inference_mode():
            self._model(ids, past_key_values=cache, logits_to_keep=1)
        return cache


class Stopwatch(BaseStreamer):  # type: ignore[misc]
    """Told of every step; the first thing that it is told is the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._started = time.perf_counter()
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt:
            self.times.append(seconds_since(self._started))
        self._prompt = False

    def end(self) -> None:
        pass


def _exactly(new_tokens: int) -> GenerationConfig:
    """Greedy, and nothing ends it early (a None would be filled in from the model's own settings)."""
    return GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=-1, pad_token_id=0, repetition_penalty=1.0
    )
