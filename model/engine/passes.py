"""Forward passes of transformers' models.

`BatchRunner` computes many sequences in one pass over its own KV cache. `SingleRunner` computes them one after
another with transformers' cache, for architectures that keep a recurrent or linear-attention state.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

from model.engine.attention import Asked, Layout, attend
from model.engine.kv_cache import KVCache, Slot
from model.engine.lora import Adapters
from model.engine.row import growth, lay_out
from model.engine.runner import Feed, Place

ATTENTION = "parley"
"""The name under which transformers knows the engine's attention."""


class BatchRunner:
    """One pass for all: the tokens of every sequence stand in one row, and attention tells them apart."""

    batched = True

    def __init__(self, model: PreTrainedModel, cache: KVCache, adapters: Adapters) -> None:
        self._model = model
        self.cache = cache
        self._adapters = adapters
        model.set_attn_implementation(ATTENTION)

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        return self.cache.open(prompt, adapter or "")

    def reserve(self, feeds: Sequence[Feed]) -> None:
        self.cache.reserve(growth(feeds))

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        row = lay_out(feeds)
        device = self._model.device
        layout = Layout(self.cache, row.pieces, dtype=self._model.dtype, device=device)
        adapted = [(feed.adapter, len(feed.tokens)) for feed in row.feeds]
        with laid_out(layout), self._adapters.applied(adapted):
            scores: Tensor = self._model(
                input_ids=torch.tensor([row.tokens], device=device),
                position_ids=torch.tensor([row.positions], device=device),
                use_cache=False,
                logits_to_keep=torch.tensor(row.wanted or [0], device=device),
            ).logits[0]
        row.advance()
        return scores[: len(row.wanted)]

    def truncate(self, place: Place, length: int) -> None:
        assert isinstance(place, Slot)
        place.length = length

    def close(self, place: Place) -> None:
        assert isinstance(place, Slot)
        self.cache.close(place)


_current = threading.local()


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """`layout` is what the forward passes of this thread attend by."""
    _current.layout = layout
    try:
        yield
    finally:
        del _current.layout


def attend_as_transformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions: 1 x heads x row x size in, 1 x row x heads x size out."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    asked = Asked(layer, query[0], key[0], value[0], scaling, sliding_window, softcap)
    return attend(_current.layout, asked)[None], None


AttentionInterface.register(ATTENTION, attend_as_transformers)


@dataclass(slots=True, eq=False)
class Kept:
    """One sequence's own cache, as transformers makes it for the architecture."""

    adapter: str | None
    cache: DynamicCache
    tokens: list[int]

    @property
    def length(self) -> int:
        return len(self.tokens)


class SingleRunner:
    """One pass for each sequence. A recurrent state cannot go back: a conversation is taken up where it stopped."""

    batched = False

    def __init__(self, model: PreTrainedModel, adapters: Adapters, *, kept: int) -> None:
        """`kept` conversations that rest stay in memory."""
        self._model = model
        self._adapters = adapters
        self._most_kept = kept
        self._resting: list[Kept] = []

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        fitting = [
            kept
            for kept in self._resting
            if kept.adapter == adapter
            and kept.length < len(prompt)
            and kept.tokens == list(prompt[: kept.length])
        ]
        if not fitting:
            return Kept(adapter, DynamicCache(config=self._model.config), [])
        best = max(fitting, key=lambda kept: kept.length)
        self._resting.remove(best)
        return best

    def reserve(self, feeds: Sequence[Feed]) -> None:
        """Memory is bounded by the number of conversations alone."""

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        """A pass that fails forgets what its places knew: some layers may have computed what others have not."""
        try:
            return torch.cat([self._forward(feed) for feed in feeds])
        except BaseException:
            for feed in feeds:
                assert isinstance(feed.place, Kept)
                feed.place.cache, feed.place.tokens = DynamicCache(config=self._model.config), []
            raise

    def truncate(self, place: Place, length: int) -> None:
        assert place.length == length  # drafts are for batches: nothing is ever computed in vain here

    def close(self, place: Place) -> None:
        assert isinstance(place, Kept)
        self._resting = [*self._resting, place][-self._most_kept :]

    def _forward(self, feed: Feed) -> Tensor:
        assert isinstance(feed.place, Kept)
        with self._adapters.applied([(feed.adapter, len(feed.tokens))]):
            scores: Tensor = self._model(
                input_ids=torch.tensor([list(feed.tokens)], device=self._model.device),
                past_key_values=feed.place.cache,
                use_cache=True,
                logits_to_keep=max(1, feed.scored),
            ).logits[0]
        feed.place.tokens.extend(feed.tokens)
        return scores[len(scores) - feed.scored :]
