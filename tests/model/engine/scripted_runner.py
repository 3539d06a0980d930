"""Stand-ins for a runner: one that says what a test tells it, and one that watches a real one."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.engine.kv_cache import OutOfSlots
from model.engine.runner import Feed, Place, Runner, Scores

Step = int | None | threading.Event | BaseException
"""A token to prefer; None for scores that are no numbers; an event to wait for; an exception to raise each time."""
PATIENCE = 30
"""Seconds that an event may take to be set."""


@dataclass(slots=True, eq=False)
class ScriptedPlace:
    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.tokens)


class ScriptedRunner:
    """Scores prefer the next step of a prompt's script, and the end token behind its last one.

    Together the places hold `budget_tokens`; more is refused with `refusal`: `OutOfSlots` comes before the pass, as
    from a KV cache, and any other exception from the pass itself. Nothing is kept of places that are closed.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        script: Callable[[str], Iterable[Step]],
        *,
        vocabulary: int = 322,
        batched: bool = True,
        budget_tokens: int = 10**9,
        refusal: Exception | None = None,
    ) -> None:
        """`script` gives the steps for a prompt, which it sees as text."""
        self.batched = batched
        self._tokenizer = tokenizer
        self._script = script
        self._vocabulary = vocabulary
        self._budget = budget_tokens
        self._refusal = refusal or OutOfSlots()
        self._scripts: dict[tuple[int, ...], list[tuple[list[Step], Step]]] = {}
        """Of each prompt, for every token of the reply what comes before it, and the token."""
        self._places: list[ScriptedPlace] = []

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        """A prompt that goes on from a known one is that one, preempted and back again."""
        if sum(place.length for place in self._places) + len(prompt) > self._budget:
            raise OutOfSlots
        tokens = tuple(prompt)
        known = [beginning for beginning in self._scripts if tokens[: len(beginning)] == beginning]
        if not known:
            steps = self._script(self._tokenizer.decode(list(tokens)))
            self._scripts[tokens] = _by_token([*steps, self._tokenizer.eos_token_id])
        place = ScriptedPlace(max(known, key=len, default=tokens))
        self._places.append(place)
        return place

    def reserve(self, feeds: Sequence[Feed]) -> None:
        tokens = sum(len(feed.tokens) for feed in feeds)
        if isinstance(self._refusal, OutOfSlots) and self._taken() + tokens > self._budget:
            raise self._refusal

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        if self._taken() + sum(len(feed.tokens) for feed in feeds) > self._budget:
            raise self._refusal
        rows = [
            self._row(feed, len(feed.tokens) - feed.scored + row)
            for feed in feeds
            for row in range(feed.scored)
        ]
        for feed in feeds:
            _place(feed).tokens.extend(feed.tokens)
        return torch.stack(rows) if rows else torch.empty(0, self._vocabulary)

    def truncate(self, place: Place, length: int) -> None:
        assert isinstance(place, ScriptedPlace)
        del place.tokens[length:]

    def close(self, place: Place) -> None:
        assert isinstance(place, ScriptedPlace)
        self._places.remove(place)

    def _taken(self) -> int:
        return sum(place.length for place in self._places)

    def _row(self, feed: Feed, index: int) -> Tensor:
        """The scores behind the token at `index` of the feed."""
        place = _place(feed)
        script = self._scripts[place.prompt]
        written = place.length + index + 1 - len(place.prompt)
        before, token = script[min(written, len(script) - 1)]
        for step in before:
            if isinstance(step, threading.Event):
                assert step.wait(PATIENCE)
            elif isinstance(step, BaseException):
                raise step
        row = torch.zeros(self._vocabulary)
        if isinstance(token, int):
            row[token] = 100.0
        else:
            row[:] = torch.nan
        return row


class Watched:
    """A runner whose open places are counted, and whose passes are remembered."""

    def __init__(self, runner: Runner, *, batched: bool | None = None) -> None:
        """`batched` False keeps the scheduler from guessing ahead."""
        self.batched = runner.batched if batched is None else batched
        self.places: list[Place] = []
        self.passes: list[list[Feed]] = []
        self._runner = runner

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        place = self._runner.open(prompt, adapter)
        assert place not in self.places
        self.places.append(place)
        return place

    def reserve(self, feeds: Sequence[Feed]) -> None:
        self._runner.reserve(feeds)

    def forward(self, feeds: Sequence[Feed]) -> Scores:
        assert all(feed.place in self.places and feed.tokens for feed in feeds)
        self.passes.append(list(feeds))
        return self._runner.forward(feeds)

    def truncate(self, place: Place, length: int) -> None:
        assert place in self.places
        self._runner.truncate(place, length)

    def close(self, place: Place) -> None:
        self.places.remove(place)
        self._runner.close(place)


def tokens_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tokens


def _by_token(steps: Iterable[Step]) -> list[tuple[list[Step], Step]]:
    parts: list[tuple[list[Step], Step]] = []
    before: list[Step] = []
    for step in steps:
        if step is None or isinstance(step, int):
            parts.append((before, step))
            before = []
        else:
            before.append(step)
    return parts


def _place(feed: Feed) -> ScriptedPlace:
    assert isinstance(feed.place, ScriptedPlace)
    return feed.place
