"""Writes that wait for the same connection share a transaction, and so its one flush to the disk."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

T = TypeVar("T")
Work = Callable[[Session], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a work returned, or what it raised."""

    result: Any = None
    error: Exception | None = None


class Together:
    """A line of works before threads that each have a connection. Nothing is told before it is committed.

    Each work of a group has a savepoint: one that raises is undone alone. Where the commit fails, or the database
    itself, all of the group are undone and told so.
    """

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        transaction: Callable[[], AbstractContextManager[Session]],
        *,
        most: int,
    ) -> None:
        """`most` works share a transaction; with 1, each has its own."""
        self._threads = threads
        self._transaction = transaction
        self._most = most
        self._waiting: deque[tuple[Work, Future[Any]]] = deque()

    def submit(self, work: Callable[[Session], T]) -> Future[T]:
        future: Future[T] = Future()
        self._waiting.append((work, future))
        self._threads.submit(self._do_what_waits)
        return future

    def _do_what_waits(self) -> None:
        group = self._take()
        if not group:
            return
        try:
            with self._transaction() as tx:
                if len(group) == 1:
                    outcomes = [Outcome(group[0][0](tx))]
                else:
                    outcomes = [_with_savepoint(tx, work) for work, _ in group]
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            return
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if outcome.error is not None:
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome.result)

    def _take(self) -> list[tuple[Work, Future[Any]]]:
        """Those that were cancelled while they waited are left out."""
        group: list[tuple[Work, Future[Any]]] = []
        while self._waiting and len(group) < self._most:
            work, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                group.append((work, future))
        return group


def _with_savepoint(tx: Session, work: Work) -> Outcome:
    savepoint = tx.begin_nested()
    try:
        result = work(tx)
        savepoint.commit()
    except OperationalError:
        raise  # a full disk or a broken file: SQLite may have undone everything
    except Exception as error:
        savepoint.rollback()
        return Outcome(error=error)
    finally:
        tx.expunge_all()  # rows that one has read are not those that another reads later
    return Outcome(result)
