"""From examples to batches: several examples a row, none of which sees another. Knows no model.

A row is as long as the shortest power of two, from 256 to the context, that holds its longest example: attention
costs the row's length squared, and few lengths let `torch.compile` do its work once for each.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.pretrain.examples import Examples

IGNORED = -100
SHORTEST_ROW = 256
WINDOW = 2_000
"""Examples that are packed together: enough to fill rows to 98 %, few enough that every epoch mixes anew."""

Row = list[int]


class Plan(NamedTuple):
    """One micro-batch to be: its shape, and which examples stand in which row; rows may be missing at the end."""

    height: int
    row_length: int
    rows: tuple[Row, ...]


class MicroBatch(NamedTuple):
    """One forward pass; every tensor is rows by length. Padding is segment 0 and has ignored labels."""

    ids: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor
    """Already shifted: the label at a place is the token that follows it."""


def plan_epoch(examples: Examples, *, context: int, micro_tokens: int, seed: Sequence[int]) -> list[Plan]:
    """The micro-batches of one pass over `examples`, shuffled; the same for the same `seed`."""
    random = np.random.default_rng(list(seed))
    lengths = examples.lengths
    plans: list[Plan] = []
    for row_length, members in _by_row_length(random.permutation(len(examples)), lengths, context).items():
        windows = (members[start : start + WINDOW] for start in range(0, len(members), WINDOW))
        rows = [row for window in windows for row in pack(window, lengths, row_length)]
        height = max(1, min(micro_tokens // row_length, len(rows)))
        order = random.permutation(len(rows))
        for start in range(0, len(rows), height):
            chosen = tuple(rows[index] for index in order[start : start + height])
            plans.append(Plan(height, row_length, chosen))
    return [plans[index] for index in random.permutation(len(plans))]


def _by_row_length(
    order: NDArray[np.int64], lengths: NDArray[np.int64], context: int
) -> dict[int, list[int]]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in order:
        row_length = min(SHORTEST_ROW, context)
        while row_length < lengths[index]:
            row_length = min(2 * row_length, context)
        members[row_length].append(int(index))
    return dict(sorted(members.items()))


def pack(members: Sequence[int], lengths: NDArray[np.int64], row_length: int) -> list[Row]:
    """Best fit, the longest first: each example goes where it leaves the least room."""
    rows: list[Row] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in sorted(members, key=lambda index: -lengths[index]):
        length = int(lengths[index])
        place = bisect_left(room, (length, -1))
        if place == len(room):
            rows.append([])
            left, row = row_length, len(rows) - 1
        else:
            left, row = room.pop(place)
        rows[row].append(index)
        insort(room, (left - length, row))
    return rows


def build_batch(examples: Examples, plan: Plan, padding: int) -> MicroBatch:
    """The tensors of `plan`, filled up with empty rows: every batch of one row length has one shape."""
    shape = (plan.height, plan.row_length)
    ids = np.full(shape, padding, np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    positions, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, row in enumerate(plan.rows):
        place = 0
        for segment, index in enumerate(row, 1):
            start, end = examples.starts[index], examples.starts[index + 1]
            span = slice(place, place + end - start)
            tokens = examples.ids[start:end]
            ids[number, span] = tokens
            positions[number, span] = np.arange(end - start)
            segments[number, span] = segment
            labels[number, span.start : span.stop - 1] = np.where(
                examples.learnt[start + 1 : end], tokens[1:], IGNORED
            )
            place = span.stop
    return MicroBatch(*(torch.from_numpy(array) for array in (ids, positions, segments, labels)))


def learnt_in(examples: Examples, plan: Plan) -> int:
    """How many tokens of `plan` are learnt; the first of an example never is."""
    return sum(
        int(examples.learnt[examples.starts[index] + 1 : examples.starts[index + 1]].sum())
        for row in plan.rows
        for index in row
    )


def endless(
    examples: Examples, *, context: int, micro_tokens: int, group: int, seed: Sequence[int]
) -> Iterator[list[Plan]]:
    """Groups of `group` micro-batches, one an optimiser step, epoch after epoch.

    What does not fill the last group of an epoch waits for no other: it is left out of that one epoch.
    """
    epoch = 0
    while True:
        plans = plan_epoch(examples, context=context, micro_tokens=micro_tokens, seed=(*seed, epoch))
        for start in range(0, max(1, len(plans) // group) * group, group):
            yield [plans[index % len(plans)] for index in range(start, start + group)]
        epoch += 1
