"""The seam to whoever looks on while a model is trained."""

from typing import Protocol


class Watch(Protocol):
    """Called by the process that leads the run; the calls are cheap to make and must be cheap to take."""

    def note(self, sentence: str) -> None:
        """Something that a person should know."""
        ...

    def begin(self, stage: str, steps: int, done: int) -> None:
        """A stage starts, or goes on after `done` of its `steps`."""
        ...

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        """`loss` is of this step, in nats per learnt token."""
        ...

    def check(self, done: int, held_out_loss: float, *, better: bool) -> None:
        """The held-out loss after `done` steps; `better` than ever in this stage."""
        ...


class Unwatched:
    """Nobody looks on."""

    def note(self, sentence: str) -> None: ...

    def begin(self, stage: str, steps: int, done: int) -> None: ...

    def step(self, done: int, loss: float, tokens_per_second: float) -> None: ...

    def check(self, done: int, held_out_loss: float, *, better: bool) -> None: ...
