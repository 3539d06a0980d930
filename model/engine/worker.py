"""The engine's one thread: a bounded queue, and a loop that gives every running request one token a step."""

import logging
import os
import threading
import time
from collections import deque

import torch

from model.engine.sequence import Sequence
from model.errors import BadRequest, EngineDied, EngineError, Overloaded

log = logging.getLogger(__name__)

SMOOTHING = 0.3
"""Share of the newest reply in the running mean of how long replies take."""


class Worker:
    """Admits requests first come, first served; `max_running` run by turns, `max_waiting` more may wait."""

    def __init__(self, *, max_running: int, max_waiting: int, threads: int) -> None:
        """`threads` compute one token together, unless OMP_NUM_THREADS says how many."""
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._threads = threads
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
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
            if len(self._running) + len(self._waiting) >= self._max_running + self._max_waiting:
                raise self._overloaded()
            self._waiting.append(sequence)
            self._changed.notify()

    def cancel(self, sequence: Sequence) -> None:
        """A running request ends at the next token; one that waits or has ended, at once."""
        with self._changed:
            sequence.cancelled = True
            if sequence in self._waiting:
                self._waiting.remove(sequence)

    def check_alive(self) -> None:
        if self._ended is not None:
            raise EngineDied(str(self._ended))

    def count(self) -> tuple[int, int]:
        """Requests that run, and that wait."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def close(self) -> None:
        """End what runs and wait for the thread. Closing twice does nothing."""
        self._end_all(EngineDied("The engine was closed."))
        self._thread.join()

    # On the engine's thread

    def _run(self) -> None:
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    self.step()
        except BaseException as error:
            log.exception("the engine's thread died")
            self._end_all(
                EngineDied(f"The engine stopped by a fault of its own ({type(error).__name__}: {error}).")
            )

    def step(self) -> None:
        """Let go of who left, let in who waits, and give each a token."""
        self._drop_cancelled()
        self._admit()
        for sequence in tuple(self._running):
            self._advance(sequence)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._running or self._waiting)
            return self._ended is None

    def _drop_cancelled(self) -> None:
        for sequence in tuple(self._running):
            if sequence.cancelled:
                self._remove(sequence)

    def _admit(self) -> None:
        with self._changed:
            places = max(0, self._max_running - len(self._running))
            admitted = [self._waiting.popleft() for _ in range(min(places, len(self._waiting)))]
            self._running += admitted
        for sequence in admitted:
            sequence.start()

    def _advance(self, sequence: Sequence) -> None:
        """One token of one request. What only this request suffers from ends only this request."""
        try:
            delta = sequence.advance()
        except BadRequest as error:
            self._fail(sequence, error)
            return
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._fail(sequence, self._out_of_memory(sequence))
            return
        if delta is None:
            return
        if delta.finish is not None:  # the place is free by the time that the end is heard of
            self._remember(delta.finish.total_seconds - delta.finish.queue_seconds)
            self._remove(sequence)
        sequence.deliver(delta)

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._remove(sequence)
        sequence.deliver(error)

    def _remove(self, sequence: Sequence) -> None:
        with self._changed:
            if sequence in self._running:
                self._running.remove(sequence)
        sequence.release()

    def _end_all(self, error: EngineDied) -> None:
        with self._changed:
            self._ended = self._ended or error
            sequences = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
            self._changed.notify()
        for sequence in sequences:
            sequence.deliver(EngineDied(str(error)))

    # How long things take

    def _remember(self, seconds: float) -> None:
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + SMOOTHING * (seconds - mean)

    def _overloaded(self) -> Overloaded:
        """Place comes free when one of the running requests ends. Before any has, it takes as long again."""
        now = time.monotonic()
        oldest = max((now - s.started_at for s in self._running if s.started_at is not None), default=0.0)
        seconds = max(1.0, (oldest if self._mean_seconds is None else self._mean_seconds) / self._max_running)
        return Overloaded(
            f"{len(self._running)} replies are being written and {len(self._waiting)} wait, which is all that the "
            f"queue holds. Please try again in about {seconds:.0f} s.",
            retry_after=seconds,
        )

    def _out_of_memory(self, sequence: Sequence) -> EngineError:
        sequence.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        others = len(self._running) - 1
        message = f"The memory does not hold the {sequence.length:,} tokens of this conversation"
        if not others:
            return BadRequest(f"{message}: it must be shorter.")
        seconds = max(1.0, self._mean_seconds or 1.0)
        return Overloaded(f"{message} beside {others} other replies. Please try again.", retry_after=seconds)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """On a processor it is a plain RuntimeError of the allocator."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
