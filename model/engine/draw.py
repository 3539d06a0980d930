"""From scores to one token a row: temperature, top_k, top_p, min_p, typical_p, then one number per row decides.

The meaning is that of transformers' warpers, in their order. A whole vocabulary is never sorted where its likeliest
part will do. Knows no request, no text, and no random generator: what a row draws depends on its own scores,
values and number alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

BLOCK = 64
"""Scores come in whole blocks: `pad_width` more of them, all minus infinity, where the vocabulary does not divide."""
NO_TOKEN = -1
"""What a row draws that has no finite score, or one that is no number."""
_NARROW = 128
_TOO_NARROW = -2
_32_BITS = 2**32 - 1
_BLOCKS_PAY_FROM = 16_384
_COLDEST = 1e-8
"""Below this temperature, scores divided by it could overflow; the likeliest token is then certain anyway."""
_LARGEST_SHARE = {torch.float64: 1 - 2**-40, torch.float32: 1 - 2**-23}


class Knobs(NamedTuple):
    """One row's values, with the meaning of `SamplingParams`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float


class Drawn(NamedTuple):
    token: int
    width: int
    """How many of the likeliest tokens the row will probably need next time: a hint for `draw`, no more."""


def pad_width(vocabulary: int) -> int:
    return -vocabulary % BLOCK


def draw(
    scores: torch.Tensor, knobs: Sequence[Knobs], uniforms: Sequence[float], widths: Sequence[int]
) -> list[Drawn]:
    """A token for each row of `scores` (rows x whole blocks, float32), or `NO_TOKEN`.

    `uniforms` lie in [0, 1). `widths` are those of the row's last `Drawn`, and 0 at first. The device is waited for
    once, and again only for rows whose width did not do.
    """
    vocabulary = scores.shape[-1]
    drawn = [Drawn(NO_TOKEN, 0)] * len(knobs)
    rows = list(range(len(knobs)))
    keys = [(row, _first_width(row, width, vocabulary)) for row, width in zip(knobs, widths, strict=True)]
    numbers = list(uniforms)
    while True:
        outcomes = _draw_once(scores, tuple(keys), numbers)
        again = []
        for place, outcome in enumerate(outcomes):
            if outcome == _TOO_NARROW:
                again.append(place)
            elif outcome != NO_TOKEN:
                drawn[rows[place]] = Drawn(outcome & _32_BITS, outcome >> 32)
        if not again:
            return drawn
        scores = scores.index_select(0, torch.tensor(again).to(scores.device))
        rows = [rows[place] for place in again]
        keys = [(keys[place][0], _next_width(keys[place][1], vocabulary)) for place in again]
        numbers = [numbers[place] for place in again]


def _first_width(knobs: Knobs, hint: int, vocabulary: int) -> int:
    """0 for rows that look at every token."""
    if knobs.temperature == 0:
        return 0
    if knobs.top_k:
        width = 1 << (knobs.top_k + 8).bit_length()  # some more, since equal scores stand or fall together
        return width if width * 2 <= vocabulary else vocabulary
    if knobs.top_p == 1 and knobs.typical_p == 1:
        return 0
    width = min(_NARROW, vocabulary)
    while hint >= width < vocabulary:
        width = _next_width(width, vocabulary)
    return width


def _next_width(width: int, vocabulary: int) -> int:
    """A full sort costs as much as the search for a sixteenth of the vocabulary."""
    return width * 8 if width * 32 <= vocabulary else vocabulary


_Keys = tuple[tuple[Knobs, int], ...]


def _draw_once(scores: torch.Tensor, keys: _Keys, numbers: Sequence[float]) -> list[int]:
    """As `_outcome` writes it."""
    groups = _groups(keys, scores.device)
    if len(groups) == 1 and groups[0].greedy:
        return _best(scores)
    precise = torch.float32 if scores.device.type == "mps" else torch.float64
    uniforms = torch.tensor(numbers, dtype=precise).clamp_(max=_LARGEST_SHARE[precise]).to(scores.device)
    if len(groups) == 1:
        return groups[0].draw(scores, uniforms).tolist()
    outcomes = torch.empty(len(keys), dtype=torch.long, device=scores.device)
    for group in groups:
        own = group.draw(scores.index_select(0, group.rows), uniforms.index_select(0, group.rows))
        outcomes.index_copy_(0, group.rows, own)
    return outcomes.tolist()


