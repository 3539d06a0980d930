"""Who runs, and what each step computes: many requests share one forward pass. Lives on the engine's thread."""

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Several

import numpy as np

from model.engine.kv_cache import OutOfSlots
from model.engine.pace import Pace
from model.engine.runner import Feed, Runner, Scores
from model.engine.sampler import Choice, choose
from model.engine.sequence import Sequence
from model.errors import BadRequest, EngineError
from model.hardware import empty_device_caches

log = logging.getLogger(__name__)

DRAFTING_UP_TO = 4
"""Requests that run at once: with more, a step has enough to compute without guesses."""
PREFETCH_TOKENS = 128
"""Computed ahead in one step: whoever asks meanwhile waits no longer than for these."""
MOST_FAULTS = 3
"""Passes that fail one after another before it is asked whether the engine itself is at fault."""


class Scheduler:
    """Admits `max_running` at once, first come, first served, but nobody twice in one conversation while others wait.

    A sequence has left by the time that it hears of its end.
    """

    def __init__(
        self, runner: Runner, *, max_running: int, ended: Callable[[Sequence], None] = lambda sequence: None
    ) -> None:
        """`ended` hears of each sequence that leaves."""
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.ahead: list[Sequence] = []
        """Prompts to compute before anybody asks, while nothing else is to do."""
        self._runner = runner
        self._max_running = max_running
        self._ended = ended
        self._pace = Pace()
        self._faults = 0

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.running or self.ahead)

    def step(self) -> None:
        """Let go of who left, let in who waits, compute once, and give each its token."""
        self._drop_cancelled()
        self._admit()
        feeds = self._plan()
        if feeds:
            scores = self._compute(feeds)
            self._hand_out(feeds, scores)
        elif self.ahead and not self.waiting:
            self._compute_ahead()

    def move(self, runner: Runner) -> None:
        """Everybody begins again in `runner`, with the tokens that were written; nobody loses his place."""
        for sequence in [*self.running, *self.ahead]:
            self._leave(sequence)
        self.waiting[:0] = self.running
        self.running.clear()
        self._runner, self._pace = runner, Pace()

    # Who runs

    def _drop_cancelled(self) -> None:
        for sequence in [*self.waiting, *self.running, *self.ahead]:
            if sequence.cancelled:
                self._remove(sequence)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._max_running:
            busy = {sequence.conversation for sequence in self.running}
            sequence = next((s for s in self.waiting if s.conversation not in busy), self.waiting[0])
            self._stop_ahead(sequence.conversation)
            try:
                sequence.begin(self._runner.open(sequence.tokens, sequence.adapter))
            except OutOfSlots:
                if not self.running:
                    self._fail(sequence, _does_not_fit(sequence))
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _remove(self, sequence: Sequence) -> None:
        for queue in (self.waiting, self.running, self.ahead):
            if sequence in queue:
                queue.remove(sequence)
        self._leave(sequence)
        self._ended(sequence)

    def _leave(self, sequence: Sequence) -> None:
        if sequence.place is not None:
            self._runner.close(sequence.place)
            sequence.place = None

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._remove(sequence)
        sequence.deliver(error)

    def _preempt(self) -> None:
        """The one that came last gives its memory to the others, and is computed again later."""
        sequence = self.running.pop()
        self._leave(sequence)
        self.waiting.insert(0, sequence)

    # What a step computes

    def _plan(self) -> dict[Sequence, Feed]:
        """Who writes gets one token, and guesses behind it; prompts share what the pace allows, the oldest first."""
        feeds: dict[Sequence, Feed] = {}
        writing = [sequence for sequence in self.running if sequence.missing == 1]
        reading = [sequence for sequence in self.running if sequence.missing > 1]
        drafting = self._runner.batched and not reading and len(writing) <= DRAFTING_UP_TO
        for sequence in writing:
            feeds[sequence] = sequence.feed(1, sequence.propose() if drafting else ())
        left = self._pace.prompt_tokens(streaming=bool(writing))
        for share, sequence in zip(_shares(left, reading), reading, strict=True):
            if share:
                feeds[sequence] = sequence.feed(share)
        return feeds

    def _compute(self, feeds: dict[Sequence, Feed]) -> Scores | None:
        """The scores behind all feeds that want some. Feeds that cannot be computed now leave `feeds`."""
        while feeds:
            try:
                self._runner.reserve(list(feeds.values()))
                return self._forward(feeds)
            except Exception as error:  # a forward pass can fail in as many ways as there are architectures
                if not is_out_of_memory(error):
                    return self._forward_apart(feeds, error)
                self._make_room(feeds)
        return None

    def _make_room(self, feeds: dict[Sequence, Feed]) -> None:
        """Guesses go first, then the one that came last."""
        empty_device_caches()
        if all(feed.scored <= 1 for feed in feeds.values()):
            last = self.running[-1]
            if len(self.running) > 1:
                self._preempt()
            else:
                self._fail(last, _does_not_fit(last))
            feeds.pop(last, None)
        feeds.update({sequence: _again(sequence, feed) for sequence, feed in feeds.items()})

    def _forward(self, feeds: dict[Sequence, Feed]) -> Scores:
        started = time.monotonic()
        scores = self._runner.forward(list(feeds.values()))
        self._pace.record(
            writing=sum(feed.scored > 0 for feed in feeds.values()),
            prompt_tokens=sum(len(feed.tokens) for feed in feeds.values() if len(feed.tokens) > feed.scored),
            seconds=time.monotonic() - started,
        )
        self._faults = 0
        return scores

    def _forward_apart(self, feeds: dict[Sequence, Feed], error: Exception) -> Scores | None:
        """A pass failed: the request that is to blame ends, the others go on. Raises if each of them fails."""
        self._faults += 1
        if self._faults >= MOST_FAULTS and self._is_broken():
            raise error
        log.error("a forward pass failed", exc_info=error)
        parts: list[Scores] = []
        for sequence in list(feeds):
            feeds[sequence] = _again(sequence, feeds[sequence])
            try:
                parts.append(self._forward({sequence: feeds[sequence]}))
            except Exception as alone:
                feeds.pop(sequence)
                self._fail(
                    sequence, BadRequest(f"The model failed on this request ({type(alone).__name__}).")
                )
        return _below_each_other(parts) if parts else None

    def _is_broken(self) -> bool:
        """Whether even a single token cannot be computed: then no request is to blame."""
        place = None
        try:
            place = self._runner.open([0, 0], None)
            self._runner.forward([Feed(place, [0], scored=1)])
        except OutOfSlots:
            return False
        except Exception:
            return True
        finally:
            if place is not None:
                self._runner.close(place)
        return False

    def _compute_ahead(self) -> None:
        """All but the last token: that one gives the scores, and a state that knows it already is of no use."""
        sequence = self.ahead[0]
        try:
            if sequence.place is None:
                sequence.begin(self._runner.open(sequence.tokens, sequence.adapter))
            tokens = min(PREFETCH_TOKENS, sequence.missing - 1)
            if tokens:
                feeds = [sequence.feed(tokens)]
                self._runner.reserve(feeds)
                self._runner.forward(feeds)
        except Exception as error:
            if not is_out_of_memory(error):
                log.exception("a forward pass failed that nobody waits for")
            self._remove(sequence)
            return
        if sequence.missing <= 1:
            self._remove(sequence)

    def _stop_ahead(self, conversation: str) -> None:
        """What was computed ahead serves from now on; the rest comes with the request itself."""
        for sequence in [other for other in self.ahead if other.conversation == conversation]:
            self._remove(sequence)
        for sequence in self.ahead:
            self._leave(sequence)

    # What comes of it

    def _hand_out(self, feeds: dict[Sequence, Feed], scores: Scores | None) -> None:
        """Choose behind every feed; where the choice is what was guessed, behind the guess, too."""
        if scores is None:
            return
        rows = _first_rows(feeds)
        taken = dict.fromkeys(rows, 0)
        while rows:
            choices = choose([sequence.sampler for sequence in rows], scores[list(rows.values())])
            goes_on = [self._accept(*pair) for pair in zip(rows, choices, strict=True)]
            right = [
                s for s, on in zip(rows, goes_on, strict=True) if on and _was_guessed(s, feeds[s], taken[s])
            ]
            rows = {sequence: rows[sequence] + 1 for sequence in right}
            for sequence in right:
                taken[sequence] += 1
        for sequence, number in taken.items():
            sequence.drafts.record(feeds[sequence].scored - 1, number)
            self._keep_right(sequence)

    def _accept(self, sequence: Sequence, choice: Choice | BadRequest) -> bool:
        """Whether the sequence goes on."""
        if isinstance(choice, BadRequest):
            self._fail(sequence, choice)
            return False
        delta = sequence.accept(choice)
        ends = delta is not None and delta.finish is not None
        if ends:  # the place is free by the time that the end is heard of
            self._keep_right(sequence)
            self._remove(sequence)
        if delta is not None:
            sequence.deliver(delta)
        return not ends

    def _keep_right(self, sequence: Sequence) -> None:
        """Forget what was computed behind the tokens that were chosen."""
        if sequence.place is not None:
            self._runner.truncate(sequence.place, min(sequence.place.length, len(sequence.tokens) - 1))


