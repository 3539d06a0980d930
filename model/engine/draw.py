"""From scores to one token a row: temperature, top_k, top_p, min_p, typical_p, then one number per row decides.

The meaning is that of transformers' warpers, in their order. Knows no request, no text, and no random generator: what
a row draws depends on its own scores, values and number alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.engine.runner import Scores

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

BLOCK = 64
"""torch's scores come in whole blocks: `pad_width` more, all minus infinity, where the vocabulary does not divide."""
NO_TOKEN = -1
"""What a row draws that has no finite score, or one that is no number."""
COLDEST = 1e-8
"""Below this temperature, scores divided by it could overflow; the likeliest token is then certain anyway."""


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
    scores: Scores, knobs: Sequence[Knobs], uniforms: Sequence[float], widths: Sequence[int]
) -> list[Drawn]:
    """A token for each row of `scores` (float32; torch's in whole blocks), or `NO_TOKEN`.

    `uniforms` lie in [0, 1). `widths` are those of the row's last `Drawn`, and 0 at first.
    """
    if isinstance(scores, np.ndarray):
        rows = zip(scores, knobs, uniforms, strict=True)
        return [Drawn(_draw_row(*row), 0) for row in rows]
    from model.engine.draw_tensors import draw_tensors

    return draw_tensors(scores, knobs, uniforms, widths)


def _draw_row(scores: npt.NDArray[np.float32], knobs: Knobs, number: float) -> int:
    """By numpy, for the small vocabularies of small models."""
    best = int(scores.argmax())
    if not np.isfinite(scores[best]):
        return NO_TOKEN
    if knobs.temperature == 0:
        return best
    weights = np.exp((scores.astype(np.float64) - float(scores[best])) / max(knobs.temperature, COLDEST))
    if 0 < knobs.top_k < len(scores):
        weights[scores < np.partition(scores, -knobs.top_k)[-knobs.top_k]] = 0
    tokens = None
    if knobs.top_k or knobs.top_p < 1:
        tokens, weights = _nucleus(weights, knobs.top_p)
    weights[weights < knobs.min_p] = 0  # the likeliest token has 1
    if knobs.typical_p < 1:
        weights = _typical(weights, knobs.typical_p)
    sums = weights.cumsum()
    place = int(np.searchsorted(sums, min(number * sums[-1], np.nextafter(sums[-1], 0)), side="right"))
    return place if tokens is None else int(tokens[place])


def _nucleus(weights: Floats, top_p: float) -> tuple[Ids, Floats]:
    """The likeliest tokens that make up `top_p` of the mass, and theirs, the likeliest first.

    Tokens so unlikely that all of them together could not fill the rest are never sorted.
    """
    total = weights.sum()
    tokens = np.flatnonzero(weights > total * (1 - top_p) / len(weights))
    likely = weights[tokens]
    order = np.argsort(-likely, kind="stable")
    tokens, likely = tokens[order], likely[order]
    kept = likely.cumsum() - likely < (top_p * total if top_p < 1 else np.inf)
    kept[:1] = True
    return tokens[kept], likely[kept]


def _typical(weights: Floats, mass: float) -> Floats:
    """Keep the tokens whose surprise is nearest to the expected one, up to `mass`."""
    probabilities = weights / weights.sum()
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities)
    entropy = (probabilities[weights > 0] * surprise[weights > 0]).sum()
    distances = np.abs(surprise - entropy)
    nearest = np.argsort(distances, kind="stable")
    count = int((probabilities[nearest].cumsum() < mass).sum())
    furthest = distances[nearest[min(count, len(nearest) - 1)]]
    return np.where(distances > furthest, 0, weights)
