"""Guesses at the next tokens, copied from earlier in the same dialogue (prompt lookup, Saxena 2023).

A guess is only taken where the model chooses the same token itself, so the text never changes; what changes is how
many tokens one step gives. It pays where people have the model repeat, quote, correct or fill in.
"""

from collections.abc import Sequence

MATCH = 3
"""Tokens that must have stood there before in the same order."""
MOST = 4
SMOOTHING = 0.2
WORTH_IT = 0.3
"""Share of taken guesses below which a request makes none for a while."""
PAUSE = 32


class Drafts:
    """The guesses for one request, and how well they do."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}
        """Where the text goes on behind the last place of each run of `MATCH` tokens."""
        self._indexed = MATCH
        self._taken = 0.5
        self._paused = 0

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that followed when the last `MATCH` of `tokens` stood there before."""
        for end in range(self._indexed, len(tokens)):
            self._behind[tuple(tokens[end - MATCH : end])] = end
        self._indexed = max(self._indexed, len(tokens))
        if self._paused:
            self._paused -= 1
            return []
        place = self._behind.get(tuple(tokens[-MATCH:]))
        return [] if place is None else list(tokens[place : place + min(most, MOST)])

    def record(self, proposed: int, taken: int) -> None:
        """How many of the last guesses the model chose itself."""
        if proposed:
            self._taken += SMOOTHING * (taken / proposed - self._taken)
            if self._taken < WORTH_IT:
                self._taken, self._paused = 0.5, PAUSE
