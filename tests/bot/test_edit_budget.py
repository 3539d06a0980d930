"""Answers that grow side by side in one channel are edited in turn, never two at once, by a clock that tests move."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush

from bot.edit_budget import EditBudget, EditBudgets
from bot.streaming import Preview

SECONDS, TAKES = 1.25, 0.25
"""Between two edits, and for one to arrive."""
DISCORDS_EDITS, DISCORDS_WINDOW = 5, 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        woken = asyncio.Event()
        heappush(self._sleepers, (self.now + seconds, self._count, woken))
        if seconds <= 0:
            woken.set()
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Everybody who sleeps until then wakes up in order, and does what there is to do."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, woken = heappop(self._sleepers)
            woken.set()
            await settle()
        self.now = end


async def settle() -> None:
    """Nobody waits for anything outside, so some rounds of the event loop are enough for all that can happen."""
    for _ in range(50):
        await asyncio.sleep(0)


class Channel:
    """What stands in a channel of a platform that takes a moment for an edit, and few in a while."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.edits: list[tuple[float, str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.texts: dict[str, str] = {}
        self.changed = asyncio.Condition()

    async def edit(self, name: str, text: str) -> None:
        self.edits.append((self.clock.now, name))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self.clock.sleep(TAKES)
        self.texts[name] = text
        self.in_flight -= 1

    async def post(self, name: str, text: str) -> None:
        async with self.changed:
            self.texts[name] = text
            self.changed.notify_all()

    async def wait_for_messages(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.texts) == count)


class Sink:
    """An answer's message in the channel."""

    limit = 2000
    typing_seconds = 3600.0

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name

    @property
    def begun(self) -> bool:
        return self._name in self._channel.texts

    async def show(self, pieces: Sequence[str]) -> bool:
        if self.begun:
            await self._channel.edit(self._name, pieces[0])
        else:
            await self._channel.post(self._name, pieces[0])
        return True

    async def typing(self) -> None: ...


async def test_ten_answers_in_one_channel_are_edited_in_turn_with_their_newest_text() -> None:
    clock = Clock()
    channel, budget = Channel(clock), EditBudget(SECONDS, now=clock, sleep=clock.sleep)
    names = [f"answer {number}" for number in range(10)]
    previews = {name: Preview(Sink(channel, name), budget) for name in names}
    for name, preview in previews.items():
        await preview.start()
        await preview.append(f"{name}:")
    await channel.wait_for_messages(10)
    assert channel.edits == []
    for word in range(300):
        for preview in previews.values():
            await preview.append(f" {word}")
        await clock.advance(0.125)
    await clock.advance(TAKES)
    finals = {name: " ".join(await preview.finish()) for name, preview in previews.items()}

    times = [at for at, _ in channel.edits]
    assert times == [1000 + SECONDS * turn for turn in range(1, 31)]
    assert all(
        sum(begin <= at < begin + DISCORDS_WINDOW for at in times) <= DISCORDS_EDITS for begin in times
    )
    assert channel.most_in_flight == 1
    assert Counter(name for _, name in channel.edits) == Counter(names * 3)
    assert channel.texts[channel.edits[-1][1]].endswith(" 299")
    assert finals == {name: f"{name}: {' '.join(map(str, range(300)))}" for name in names}


async def test_a_channel_that_is_busy_holds_up_no_other() -> None:
    budgets = EditBudgets(0)
    async with budgets.of("one").turn(), budgets.of("two").turn():
        pass


async def test_who_waits_in_vain_does_not_keep_the_others_from_their_turn() -> None:
    budget = EditBudget(0)
    turns = []

    async def edit(number: int) -> None:
        async with budget.turn():
            turns.append(number)

    async with budget.turn():
        waiting = [asyncio.create_task(edit(number)) for number in range(3)]
        await settle()
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert turns == [1, 2]


def test_a_channels_budget_is_shared_while_somebody_holds_it_and_then_forgotten() -> None:
    budgets = EditBudgets(SECONDS)
    held = budgets.of("here")
    assert budgets.of("here") is held
    assert budgets.of("there") is not held
    forgotten = weakref.ref(held)
    del held
    gc.collect()
    assert forgotten() is None
