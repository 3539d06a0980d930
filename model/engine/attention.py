"""Attention over the KV cache for one flattened row of tokens of many sequences, in torch.

Source: scaled dot-product attention (Vaswani et al., 2017); grouped queries (Ainslie et al., 2023); sliding windows
(Beltagy et al., 2020). Knows no requests and no weights.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from model.engine.kv_cache import KVCache
from model.engine.row import Piece

SIMILAR = 256
"""Sequences of one group differ by no more tokens: each pays for the longest."""
BY_HEAD_FROM = 16_384
"""Scores of one head above which a processor is faster with one matrix product a head than with torch's kernel."""
BLOCK = 128
"""New tokens whose scores are computed together: few enough that they stay in the processor's cache."""


class Layout:
    """What stands where in the row of one forward pass: single tokens first, then longer pieces.

    Made once a pass, read by every layer.
    """

    def __init__(self, cache: KVCache, pieces: Sequence[Piece], *, dtype: torch.dtype, device: torch.device):
        self.cache = cache
        self.longer = [piece for piece in pieces if piece.end - piece.start > 1]
        self.groups = [
            Group(members, dtype=dtype, device=device)
            for members in _neighbours([piece for piece in pieces if piece.end - piece.start == 1])
        ]
        self._dtype = dtype
        self._device = device
        self._masks: dict[tuple[int, int, int | None, int], Tensor] = {}

    def causal_mask(self, past: int, new: int, window: int | None, *, repeat: int = 1) -> Tensor:
        """Additive, `new` tokens x all tokens: a token sees itself and earlier ones, `window` at most.

        `repeat` times below each other, for as many heads that share keys.
        """
        key = (past, new, window, repeat)
        if key not in self._masks:
            seen = torch.ones(new, past + new, dtype=torch.bool, device=self._device).tril(past)
            if window is not None:
                seen = seen.triu(past - window + 1)
            self._masks[key] = _additive(seen, self._dtype).repeat(repeat, 1)
        return self._masks[key]


