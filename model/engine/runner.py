"""What the scheduler asks of a forward pass: which tokens of which sequences go in, and the scores that come out.

Knows no tensors: scores are torch's or numpy's, as the runner computes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Scores = Any
"""rows x vocabulary: a tensor of torch or an array of numpy."""


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

    def forward(self, feeds: Sequence[Feed]) -> Scores:
        """The wanted scores, in the order of `feeds`."""
        ...

    def truncate(self, place: Place, length: int) -> None:
        """Forget what was computed behind `length` tokens."""
        ...

    def close(self, place: Place) -> None: ...
