"""The engine's one thread: a bounded queue into the scheduler, steps while there is work, and what ends it all."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from model.engine.runner import Runner
from model.engine.scheduler import Scheduler
from model.engine.sequence import Sequence
from model.errors import EngineDied, Overloaded

log = logging.getLogger(__name__)
Result = TypeVar("Result")

SMOOTHING = 0.3
"""Share of the newest reply in the running mean of how long replies take."""


class Worker:
    """`max_running` requests run together, `max_waiting` more may wait."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_running: int,
        max_waiting: int,
        computing: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """The thread lives inside of what `computing` gives."""
        self._scheduler = Scheduler(runner, max_running=max_running, ended=self._forget)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._computing = computing
        self._moved = False
        self._active: dict[Sequence, None] = {}
        """Every request that was let in and has not ended."""
        self._new: deque[Sequence] = deque()
        self._ahead: deque[Sequence] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._mean_seconds: float | None = None
        self._ended: EngineDied | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # For any thread

    def submit(self, sequence: Sequence) -> None:
        """Queue a request. Raises `Overloaded` when the queue is full, `EngineDied` when nothing runs any more."""
        with self._changed:
            self.check_alive()
            if len(self._active) >= self._max_running + self._max_waiting:
                raise self._overloaded()
            self._active[sequence] = None
            self._new.append(sequence)
            self._changed.notify()

    def compute_ahead(self, sequence: Sequence) -> None:
        """Compute its prompt while nothing else is to do, unless the engine is busy or has ended."""
        with self._changed:
            if self._ended is None and not self._active:
                self._ahead.append(sequence)
                self._changed.notify()

    def cancel(self, sequence: Sequence) -> None:
        """A running request ends with the step; one that waits or has ended, at once."""
        with self._changed:
            sequence.cancelled = True
            self._active.pop(sequence, None)
            self._changed.notify()

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Have the engine's thread call `function` between two steps."""
        future: Future[Result] = Future()
        with self._changed:
            self.check_alive()
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def check_alive(self) -> None:
        if self._ended is not None:
            raise EngineDied(str(self._ended))

    def count(self) -> tuple[int, int]:
        """Requests that run, and that wait."""
        with self._changed:
            running = min(len(self._active), self._max_running)
            return running, len(self._active) - running

    def adapters_in_use(self) -> set[str]:
        """The keys that requests began with. On the engine's thread."""
        with self._changed:
            sequences = [*self._active, *self._ahead, *self._scheduler.ahead]
            return {sequence.adapter for sequence in sequences if sequence.adapter is not None}

    def move(self, runner: Runner, computing: Callable[[], AbstractContextManager[Any]]) -> None:
        """Compute with `runner` from now on; what is under way goes on there. On the engine's thread."""
        self._scheduler.move(runner)
        self._computing, self._moved = computing, True

    def close(self) -> None:
        """End what runs and wait for the thread. Closing twice does nothing."""
        self._end_all(EngineDied("The engine was closed."))
        self._thread.join()

    # On the engine's thread

    def _run(self) -> None:
        try:
            goes_on = True
            while goes_on:
                self._moved = False
                with self._computing():
                    while (goes_on := self._take_work()) and not self._moved:
                        self._scheduler.step()
        except BaseException as error:
            log.exception("the engine's thread died")
            self._end_all(
                EngineDied(f"The engine stopped by a fault of its own ({type(error).__name__}: {error}).")
            )

    def _take_work(self) -> bool:
        """Wait until there is some; whether the engine goes on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._new or self._calls or self._ahead or not self._scheduler.idle
            )
            self._scheduler.waiting += self._new
            self._scheduler.ahead += self._ahead
            calls = list(self._calls)
            for queue in (self._new, self._ahead, self._calls):
                queue.clear()
        for function, future in calls:
            _fulfil(function, future)
        return self._ended is None

    def _end_all(self, error: EngineDied) -> None:
        with self._changed:
            self._ended = self._ended or error
            sequences = list(self._active)
            calls = list(self._calls)
            self._active.clear()
            self._calls.clear()
            self._changed.notify()
        for sequence in sequences:
            sequence.deliver(EngineDied(str(error)))
        for _, future in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _forget(self, sequence: Sequence) -> None:
        """It has ended, well or not: its place in the queue is free."""
        with self._changed:
            known = self._active.pop(sequence, self) is None
        if known and sequence.started_at is not None:
            seconds = time.monotonic() - sequence.started_at
            mean = seconds if self._mean_seconds is None else self._mean_seconds
            self._mean_seconds = mean + SMOOTHING * (seconds - mean)

    def _overloaded(self) -> Overloaded:
        """Place comes free when one of the running requests ends. Before any has, it takes as long again."""
        now = time.monotonic()
        started = [s.started_at for s in self._active if s.started_at is not None]
        oldest = now - min(started, default=now)
        mean = oldest if self._mean_seconds is None else self._mean_seconds
        seconds = max(1.0, mean / self._max_running)
        running, waiting = self.count()
        return Overloaded(
            f"{running} replies are being written and {waiting} wait, which is all that the queue holds. "
            f"Please try again in about {seconds:.0f} s.",
            retry_after=seconds,
        )


def _fulfil(function: Callable[[], Result], future: Future[Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return  # whoever asked has left
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