@lru_cache(maxsize=64)
def _groups(keys: _Keys, device: torch.device) -> list["_Group"]:
    """Rows that take the same steps at the same width. A batch seldom changes, so its tensors are kept."""
    rows: dict[tuple[object, ...], list[int]] = {}
    for row, (knobs, width) in enumerate(keys):
        kind = ("greedy",) if knobs.temperature == 0 else (width, knobs.top_k > 0, knobs.top_p < 1)
        rows.setdefault(kind, []).append(row)
    return [_Group.of([keys[row] for row in members], members, device) for members in rows.values()]


def _best(scores: torch.Tensor) -> list[int]:
    if scores.device.type == "cpu":  # numpy looks at several scores at once, torch at one: 11 us against 127
        array = scores.numpy()
        best = array.argmax(axis=1)
        finite = np.isfinite(array[np.arange(len(best)), best])
        return np.where(finite, best, NO_TOKEN).tolist()  # type: ignore[no-any-return]
    return _best_by_block(scores).tolist()


def _best_by_block(scores: torch.Tensor) -> torch.Tensor:
    blocks = scores.view(len(scores), -1, BLOCK)
    block = blocks.amax(-1).argmax(-1)
    values, places = blocks[torch.arange(len(scores), device=scores.device), block].max(-1)
    return _outcome((block * BLOCK + places).unsqueeze(-1), values.isfinite().unsqueeze(-1))


