"""The answers that are being written, so that they can be stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bot.chat import ConversationKey


@dataclass(frozen=True, slots=True)
class _Writing:
    place: ConversationKey
    asker: str
    stop: Callable[[], None]


class Writings:
    """By the row of the inbox that each answers."""

    def __init__(self) -> None:
        self._writings: dict[int, _Writing] = {}

    @contextmanager
    def begin(
        self, inbox_id: int, place: ConversationKey, asker: str, stop: Callable[[], None]
    ) -> Iterator[None]:
        """An answer to `asker` is being written in the block; `stop` ends it."""
        self._writings[inbox_id] = _Writing(place, asker, stop)
        try:
            yield
        finally:
            del self._writings[inbox_id]

    def asker_of(self, inbox_id: int) -> str | None:
        """Who asked for the answer; None where it is not being written."""
        writing = self._writings.get(inbox_id)
        return None if writing is None else writing.asker

    def stop(self, inbox_id: int) -> bool:
        """False where it is not being written any more."""
        writing = self._writings.get(inbox_id)
        if writing is None:
            return False
        writing.stop()
        return True

    def stop_at(self, place: ConversationKey, asker: str | None = None) -> int:
        """All that are being written at a place, or those for one person; how many there were."""
        there = [
            inbox_id
            for inbox_id, writing in self._writings.items()
            if writing.place == place and asker in (None, writing.asker)
        ]
        return sum(self.stop(inbox_id) for inbox_id in there)
