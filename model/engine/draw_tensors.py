"""`draw` for scores that are torch's, on any device, for large vocabularies: all rows in one pass.

A whole vocabulary is never sorted where its likeliest part will do.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from model.engine.draw import BLOCK, COLDEST, NO_TOKEN, Drawn, Floats, Ids, Knobs

_NARROW = 64
_TOO_NARROW = -2
_BLOCKS_PAY_FROM = 16_384
_CACHED = 2**18
"""Scores."""
_LARGEST_SHARE = {torch.float64: 1 - 2**-40, torch.float32: 1 - 2**-23}


def draw_tensors(
    scores: torch.Tensor, knobs: Sequence[Knobs], uniforms: Sequence[float], widths: Sequence[int]
) -> list[Drawn]:
    """As `model.engine.draw.draw`. The device is waited for once, and again only for rows whose width did not do."""
    vocabulary = scores.shape[-1]
    drawn = [Drawn(NO_TOKEN, 0)] * len(knobs)
    rows = list(range(len(knobs)))
    keys = [(row, _first_width(row, width, vocabulary)) for row, width in zip(knobs, widths, strict=True)]
    numbers = list(uniforms)
    while True:
        outcomes = _draw_once(scores, tuple(keys), numbers)
        again = []
        for place, outcome in enumerate(outcomes):
            if outcome.token == _TOO_NARROW:
                again.append(place)
            else:
                drawn[rows[place]] = outcome
        if not again:
            return drawn
        scores = scores.index_select(0, torch.tensor(again).to(scores.device, non_blocking=True))
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


def _draw_once(scores: torch.Tensor, keys: _Keys, numbers: Sequence[float]) -> list[Drawn]:
    """All groups are begun before the first is waited for."""
    groups = _groups(keys, scores.shape[-1], scores.device)
    if len(groups) == 1:
        return groups[0].begin(scores, numbers)()
    begun = []
    for group in groups:
        own = [numbers[row] for row in group.rows]
        begun.append(group.begin(scores.index_select(0, group.places), own))
    drawn = [Drawn(NO_TOKEN, 0)] * len(keys)
    for group, finish in zip(groups, begun, strict=True):
        for row, outcome in zip(group.rows, finish(), strict=True):
            drawn[row] = outcome
    return drawn


@lru_cache(maxsize=64)
def _groups(keys: _Keys, vocabulary: int, device: torch.device) -> list["_Group"]:
    """Rows that take the same steps at the same width. A batch seldom changes, so its tensors are kept."""
    kinds: dict[tuple[int, bool, bool, bool], list[int]] = {}
    for row, (knobs, width) in enumerate(keys):
        kind = (width, knobs.temperature == 0, knobs.top_k > 0, knobs.top_p < 1)
        kinds.setdefault(kind, []).append(row)
    groups: list[_Group] = []
    for (width, greedy, top_k, top_p), rows in kinds.items():
        if greedy:
            groups.append(_Greedy(rows, device))
        elif top_k or top_p:
            groups.append(_FromLikeliest(rows, device, [keys[row][0] for row in rows], width))
        else:
            for part in _in_parts(rows, vocabulary, device):
                groups.append(_FromAll(part, device, [keys[row][0] for row in part], width))
    return groups


def _in_parts(rows: Sequence[int], vocabulary: int, device: torch.device) -> list[list[int]]:
    """On the processor, what is computed over and over should stay in its cache; a device wants all at once."""
    most = max(1, _CACHED // vocabulary) if device.type == "cpu" else len(rows)
    return [list(rows[first : first + most]) for first in range(0, len(rows), most)]


class _Group:
    """Rows that are drawn together. Values of the rows stand in columns (rows x 1); None is off for all of them."""

    def __init__(self, rows: list[int], device: torch.device) -> None:
        self.rows = rows
        self.places = torch.tensor(rows).to(device)

    def begin(self, scores: torch.Tensor, numbers: Sequence[float]) -> Callable[[], list[Drawn]]:
        """Queue the work on the device. The function that is given back waits for it."""
        raise NotImplementedError


class _Greedy(_Group):
    def begin(self, scores: torch.Tensor, numbers: Sequence[float]) -> Callable[[], list[Drawn]]:
        if scores.device.type == "cpu":
            # numpy looks at several scores at once, torch at one: 11 us against 127
            best = scores.numpy().argmax(axis=1)
            finite = np.isfinite(scores.numpy()[np.arange(len(best)), best])
            return lambda: [Drawn(token, 0) for token in np.where(finite, best, NO_TOKEN).tolist()]
        tokens = scores.argmax(-1, keepdim=True)
        chosen = tokens.where(scores.gather(1, tokens).isfinite(), NO_TOKEN)
        return lambda: [Drawn(token, 0) for [token] in chosen.tolist()]


class _FromAll(_Group):
    """Neither top_k nor top_p: every token has its chance, or every one that min_p and typical_p leave."""

    def __init__(self, rows: list[int], device: torch.device, knobs: list[Knobs], width: int) -> None:
        super().__init__(rows, device)
        self._width = width
        self._inverse = _moved(_inverse_temperatures(knobs), device)
        min_p = _column([row.min_p for row in knobs], off=0, never=0)
        typical_p = _column([row.typical_p for row in knobs], off=1, never=math.inf)
        self._min_p = None if min_p is None else _moved(min_p, device)
        self._typical_p = None if typical_p is None else _moved(typical_p, device)

    def begin(self, scores: torch.Tensor, numbers: Sequence[float]) -> Callable[[], list[Drawn]]:
        scores = scores * self._inverse
        if self._min_p is not None:
            scores = _cut(scores, scores.amax(-1, keepdim=True) + self._min_p.log())
        if self._typical_p is None:
            enough = kept = torch.ones_like(self.places)
        else:
            scores, enough, kept = _typical(scores, self._typical_p, self._width)
        precise = torch.float32 if scores.device.type == "mps" else torch.float64
        uniforms = torch.tensor(numbers, dtype=precise).clamp_(max=_LARGEST_SHARE[precise])
        tokens, valid = _invert(scores.softmax(-1), uniforms.to(scores.device, non_blocking=True))
        if self._typical_p is not None and self._width < scores.shape[-1]:
            tokens = tokens.where(enough, _TOO_NARROW)
        outcomes = torch.stack((tokens.where(valid, NO_TOKEN), kept), dim=-1)
        return lambda: [Drawn(token, width) for token, width in outcomes.tolist()]


class _FromLikeliest(_Group):
    """The likeliest `width` tokens, which do where the last of them has no chance any more.

    The device finds them; what follows is so little that the host is quicker than the device's queue.
    """

    def __init__(self, rows: list[int], device: torch.device, knobs: list[Knobs], width: int) -> None:
        super().__init__(rows, device)
        self._width = width
        self._inverse = _inverse_temperatures(knobs)
        self._inverse_there = _moved(self._inverse, device)
        self._each = np.arange(len(knobs))
        # The place of the last token in top_k.
        self._last = np.array([min(row.top_k, width) - 1 for row in knobs]) if knobs[0].top_k else None
        self._top_p = _column([row.top_p for row in knobs], off=1, never=math.inf)
        self._min_p = _column([row.min_p for row in knobs], off=0, never=0)
        self._typical_p = _column([row.typical_p for row in knobs], off=1, never=math.inf)

    def begin(self, scores: torch.Tensor, numbers: Sequence[float]) -> Callable[[], list[Drawn]]:
        values, tokens = _largest(scores, self._width)
        shares = self._best_shares(scores) if self._last is None else None
        everything = self._width == scores.shape[-1]
        return lambda: self._finish(
            values.cpu().numpy(),
            tokens.cpu().numpy(),
            None if shares is None else shares.cpu().numpy(),
            np.array(numbers),
            everything=everything,
        )

    def _best_shares(self, scores: torch.Tensor) -> torch.Tensor:
        """The likeliest token's share in all, which gives the others theirs."""
        parts = _in_parts(range(len(scores)), scores.shape[-1], scores.device)
        pairs = [
            (scores[part[0] : part[-1] + 1], self._inverse_there[part[0] : part[-1] + 1]) for part in parts
        ]
        return torch.cat([(part * inverse).softmax(-1).amax(-1) for part, inverse in pairs])

    def _finish(
        self, values: Floats, tokens: Ids, best_shares: Floats | None, numbers: Floats, *, everything: bool
    ) -> list[Drawn]:
        """As the class says; `best_shares` are those of `_best_shares`, where no top_k makes them unneeded."""
        with np.errstate(invalid="ignore"):  # what is no number shows in the sum
            weights = np.exp((values - values[:, :1]) * self._inverse)  # 1 for the likeliest token
        if self._last is not None:
            weights[values < values[self._each, self._last][:, None]] = 0
        if self._top_p is not None:
            sums = weights.cumsum(axis=1)
            total = sums[:, -1:] if best_shares is None else 1 / best_shares[:, None]
            weights[sums - weights >= self._top_p * total] = 0
        kept = (
            (weights > 0).sum(axis=1) if best_shares is not None else np.zeros(len(weights), dtype=np.int64)
        )
        if self._min_p is not None:
            weights[weights < self._min_p] = 0
        too_narrow = (weights[:, -1] > 0) & (not everything)
        if self._typical_p is not None:
            weights = self._typical(weights)
        sums = weights.cumsum(axis=1)
        places = (sums <= numbers[:, None] * sums[:, -1:]).sum(axis=1)
        chosen = tokens[self._each, np.minimum(places, self._width - 1)]
        chosen = np.where(sums[:, -1] > 0, np.where(too_narrow, _TOO_NARROW, chosen), NO_TOKEN)
        return [Drawn(token, width) for token, width in zip(chosen.tolist(), kept.tolist(), strict=True)]

    def _typical(self, weights: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            logarithms = torch.from_numpy(np.log(weights))
        scores, _, _ = _typical(logarithms, torch.from_numpy(self._typical_p), self._width)
        return scores.exp().numpy()


def _inverse_temperatures(knobs: list[Knobs]) -> Floats:
    return np.array([[1 / max(row.temperature, COLDEST)] for row in knobs])


def _column(values: list[float], *, off: float, never: float) -> Floats | None:
    """None where the value is off in every row; where it is on in some, `never` cuts nothing from the others."""
    if all(value == off for value in values):
        return None
    return np.array([[never if value == off else value] for value in values])


def _moved(column: Floats, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(column).float().to(device)


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
    return scores.masked_fill(distances > furthest, -math.inf), enough.squeeze(-1), count.squeeze(-1)


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
    return (block * BLOCK + place).squeeze(-1), total.squeeze(-1) > 0