def _shares(tokens: int, reading: Several[Sequence]) -> list[int]:
    """Of `tokens`, half for the oldest and the rest for the shortest, which are soon done; nothing is left over."""
    shares = [0] * len(reading)
    left = tokens
    for index in sorted(range(len(reading)), key=lambda index: (index > 0, reading[index].missing)):
        most = left - left // 2 if index == 0 and len(reading) > 1 else left
        shares[index] = min(most, reading[index].missing)
        left -= shares[index]
    if reading:
        shares[0] += min(left, reading[0].missing - shares[0])
    return shares


def _again(sequence: Sequence, feed: Feed) -> Feed:
    """The same without guesses, from where the pass that failed has left the place."""
    return sequence.feed(sequence.missing if feed.scored else len(feed.tokens))


def _first_rows(feeds: dict[Sequence, Feed]) -> dict[Sequence, int]:
    """Of each sequence that gets a token, the row of the scores behind its last token that is no guess."""
    rows: dict[Sequence, int] = {}
    row = 0
    for sequence, feed in feeds.items():
        if feed.scored:
            rows[sequence] = row
        row += feed.scored
    return rows


def _was_guessed(sequence: Sequence, feed: Feed, taken: int) -> bool:
    guesses = feed.scored - 1
    return taken < guesses and feed.tokens[len(feed.tokens) - guesses + taken] == sequence.tokens[-1]


def is_out_of_memory(error: Exception) -> bool:
    """torch's own error on a device; on a processor a plain RuntimeError of its allocator, or numpy's."""
    ours = isinstance(error, OutOfSlots | MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return ours or "can't allocate memory" in str(error)


def _below_each_other(parts: Several[Scores]) -> Scores:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(list(parts))


def _does_not_fit(sequence: Sequence) -> BadRequest:
    return BadRequest(
        f"The memory does not hold the {len(sequence.tokens):,} tokens of this conversation: it must be shorter."
    )
