"""What stands where in the one row of tokens of a pass: tokens of many sequences. Knows slots, no tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.engine.kv_cache import Slot
from model.engine.runner import Feed


@dataclass(frozen=True, slots=True)
class Piece:
    """Places `start` to `end` of the row belong to `slot`, behind the `past` tokens that it holds."""

    slot: Slot
    start: int
    end: int
    past: int

    @property
    def total(self) -> int:
        return self.past + self.end - self.start


@dataclass(frozen=True, slots=True)
class Row:
    """Single tokens first, then longer pieces, each by the number of their slot."""

    feeds: Sequence[Feed]
    """In the order of the row."""
    pieces: Sequence[Piece]
    tokens: list[int]
    positions: list[int]
    wanted: list[int]
    """The places whose scores are wanted, in the order in which the feeds were given."""

    def advance(self) -> None:
        """The values of the row's tokens stand in their slots now."""
        for feed, piece in zip(self.feeds, self.pieces, strict=True):
            piece.slot.advance(feed.tokens)


def lay_out(feeds: Sequence[Feed]) -> Row:
    order = sorted(range(len(feeds)), key=lambda index: _row_order(feeds[index]))
    ordered = [feeds[index] for index in order]
    pieces: list[Piece] = []
    start = 0
    for feed in ordered:
        assert isinstance(feed.place, Slot)
        end = start + len(feed.tokens)
        pieces.append(Piece(feed.place, start, end, feed.place.length))
        start = end
    ends = {index: piece.end for index, piece in zip(order, pieces, strict=True)}
    return Row(
        feeds=ordered,
        pieces=pieces,
        tokens=[token for feed in ordered for token in feed.tokens],
        positions=[place for piece in pieces for place in range(piece.past, piece.total)],
        wanted=[
            row for index, feed in enumerate(feeds) for row in range(ends[index] - feed.scored, ends[index])
        ],
    )


def growth(feeds: Sequence[Feed]) -> int:
    """Tokens beyond those that the slots have held before, whose memory they still have."""
    return sum(map(_growth, feeds))


def _growth(feed: Feed) -> int:
    assert isinstance(feed.place, Slot)
    return max(0, feed.place.length + len(feed.tokens) - feed.place.committed)


def _row_order(feed: Feed) -> tuple[bool, int]:
    assert isinstance(feed.place, Slot)
    return len(feed.tokens) > 1, feed.place.number
