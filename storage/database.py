"""Opens the database: transactions to write, sessions to read, and its tables brought up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from storage.address import Address, parse_address
from storage.failures import failures_in_words
from storage.file_lock import FileLock
from storage.schema import check_schema, upgrade_schema
from storage.sqlite import claim_file, open_engines, open_for_migration

POSTGRESQL_CONNECTIONS = 10

Session = AsyncSession
"""What a transaction or a reading gives, to pass on to the functions of this package."""


async def migrate(url: str) -> None:
    """Bring the database at `url` to this version's tables; a SQLite file is made if there is none.

    Raises `StorageError`: among others `SchemaTooNew`, and `DatabaseLocked` while Parley runs on a SQLite file.
    """
    await asyncio.to_thread(_migrate, parse_address(url))


class Database:
    """An open database. Several tasks may use it at once; on SQLite, one process."""

    def __init__(self, where: str, writer: AsyncEngine, reader: AsyncEngine, lock: FileLock | None) -> None:
        self._where = where
        self._writer = writer
        self._reader = reader
        self._lock = lock

    def __str__(self) -> str:
        """What it is and where, without user, password and options."""
        return self._where

    @property
    def exclusive(self) -> bool:
        """Whether no other process can be at work on it."""
        return self._lock is not None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the database at `url`, such as sqlite:///parley.db or postgresql://name:password@host/database.

        Raises `StorageError`: `SchemaTooOld` until `migrate` has been run, `DatabaseLocked` when another process
        has the SQLite file, `DatabaseDamaged` when that was not closed cleanly and its check finds a fault.
        """
        address = parse_address(url)
        where = str(address)
        if address.path is None:
            writer, reader = _open_postgresql(address)
            database = cls(where, writer, reader, None)
        else:
            lock = await asyncio.to_thread(claim_file, address.path, where)
            database = cls(where, *open_engines(address.url), lock)
        try:
            with failures_in_words(where):
                async with database._reader.connect() as connection:
                    await connection.run_sync(check_schema, where)
        except BaseException:
            await database.close()
            raise
        return database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session that writes: committed at the end of the block, rolled back when the block raises.

        SQLite has one writer, so keep the block short, and never open a second one inside it.
        """
        with failures_in_words(self._where):
            async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
                yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and cannot write."""
        with failures_in_words(self._where):
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                yield session

    async def close(self) -> None:
        """Close every connection, then let go of the SQLite file. Closing twice does nothing."""
        await self._reader.dispose()
        await self._writer.dispose()
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.release(clean=True)


def _open_postgresql(address: Address) -> tuple[AsyncEngine, AsyncEngine]:
    writer = create_async_engine(
        address.url,
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,  # a server that was restarted meanwhile is noticed before the work, not in it
        hide_parameters=True,
    )
    return writer, writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _migrate(address: Address) -> None:
    where = str(address)
    with failures_in_words(where):
        if address.path is None:
            _upgrade(create_engine(address.url, poolclass=NullPool), where)
            return
        lock = claim_file(address.path, where)
        try:
            _upgrade(open_for_migration(address.url), where)
        finally:
            lock.release(clean=True)


def _upgrade(engine: Engine, where: str) -> None:
    with engine.begin() as connection:
        upgrade_schema(connection, where)
