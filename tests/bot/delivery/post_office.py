"""A delivery with a fake engine and a fake courier, and what its tables hold."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from bot.chat import IncomingMessage
from bot.commands.run import Commands
from bot.delivery.answering import Answering
from bot.delivery.desk import Delivery
from bot.delivery.worker import Worker
from bot.writings import Writings
from model.protocol import Engine
from storage import tables
from storage.database import Database
from storage.inbox import OPEN
from tests.bot.conversation import answerer, books, message

_numbers = iter(range(1000, 10_000))


def said(text: str, **changes: Any) -> IncomingMessage:
    number = str(next(_numbers))
    return replace(message(text, message_id=number), **({"created_at": datetime.now(UTC)} | changes))


def delivery(
    engine: Engine,
    database: Database,
    *,
    answer_window: timedelta = timedelta(minutes=30),
    scan_seconds: float = 3600.0,
    restored: bool = False,
) -> Delivery:
    return delivery_parts(
        engine, database, answer_window=answer_window, scan_seconds=scan_seconds, restored=restored
    ).desk


@dataclass(frozen=True)
class Parts:
    """A delivery, and the answers that it is writing."""

    desk: Delivery
    writings: Writings


def delivery_parts(
    engine: Engine,
    database: Database,
    *,
    answer_window: timedelta = timedelta(minutes=30),
    scan_seconds: float = 3600.0,
    burst_seconds: float = 0.0,
    restored: bool = False,
) -> Parts:
    chosen, writings = books(database), Writings()
    answering = Answering(
        database,
        answerer(engine, database),
        Commands(engine, database, chosen, writings).run,
        chosen,
        writings,
        edit_seconds=0,
        answer_window=answer_window,
        burst_seconds=burst_seconds,
    )
    worker = Worker(database, answering, owner="me", lease_seconds=30, parallel=8, restored=restored)
    desk = Delivery(database, worker, scan_seconds=scan_seconds, burst_seconds=burst_seconds)
    return Parts(desk, writings)


@asynccontextmanager
async def at_work(desk: Delivery) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(desk.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `happened()` is true; it is asked after every commit."""
    committed, loop = asyncio.Event(), asyncio.get_running_loop()

    def note() -> None:
        loop.call_soon_threadsafe(committed.set)  # it commits in a thread of the database's

    _noting.append(note)
    try:
        async with asyncio.timeout(20):
            while not await happened():
                await committed.wait()
                committed.clear()
    finally:
        _noting.remove(note)


_noting: list[Callable[[], None]] = []


@event.listens_for(Session, "after_commit")
def _note_commit(_: Session) -> None:
    """Listened to for good: SQLAlchemy takes no new listener while another thread commits."""
    for note in tuple(_noting):
        with suppress(RuntimeError):  # its loop has just ended
            note()


async def all_closed(database: Database) -> Sequence[tables.Inbox]:
    """Wait until nothing is open; the rows."""

    async def closed() -> bool:
        return not any(row.state in OPEN for row in await inbox(database))

    await until(closed)
    return await inbox(database)


async def inbox(database: Database) -> Sequence[tables.Inbox]:
    with database.reading() as session:
        return (session.scalars(select(tables.Inbox).order_by(tables.Inbox.id))).all()


async def outbox(database: Database) -> Sequence[tables.Outbox]:
    with database.reading() as session:
        return (session.scalars(select(tables.Outbox).order_by(tables.Outbox.id))).all()
