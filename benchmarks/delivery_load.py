"""How delivery bears a crowd: many conversations, a steady rate, an engine and a platform that answer at once.

    python -m benchmarks.delivery_load [--conversations 1000] [--rate 50] [--seconds 120] [--json]

In one process, on a SQLite file: how long a message waits for its place in the inbox (before it could be acknowledged),
how late the event loop comes to what is due, how long people wait for the answer, what a message costs the processor
(those who speak included), and how memory grows.
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from bot.answer import Answerer
from bot.chat import Author, ConversationKey, IncomingMessage, PlatformName
from bot.choices.book import Books
from bot.commands.run import Commands
from bot.controls import Controls
from bot.delivery.answering import Answering
from bot.delivery.courier import HistoryPage, Post
from bot.delivery.desk import Delivery
from bot.delivery.worker import Worker
from bot.settings import load_settings
from bot.writings import Writings
from model.request import (
    AdapterRef,
    ChatMessage,
    Completion,
    Delta,
    EngineHealth,
    GenerationRequest,
)
from storage.database import Database, migrate

TICK = 0.01
"""Seconds between two looks at the event loop."""


class AtOnce:
    """An engine that answers at once."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        return self._generate()

    async def _generate(self) -> AsyncGenerator[Delta, None]:
        yield Delta("Yes, ")
        finish = Completion("stop", 10, 2, 0, 1, 0.0, 0.0, 0.0)
        yield Delta("of course.", finish=finish)

    async def prefetch(self, request: GenerationRequest) -> None: ...

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return 10 * len(messages)

    async def load_adapter(self, ref: AdapterRef) -> None: ...

    async def health(self) -> EngineHealth:
        return EngineHealth("echo", "echo@0", "cpu", "float32", parameters=1, context_tokens=4096)

    async def close(self) -> None: ...


@dataclass
class Silent:
    """A courier that takes every post at once, and notes how long each message waited for it."""

    name: ClassVar[PlatformName] = "discord"
    typing_seconds: float = 8.0
    has_controls = True
    said_at: dict[str, float] = field(default_factory=dict)
    """When those that wait for their answer were said."""
    waits: "array[float]" = field(default_factory=lambda: array("d"))
    posts: int = 0

    def limit(self, question: IncomingMessage) -> int:
        return 2000

    async def describe(self, question: IncomingMessage) -> IncomingMessage:
        return question

    async def post(self, post: Post) -> str:
        self.posts += 1
        said_at = self.said_at.pop(post.question.message_id, None)
        if said_at is not None:
            self.waits.append(1000 * (time.perf_counter() - said_at))
        return f"a{self.posts}"

    async def find(self, post: Post) -> str | None:
        return None

    async def is_answered(self, question: IncomingMessage) -> bool:
        return False

    async def edit(
        self,
        question: IncomingMessage,
        message_id: str,
        text: str,
        part: int,
        controls: Controls | None = None,
    ) -> None: ...

    def may_edit(self) -> bool:
        return True

    async def delete(self, question: IncomingMessage, message_id: str) -> None: ...

    async def typing(self, question: IncomingMessage) -> None: ...

    async def read_history(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        return HistoryPage([], after, more=False)

    async def is_newer(self, place: ConversationKey, after: str) -> bool:
        return False


@dataclass
class Figures:
    messages: int = 0
    answered: int = 0
    inbox_p50_ms: float = 0.0
    inbox_p99_ms: float = 0.0
    loop_lag_p99_ms: float = 0.0
    answer_p50_ms: float = 0.0
    answer_p99_ms: float = 0.0
    cpu_ms_per_message: float = 0.0
    memory_mb_at_quarter: float = 0.0
    memory_mb_at_end: float = 0.0


async def measure(conversations: int, rate: float, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'load.db'}"
        await migrate(url)
        database = await Database.open(url)
        try:
            return await _measure(database, conversations, rate, seconds)
        finally:
            await database.close()


async def _measure(database: Database, conversations: int, rate: float, seconds: float) -> Figures:
    courier, delivery = Silent(), _delivery(database)
    running = asyncio.create_task(delivery.run())
    await delivery.connected(courier)
    lags, total = array("d"), int(rate * seconds)
    cpu = time.process_time()
    looking = asyncio.create_task(_look_at_the_loop(lags))
    waits, memory = await _talk(delivery, courier, conversations, rate, total)
    async with asyncio.timeout(60):
        while courier.said_at:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    cpu = time.process_time() - cpu
    memory.append(_memory_mb())
    looking.cancel()
    running.cancel()
    await asyncio.gather(looking, running, return_exceptions=True)
    return Figures(
        messages=total,
        answered=len(courier.waits),
        inbox_p50_ms=_percentile(waits, 50),
        inbox_p99_ms=_percentile(waits, 99),
        loop_lag_p99_ms=_percentile(lags, 99),
        answer_p50_ms=_percentile(courier.waits, 50),
        answer_p99_ms=_percentile(courier.waits, 99),
        cpu_ms_per_message=round(1000 * cpu / total, 2),
        memory_mb_at_quarter=memory[0],
        memory_mb_at_end=memory[-1],
    )


async def _talk(
    delivery: Delivery, courier: Silent, conversations: int, rate: float, total: int
) -> tuple["array[float]", list[float]]:
    """Say something `rate` times a second, whether or not the one before is stored yet."""
    waits = array("d")
    memory: list[float] = []

    async def say(number: int) -> None:
        begun = time.perf_counter()
        courier.said_at[str(number)] = begun
        await delivery.receive(_message(number, conversations))
        waits.append(1000 * (time.perf_counter() - begun))

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(1, total + 1):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            group.create_task(say(number))
            if number == total // 4:
                memory.append(_memory_mb())
    return waits, memory


async def _look_at_the_loop(lags: "array[float]") -> None:
    while True:
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        lags.append(1000 * (time.perf_counter() - due))


def _delivery(database: Database) -> Delivery:
    engine = AtOnce()
    books, writings = Books(database, load_settings(None)), Writings()
    answerer = Answerer(engine, database, books, reply_seconds=60)
    answering = Answering(
        database,
        answerer,
        Commands(engine, database, books, writings).run,
        books,
        writings,
        edit_seconds=1.2,
        answer_window=timedelta(minutes=30),
    )
    worker = Worker(database, answering, owner="load", lease_seconds=15, parallel=72)
    return Delivery(database, worker, scan_seconds=600)


def _message(number: int, conversations: int) -> IncomingMessage:
    return IncomingMessage(
        conversation=ConversationKey("discord", "1", str(number % conversations)),
        message_id=str(number),
        author=Author(str(number % conversations), "Ada"),
        text=f"Is this question number {number}?",
        created_at=datetime.now(UTC),
        via="mention",
    )


def _percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 2)


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.conversations, arguments.rate, arguments.seconds))
    if arguments.json:
        print(json.dumps(vars(figures)))
    else:
        for name, value in vars(figures).items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
