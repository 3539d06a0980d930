"""How much of a prompt may join a step, so that those who stream hardly notice. Knows numbers alone."""

SMOOTHING = 0.2
"""Share of the newest step in the running means."""


class Pace:
    """Learns what steps cost. A step that takes a piece of a prompt along is at most `SLOWDOWN` times a plain one."""

    SLOWDOWN = 2.5
    LEAST, MOST = 16, 512

    def __init__(self) -> None:
        self._plain: float | None = None
        self._per_token: float | None = None

    def prompt_tokens(self, *, streaming: bool) -> int:
        """How many tokens of prompts the next step may compute beside what it writes."""
        if not streaming:
            return self.MOST
        if self._plain is None or self._per_token is None:
            return 2 * self.LEAST
        affordable = (self.SLOWDOWN - 1) * self._plain / self._per_token
        return max(self.LEAST, min(self.MOST, int(affordable)))

    def record(self, *, writing: int, prompt_tokens: int, seconds: float) -> None:
        """A step wrote for `writing` requests and computed `prompt_tokens` beside."""
        if not prompt_tokens:
            self._plain = _mean(self._plain, seconds)
            return
        beside = seconds - (self._plain or 0.0) if writing else seconds
        self._per_token = _mean(self._per_token, max(beside, 0.1 * seconds) / prompt_tokens)


def _mean(mean: float | None, value: float) -> float:
    return value if mean is None else mean + SMOOTHING * (value - mean)
