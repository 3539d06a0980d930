"""Forward passes for the scheduler: which tokens of which sequences go in, and the scores that come out.

`BatchRunner` computes many sequences in one pass over its own KV cache. `SingleRunner` computes them one after
another with transformers' cache, for architectures that keep a recurrent or linear-attention state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from model.engine import attention
from model.engine.attention import Layout, Piece, laid_out
from model.engine.kv_cache import KVCache, Slot
from model.engine.lora import Adapters


class Place(Protocol):
    """Where a runner keeps a sequence."""

    @property
    def length(self) -> int:
        """Tokens that are computed."""
        ...


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to compute next for one place; the scores behind the last `scored` of them are wanted."""

    place: Place
    tokens: Sequence[int]
    scored: int
    adapter: str | None = None


class Runner(Protocol):
    batched: bool

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        """A place that knows a beginning of `prompt` already, as much as possible. Raises `OutOfSlots`."""
        ...

    def reserve(self, feeds: Sequence[Feed]) -> None:
        """Make room for what a pass over `feeds` adds. Raises `OutOfSlots`."""
        ...

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        """The wanted scores, in the order of `feeds`: rows x vocabulary."""
        ...

    def truncate(self, place: Place, length: int) -> None:
        """Forget what was computed behind `length` tokens."""
        ...

    def close(self, place: Place) -> None: ...


class BatchRunner:
    """One pass for all: the tokens of every sequence stand in one row, and attention tells them apart."""

    batched = True

    def __init__(self, model: PreTrainedModel, cache: KVCache, adapters: Adapters) -> None:
        self._model = model
        self.cache = cache
        self._adapters = adapters
        model.set_attn_implementation(attention.NAME)

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        return self.cache.open(prompt, adapter or "")

    def reserve(self, feeds: Sequence[Feed]) -> None:
        self.cache.reserve(sum(_growth(feed) for feed in feeds))

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        order = sorted(range(len(feeds)), key=lambda index: _row_order(feeds[index]))
        ordered = [feeds[index] for index in order]
        pieces = _pieces(ordered)
        device = self._model.device
        layout = Layout(self.cache, pieces, dtype=self._model.dtype, device=device)
        ids = torch.tensor([[token for feed in ordered for token in feed.tokens]], device=device)
        places = [place for piece in pieces for place in range(piece.past, piece.total)]
        wanted = _wanted(feeds, order, pieces)
        rows = [(feed.adapter, len(feed.tokens)) for feed in ordered]
        with laid_out(layout), self._adapters.applied(rows):
            scores: Tensor = self._model(
                input_ids=ids,
                position_ids=torch.tensor([places], device=device),
                use_cache=False,
                logits_to_keep=torch.tensor(wanted or [0], device=device),
            ).logits[0]
        for feed, piece in zip(ordered, pieces, strict=True):
            piece.slot.advance(feed.tokens)
        return scores[: len(wanted)]

    def truncate(self, place: Place, length: int) -> None:
        assert isinstance(place, Slot)
        place.length = length

    def close(self, place: Place) -> None:
        assert isinstance(place, Slot)
        self.cache.close(place)


def _growth(feed: Feed) -> int:
    """Tokens beyond those that the slot has held before, whose memory it still has."""
    assert isinstance(feed.place, Slot)
    return max(0, feed.place.length + len(feed.tokens) - feed.place.committed)


def _row_order(feed: Feed) -> tuple[bool, int]:
    assert isinstance(feed.place, Slot)
    return len(feed.tokens) > 1, feed.place.number


def _pieces(feeds: Sequence[Feed]) -> list[Piece]:
    pieces: list[Piece] = []
    start = 0
    for feed in feeds:
        assert isinstance(feed.place, Slot)
        end = start + len(feed.tokens)
        pieces.append(Piece(feed.place, start, end, feed.place.length))
        start = end
    return pieces


def _wanted(feeds: Sequence[Feed], order: Sequence[int], pieces: Sequence[Piece]) -> list[int]:
    """The rows whose scores are wanted, in the order in which `feeds` came."""
    ends = {index: piece.end for index, piece in zip(order, pieces, strict=True)}
    return [row for index, feed in enumerate(feeds) for row in range(ends[index] - feed.scored, ends[index])]


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
