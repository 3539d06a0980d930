"""When growing answers are edited: one at a time in each channel, in turn, and not too often. Knows no platform."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class EditBudget:
    """The edits of one channel, shared by all answers that are being written in it.

    Who waits holds no text: what is newest is shown when the turn comes. First posts and final texts need no turn.
    """

    def __init__(
        self,
        seconds: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._seconds = seconds
        self._now, self._sleep = now, sleep
        self._next_at = now() + seconds  # what has just ended here may have been edited a moment ago
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until one may edit; nobody else does within. Turns come in the order in which they were asked for."""
        async with self._one_at_a_time:
            await self._sleep(max(self._next_at - self._now(), 0.0))
            self._next_at = self._now() + self._seconds
            yield


class EditBudgets:
    """The budget of each channel in which an answer is being written."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._budgets: WeakValueDictionary[str, EditBudget] = WeakValueDictionary()

    def of(self, channel: str) -> EditBudget:
        """It is forgotten with the last that holds it."""
        budget = self._budgets.get(channel)
        if budget is None:
            budget = self._budgets[channel] = EditBudget(self._seconds)
        return budget