def _outcome(chosen: torch.Tensor, valid: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    """One number a row, so that one copy brings all: how many tokens were `kept`, above the token's 32 bits."""
    chosen = chosen.where(valid, NO_TOKEN).squeeze(-1)
    return chosen if kept is None else chosen.where(chosen < 0, chosen + (kept << 32))


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Rows that are drawn together. Values stand in columns (rows x 1); None is off for all of them."""

    rows: torch.Tensor
    greedy: bool
    width: int
    inverse: torch.Tensor
    """1 / temperature."""
    last: torch.Tensor | None
    """The place of the last token in top_k."""
    top_p: torch.Tensor | None
    min_p: torch.Tensor | None
    typical_p: torch.Tensor | None

    @classmethod
    def of(cls, keys: list[tuple[Knobs, int]], rows: list[int], device: torch.device) -> "_Group":
        def column(values: list[float], off: float) -> torch.Tensor | None:
            return None if all(value == off for value in values) else floats(values)

        def floats(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32).unsqueeze(-1).to(device)

        knobs = [row for row, _ in keys]
        width = keys[0][1]
        last = [min(row.top_k, width) - 1 for row in knobs]
        return cls(
            rows=torch.tensor(rows).to(device),
            greedy=knobs[0].temperature == 0,
            width=width,
            inverse=floats([1 / max(row.temperature, _COLDEST) for row in knobs]),
            last=torch.tensor(last).unsqueeze(-1).to(device) if knobs[0].top_k else None,
            top_p=column([row.top_p for row in knobs], 1),
            min_p=column([row.min_p for row in knobs], 0),
            typical_p=column([row.typical_p for row in knobs], 1),
        )

    def draw(self, scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """As `_outcome` writes it."""
        if self.greedy:
            return _best_by_block(scores)
        if self.last is None and self.top_p is None:
            return self._draw_from_all(scores, uniforms)
        return self._draw_from_likeliest(scores, uniforms)

    def _draw_from_all(self, scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        scores = scores * self.inverse
        if self.min_p is not None:
            scores = _cut(scores, scores.amax(-1, keepdim=True) + self.min_p.log())
        if self.typical_p is None:
            return _outcome(*_invert(scores.softmax(-1), uniforms))
        scores, enough, kept = _typical(scores, self.typical_p, self.width)
        chosen, valid = _invert(scores.softmax(-1), uniforms)
        if self.width < scores.shape[-1]:
            chosen = chosen.where(enough, _TOO_NARROW)
        return _outcome(chosen, valid, kept)

    def _draw_from_likeliest(self, scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        """The likeliest `width` tokens do where the last of them has no chance any more."""
        values, tokens = _largest(scores, self.width)
        values = values * self.inverse
        best = values[:, :1]
        if self.last is not None:
            shares = _cut(values, values.gather(1, self.last)).softmax(-1)
        else:
            # The share of the likeliest token in all gives the others theirs.
            shares = (values - best).exp_() * (scores * self.inverse).softmax(-1).amax(-1, keepdim=True)
        if self.top_p is not None:
            shares = shares.masked_fill(shares.cumsum(-1) - shares >= self.top_p, 0)
        kept = None if self.last is not None else shares.count_nonzero(-1)
        if self.min_p is not None:
            shares = shares.masked_fill(shares < shares[:, :1] * self.min_p, 0)
        chance = shares
        if self.typical_p is not None:
            typical, _, _ = _typical(shares.log(), self.typical_p, self.width)
            chance = typical.exp()
        sums = chance.cumsum(-1, dtype=uniforms.dtype)
        total = sums[:, -1:]
        places = torch.searchsorted(sums, uniforms.unsqueeze(-1) * total, right=True)
        chosen = tokens.gather(1, places.clamp_(max=self.width - 1))
        if self.width < scores.shape[-1]:
            chosen = chosen.where(shares[:, -1:] == 0, _TOO_NARROW)
        return _outcome(chosen, total > 0, kept)


def _cut(scores: torch.Tensor, lowest: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(scores < lowest, -math.inf)


def _largest(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest `count` of each row and where they stand, the largest first.

    The largest n scores stand in the n blocks whose maxima are the largest: of 150,000 scores few are ever compared.
    """
    rows, vocabulary = scores.shape
    if count == vocabulary:
        return torch.sort(scores, dim=-1, descending=True, stable=True)
    blocks = vocabulary // BLOCK
    if vocabulary < _BLOCKS_PAY_FROM or count * 2 > blocks:
        return torch.topk(scores, count, dim=-1)
    chosen = scores.view(rows, blocks, BLOCK).amax(-1).topk(count, dim=-1).indices
    offsets = torch.arange(0, rows * blocks, blocks, device=scores.device).unsqueeze(-1)
    gathered = scores.view(-1, BLOCK).index_select(0, (chosen + offsets).view(-1)).view(rows, -1)
    values, places = gathered.topk(count, dim=-1)
    return values, chosen.gather(1, places // BLOCK) * BLOCK + places % BLOCK


def _typical(
    scores: torch.Tensor, mass: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keep the tokens whose surprise is nearest to the expected one, up to `mass`.

    Also tells whether `width` of them made up the mass, and how many did.
    """
    logarithms = scores.log_softmax(-1)
    probabilities = logarithms.exp()
    entropy = -(logarithms * probabilities).nansum(-1, keepdim=True)
    distances = (logarithms + entropy).abs()
    nearest, order = _largest(-distances, width)
    sums = probabilities.gather(1, order).cumsum(-1)
    count = (sums < mass).sum(-1, keepdim=True)
    furthest = -nearest.gather(1, count.clamp(max=width - 1))
    enough = (count < width) | (nearest[:, -1:] == -math.inf)
    return scores.masked_fill(distances > furthest, -math.inf), enough, count.squeeze(-1)


def _invert(probabilities: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The token at which the sum of the probabilities passes the row's number: first the block, then its token.

    Also tells which rows have a sum at all.
    """
    blocks = probabilities.view(len(probabilities), -1, BLOCK)
    masses = blocks.sum(-1).to(uniforms.dtype)
    sums = masses.cumsum(-1)
    total = sums[:, -1:]
    target = uniforms.unsqueeze(-1) * total
    block = torch.searchsorted(sums, target, right=True).clamp_(max=masses.shape[-1] - 1)
    mass = masses.gather(1, block)
    share = ((target - (sums.gather(1, block) - mass)) / mass).clamp_(0, _LARGEST_SHARE[uniforms.dtype])
    rows = torch.arange(len(blocks), device=blocks.device)
    inside = blocks[rows, block.squeeze(-1)].to(uniforms.dtype).cumsum(-1)
    place = torch.searchsorted(inside, share * inside[:, -1:], right=True).clamp_(max=BLOCK - 1)
    return block * BLOCK + place, total > 0
