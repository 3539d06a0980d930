"""llama.cpp in the engine benchmark, through the C functions that llama-cpp-python passes on: no Python per layer."""

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from benchmarks.engine_peer import PeerSettings, Prompt, Stream, seconds_since

BATCH = 512
"""Tokens of a prompt in one call, which is llama.cpp's own choice too."""
MARGIN = 1024


class LlamaCppPeer:
    def __init__(self, settings: PeerSettings) -> None:
        if settings.device != "cpu" and not llama_cpp.llama_supports_gpu_offload():
            raise RuntimeError("llama-cpp-python is built without a GPU here.")
        self._temporary = tempfile.TemporaryDirectory(prefix="parley-bench-gguf-")
        path = Path(self._temporary.name) / "model.gguf"
        _write_elsewhere(settings.folder, path)
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0 if settings.device == "cpu" else 999
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp could not load {path.name}.")
        self._settings = settings
        self._contexts: dict[tuple[str, int], Context] = {}

    def describe(self) -> dict[str, object]:
        features = llama_cpp.llama_print_system_info().decode()
        return {"dtype": "bfloat16", "version": llama_cpp.__version__, "built_for": features}

    def decode(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        context = self._context("decode", len(prompts), len(prompts[0].ids) + MARGIN)
        for row, prompt in enumerate(prompts):
            context.compute(row, prompt.ids[:-1])
        return context.write(prompts, new_tokens)

    def answer(self, prompt: Prompt, new_tokens: int, conversation: str = "") -> Stream:
        """Keeps what it knows of the prompt before, as llama-cpp-python's own `Llama` does."""
        return self._context("answer", 1, self._settings.context_tokens).write([prompt], new_tokens)[0]

    def close(self) -> None:
        for context in self._contexts.values():
            context.close()
        llama_cpp.llama_model_free(self._model)
        self._temporary.cleanup()

    def _context(self, purpose: str, streams: int, tokens: int) -> "Context":
        key = (purpose, streams)
        if key not in self._contexts:
            self._contexts[key] = Context(self._model, streams, tokens, self._settings.threads)
        return self._contexts[key]


def _write_elsewhere(folder: Path, target: Path) -> None:
    """In another process: what the writing takes is no memory of llama.cpp's."""
    command = [sys.executable, "-m", "benchmarks.engine_weights", str(folder.resolve()), str(target)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])


@dataclass(frozen=True, slots=True)
class Entry:
    """One token to compute."""

    row: int
    place: int
    token: int
    scored: bool


class Context:
    """The state of some sequences of one length at most, each with a cache of its own."""

    def __init__(self, model: Any, streams: int, tokens: int, threads: int) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = streams * tokens
        parameters.n_seq_max = streams
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = False
        self._context = llama_cpp.llama_init_from_model(model, parameters)
        if not self._context:
            raise RuntimeError(f"llama.cpp could not make a context of {streams} x {tokens:,} tokens.")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._greedy = llama_cpp.llama_sampler_init_greedy()
        self._known: list[tuple[int, ...]] = [()] * streams

    def compute(self, row: int, ids: Sequence[int]) -> None:
        """Have sequence `row` hold `ids`, without scores."""
        known = self._keep(row, ids)
        self._decode([Entry(row, place, ids[place], False) for place in range(known, len(ids))])

    def write(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        """Several prompts must be known up to their last tokens."""
        started = time.perf_counter()
        known = [self._keep(row, prompt.ids[:-1]) for row, prompt in enumerate(prompts)]
        entries = [
            Entry(row, place, prompt.ids[place], place == len(prompt.ids) - 1)
            for row, prompt in enumerate(prompts)
            for place in range(known[row], len(prompt.ids))
        ]
        written: list[list[int]] = [[] for _ in prompts]
        times: list[float] = []
        for step in range(new_tokens):
            scored = self._decode(entries)
            tokens = [llama_cpp.llama_sampler_sample(self._greedy, self._context, index) for index in scored]
            times.append(seconds_since(started))
            for row, token in enumerate(tokens):
                written[row].append(token)
            entries = [
                Entry(row, len(prompts[row].ids) + step, token, True) for row, token in enumerate(tokens)
            ]
        for row, prompt in enumerate(prompts):
            self._known[row] = (*prompt.ids, *written[row][:-1])
        return [
            Stream(tuple(times), new_tokens, tuple(ids), cached_tokens=cached)
            for ids, cached in zip(written, known, strict=True)
        ]

    def _keep(self, row: int, ids: Sequence[int]) -> int:
        """Forget what sequence `row` holds behind its common beginning with `ids`; the length of that."""
        pairs = enumerate(zip(self._known[row], ids, strict=False))
        shorter = min(len(self._known[row]), len(ids))
        same = next((place for place, (known, wanted) in pairs if known != wanted), shorter)
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), row, same, -1)
        self._known[row] = tuple(ids)
        return same

    def close(self) -> None:
        llama_cpp.llama_sampler_free(self._greedy)
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _decode(self, entries: Sequence[Entry]) -> list[int]:
        """Compute in batches; where the wanted scores lie in the last one."""
        batch = self._batch
        scored: list[int] = []
        for start in range(0, len(entries), BATCH):
            piece = entries[start : start + BATCH]
            batch.n_tokens = len(piece)
            for index, entry in enumerate(piece):
                batch.token[index] = entry.token
                batch.pos[index] = entry.place
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = entry.row
                batch.logits[index] = entry.scored
            code = llama_cpp.llama_decode(self._context, batch)
            if code:
                raise RuntimeError(f"llama_decode answered {code} to {len(piece)} tokens.")
            scored = [index for index, entry in enumerate(piece) if entry.scored]
        return scored
