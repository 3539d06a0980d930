"""Stand-ins for a transformers model: one that says what a test tells it, and one that is watched."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig

from model.loading import LoadedModel

Step = int | None | threading.Event | BaseException
"""A token to prefer; None for scores that are no numbers; an event to wait for; an exception to raise."""


class ScriptedModel:
    """Stands in for a transformers model whose prompts are shorter than one prefill."""

    def __init__(self, loaded: LoadedModel, script: Callable[[str], Iterable[Step]]) -> None:
        """`script` gives the steps for a prompt, which it sees as text."""
        self.config = loaded.model.config
        self.generation_config = loaded.model.generation_config
        self.device = torch.device("cpu")
        self._tokenizer = loaded.tokenizer
        self._script = script
        self._replies: list[tuple[Any, Iterator[Step]]] = []

    def __call__(self, *, input_ids: torch.Tensor, past_key_values: Any, **_: Any) -> SimpleNamespace:
        step = next(self._reply_to(input_ids, past_key_values))
        while isinstance(step, threading.Event):
            assert step.wait(timeout=30)
            step = next(self._reply_to(input_ids, past_key_values))
        if isinstance(step, BaseException):
            raise step
        logits = torch.zeros(1, 1, self.config.vocab_size)
        if step is None:
            logits[:] = torch.nan
        else:
            logits[..., step] = 100.0
        return SimpleNamespace(logits=logits)

    def _reply_to(self, input_ids: torch.Tensor, cache: Any) -> Iterator[Step]:
        for known, reply in self._replies:
            if known is cache:
                return reply
        reply = iter(self._script(self._tokenizer.decode(input_ids[0].tolist())))
        self._replies.append((cache, reply))
        return reply


class WatchedModel:
    """A real model whose caches (weakly) and input lengths are remembered; it can have end tokens of its own."""

    def __init__(self, loaded: LoadedModel, *, end_tokens: Sequence[int] = ()) -> None:
        self.caches: dict[int, weakref.ref[Any]] = {}
        self.lengths: list[int] = []
        self.config = loaded.model.config
        self.generation_config = GenerationConfig(eos_token_id=list(end_tokens))
        self.device = loaded.model.device
        self._model = loaded.model

    def __call__(self, *, input_ids: torch.Tensor, past_key_values: Any, **inputs: Any) -> Any:
        self.caches[id(past_key_values)] = weakref.ref(past_key_values)
        self.lengths.append(input_ids.shape[1])
        return self._model(input_ids=input_ids, past_key_values=past_key_values, **inputs)

    @property
    def live_caches(self) -> int:
        gc.collect()
        return sum(cache() is not None for cache in self.caches.values())


def scripted(loaded: LoadedModel, script: Callable[[str], Iterable[Step]]) -> LoadedModel:
    """`loaded` with its weights replaced by a script."""
    return replace(loaded, model=ScriptedModel(loaded, script))


def tokens_of(loaded: LoadedModel, text: str) -> list[int]:
    tokens: list[int] = loaded.tokenizer.encode(text, add_special_tokens=False)
    return tokens
