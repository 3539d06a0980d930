"""One owner for what several processes on one database may not do at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import structlog

from storage.database import Database
from storage.errors import StorageError
from storage.leases import give_back_lease, take_lease

log = structlog.get_logger()


@asynccontextmanager
async def sole_owner(
    database: Database, name: str, holder: str, *, seconds: float
) -> AsyncIterator[asyncio.Event]:
    """Wait for the lease `name`, and hold it for the block. The event is set when it is lost meanwhile."""
    await _wait_for(database, name, holder, seconds)
    lost = asyncio.Event()
    keeping = asyncio.create_task(_keep(database, name, holder, seconds, lost))
    try:
        yield lost
    finally:
        keeping.cancel()
        with suppress(StorageError):
            await database.write(give_back_lease, name, holder)


async def _wait_for(database: Database, name: str, holder: str, seconds: float) -> None:
    told = False
    while True:
        try:
            if await _take(database, name, holder, seconds):
                return
            if not told:
                log.info("another Parley serves this; standing by", lease=name)
                told = True
        except StorageError as error:  # the database is away: whoever waited for it goes on waiting
            log.warning("a lease could not be asked for", lease=name, reason=str(error))
        await asyncio.sleep(seconds / 5)


async def _keep(database: Database, name: str, holder: str, seconds: float, lost: asyncio.Event) -> None:
    """Renew it. A database that is away for longer than the lease lasts means that it is lost."""
    held_until = asyncio.get_running_loop().time() + seconds
    while not lost.is_set():
        await asyncio.sleep(seconds / 4)
        asked_at = asyncio.get_running_loop().time()
        try:
            if not await _take(database, name, holder, seconds):
                lost.set()
            held_until = asked_at + seconds
        except StorageError as error:
            log.warning("a lease could not be renewed", lease=name, reason=str(error))
            if asyncio.get_running_loop().time() > held_until:
                lost.set()


async def _take(database: Database, name: str, holder: str, seconds: float) -> bool:
    return await database.write(take_lease, name, holder, datetime.now(UTC), seconds) is not None