class Group:
    """Sequences of one new token each, in neighbouring slots: one product serves them all."""

    def __init__(self, members: Sequence[Piece], *, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = slice(members[0].start, members[-1].end)
        self.first = members[0].slot.number
        self.last = members[-1].slot.number
        self.total = max(piece.total for piece in members)
        self._totals = [piece.total for piece in members]
        self._dtype = dtype
        self._device = device
        self._masks: dict[int | None, Tensor | None] = {}

    def __len__(self) -> int:
        return len(self._totals)

    @cached_property
    def slots(self) -> Tensor:
        return torch.arange(self.first, self.last + 1, device=self._device)

    @cached_property
    def places(self) -> Tensor:
        return torch.tensor(self._totals, device=self._device) - 1

    def begin(self, window: int | None) -> int:
        """The first place that any of them still sees."""
        return 0 if window is None else max(0, min(self._totals) - window)

    def mask(self, window: int | None) -> Tensor | None:
        """Additive, members x 1 x 1 x tokens from `begin` on; None where each sees all of them."""
        if window not in self._masks:
            begin = self.begin(window)
            alike = min(self._totals) == self.total and (window is None or self.total - begin <= window)
            self._masks[window] = None if alike else self._mask(window, begin)
        return self._masks[window]

    def _mask(self, window: int | None, begin: int) -> Tensor:
        place = torch.arange(begin, self.total, device=self._device)
        totals = (self.places + 1)[:, None]
        seen = place < totals
        if window is not None:
            seen &= place >= totals - window
        return _additive(seen, self._dtype)[:, None, None, :]


def _neighbours(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Runs of pieces that follow each other both in the row and in the pool, of similar length."""
    run: list[Piece] = []
    for piece in pieces:
        follows = run and (piece.start, piece.slot.number) == (run[-1].end, run[-1].slot.number + 1)
        if not follows or max(abs(piece.past - other.past) for other in run) > SIMILAR:
            if run:
                yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))


class Asked(NamedTuple):
    """What one layer asks for: tensors of heads x row x size, and how it weighs them."""

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float | None
    window: int | None
    softcap: float | None


def attend(layout: Layout, asked: Asked) -> Tensor:
    """Row x heads x size: what each token of the row found among those that it sees."""
    parts = [
        *(_attend_group(layout.cache, group, asked) for group in layout.groups),
        *(_attend_piece(layout, piece, asked) for piece in layout.longer),
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_group(cache: KVCache, group: Group, asked: Asked) -> Tensor:
    """One new token each. The query heads that share keys stand as rows of one query: no keys are repeated."""
    members, heads = len(group), asked.queries.shape[0]
    place = group.rows
    pool_keys, pool_values = cache.write_each(
        asked.layer, group.slots, group.places, asked.keys[:, place], asked.values[:, place]
    )
    seen = slice(group.begin(asked.window), group.total)
    slots = slice(group.first, group.last + 1)
    out = _weigh(
        asked.queries[:, place]
        .transpose(0, 1)
        .reshape(members, pool_keys.shape[1], -1, asked.queries.shape[2]),
        pool_keys[slots, :, seen],
        pool_values[slots, :, seen],
        group.mask(asked.window),
        asked,
    )
    return out.reshape(members, heads, -1)


def _attend_piece(layout: Layout, piece: Piece, asked: Asked) -> Tensor:
    """Several new tokens of one sequence."""
    place = slice(piece.start, piece.end)
    keys, values = layout.cache.write(
        asked.layer, piece.slot, piece.past, asked.keys[:, place], asked.values[:, place]
    )
    queries = asked.queries[:, place]
    new = piece.end - piece.start
    if queries.device.type == "cpu" and new * piece.total >= BY_HEAD_FROM and asked.softcap is None:
        return _weigh_by_head(layout, piece.past, queries, keys, values, asked)
    mask = layout.causal_mask(piece.past, new, asked.window)
    return _weigh(queries[None], keys[None], values[None], mask, asked)[0].transpose(0, 1)


def _weigh_by_head(
    layout: Layout, past: int, queries: Tensor, keys: Tensor, values: Tensor, asked: Asked
) -> Tensor:
    """Block by block and head by head: what a block cannot see is not computed, and its scores stay in the cache."""
    heads, new, size = queries.shape
    shared = heads // keys.shape[0]
    scaling = size**-0.5 if asked.scaling is None else asked.scaling
    attended = torch.empty(
        (new, keys.shape[0], shared, values.shape[2]), dtype=queries.dtype, device=queries.device
    )
    by_key = queries.reshape(keys.shape[0], shared, new, size)
    for start in range(0, new, BLOCK):
        end = min(start + BLOCK, new)
        mask = layout.causal_mask(past + start, end - start, asked.window, repeat=shared)
        for head in range(keys.shape[0]):
            block = by_key[head, :, start:end].reshape(-1, size)
            seen = keys[head, : past + end]
            weights = torch.addmm(mask, block, seen.t(), alpha=scaling).softmax(-1)
            out = torch.mm(weights, values[head, : past + end])
            attended[start:end, head] = out.view(shared, end - start, -1).transpose(0, 1)
    return attended.view(new, heads, -1)


def _weigh(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, asked: Asked) -> Tensor:
    shared = queries.shape[1] // keys.shape[1]
    if asked.softcap is None:
        return scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=asked.scaling, enable_gqa=shared > 1
        )
    # Gemma 2 bounds its scores, which torch's kernel does not.
    keys, values = keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1)
    scaling = queries.shape[-1] ** -0.5 if asked.scaling is None else asked.scaling
    scores = torch.tanh(queries @ keys.transpose(2, 3) * (scaling / asked.softcap)) * asked.softcap
    scores = scores if mask is None else scores + mask
    return scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values
