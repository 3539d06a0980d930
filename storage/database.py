"""Opens the database: transactions to write, sessions to read, and its tables brought up to date."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.address import Address, parse_address
from storage.errors import DatabaseUnavailable
from storage.failures import failures_in_words
from storage.file_lock import FileLock
from storage.schema import check_schema, upgrade_schema
from storage.sqlite import READERS, claim_file, open_engines, open_for_migration
from storage.together import Together

MOST_TOGETHER = 16
"""Waiting writes that share a transaction on SQLite. PostgreSQL has several connections, and groups commits itself."""
POSTGRESQL_CONNECTIONS = 10
PATIENCE = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Seconds, and milliseconds: else a server that vanishes without a word is waited for for two hours."""

__all__ = ["Database", "Session", "migrate"]

P = ParamSpec("P")
T = TypeVar("T")


async def migrate(url: str) -> None:
    """Bring the database at `url` to this version's tables; a SQLite file is made if there is none.

    Raises `StorageError`: among others `SchemaTooNew`, and `DatabaseLocked` while Parley runs on a SQLite file.
    """
    await asyncio.to_thread(_migrate, parse_address(url))


class Database:
    """An open database. Several tasks may use it at once; on SQLite, one process.

    What is done in it is an ordinary function that takes a `Session` first. It runs from its beginning to its end in
    one of the database's own threads, so that a transaction takes one hop there and back, however many statements.
    """

    def __init__(self, where: str, writer: Engine, reader: Engine, lock: FileLock | None) -> None:
        self._where = where
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._closed = False
        # As many threads as connections: SQLite's one writer takes what waits in the order in which it came.
        self._writing = ThreadPoolExecutor(1 if lock else POSTGRESQL_CONNECTIONS, "database")
        self._reading = ThreadPoolExecutor(READERS, "reading") if lock else self._writing
        self._writes = Together(self._writing, self.transaction, most=MOST_TOGETHER if lock else 1)

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
            database = cls(where, *_open_postgresql(address), None)
        else:
            lock = await asyncio.to_thread(claim_file, address.path, where)
            database = cls(where, *open_engines(address.url), lock)
        try:
            await database.read(lambda session: check_schema(session.connection(), where))
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(tx, ...)` returns, done in a transaction: committed when it returns, undone when it raises.

        When this returns, it is on the disk; what waits at the same time may share the commit. Whoever is cancelled
        here has not begun, or it ends without him.
        """
        self._check_open()
        return await asyncio.wrap_future(self._writes.submit(lambda tx: work(tx, *args, **kwargs)))

    async def read(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(session, ...)` returns, which sees one state of the database and cannot write."""

        def do() -> T:
            with self.reading() as session:
                return work(session, *args, **kwargs)

        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._reading, do)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """The session of `write`, for whoever may block: committed at the end of the block, undone when it raises.

        SQLite has one writer, so never open a second one inside it.
        """
        with (
            failures_in_words(self._where),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The session of `read`, for whoever may block."""
        with failures_in_words(self._where), Session(self._reader, expire_on_commit=False) as session:
            yield session

    async def close(self) -> None:
        """End what is under way, close every connection, then let go of the SQLite file. Twice does nothing."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseUnavailable(f"{self._where} is closed.")

    def _close(self) -> None:
        for threads in (self._writing, self._reading):
            threads.shutdown()
        self._reader.dispose()
        self._writer.dispose()
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.release(clean=True)


def _open_postgresql(address: Address) -> tuple[Engine, Engine]:
    writer = create_engine(
        address.url,
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,  # a server that was restarted meanwhile is noticed before the work, not in it
        hide_parameters=True,
        connect_args={name: value for name, value in PATIENCE.items() if name not in address.url.query},
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
