"""How a SQLite file is kept safe: one process, one writing connection, a durable log, a check after a crash."""

import functools
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage.errors import DatabaseDamaged, DatabaseUnavailable
from storage.failures import tell_sqlite
from storage.file_lock import FileLock

log = structlog.get_logger()

SAFE_VERSION = (3, 51, 3)
READERS = 4
WRITING = {"busy_timeout": "5000", "synchronous": "FULL", "foreign_keys": "ON"}
"""A commit that was reported has reached the disk."""
READING = {"busy_timeout": "5000", "query_only": "ON"}
MIGRATING = WRITING | {"foreign_keys": "OFF"}
"""Rebuilding a table drops the old one, which with foreign keys on would delete every row that refers to it."""


def claim_file(path: Path, where: str) -> FileLock:
    """Lock the file for this process and make it ready; it and its folder are made where they are missing.

    Raises `DatabaseLocked`, `DatabaseUnavailable`, `DatabaseDamaged`; sentences begin with `where`.
    """
    warn_if_old(sqlite3.sqlite_version)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock.take(path)
    except OSError as error:
        raise _unwritable(where, error) from error
    try:
        _make_ready(path, where, check=lock.unclean)
    except BaseException:
        lock.release(clean=not lock.unclean)
        raise
    return lock


def open_engines(url: URL) -> tuple[Engine, Engine]:
    """An engine of one connection to write, for which writers wait in line, and one of a few to read."""
    writer = create_engine(
        url, pool_size=1, max_overflow=0, hide_parameters=True, connect_args={"isolation_level": None}
    )
    reader = create_engine(
        url, pool_size=READERS, max_overflow=0, hide_parameters=True, connect_args={"isolation_level": None}
    )
    # A deferred transaction that reads first and writes after another's commit fails at once: take the lock at once.
    _set_up(writer, WRITING, begin="BEGIN IMMEDIATE")
    _set_up(reader, READING, begin="BEGIN")
    return writer, reader


def open_for_migration(url: URL) -> Engine:
    """A blocking engine whose transactions hold changes of the schema, too."""
    engine = create_engine(url, poolclass=NullPool, connect_args={"isolation_level": None})
    _set_up(engine, MIGRATING, begin="BEGIN IMMEDIATE")
    return engine


@functools.cache
def warn_if_old(version: str) -> None:
    """Once a process: before 3.51.3 a file can be damaged when two connections write at the same instant."""
    if tuple(int(part) for part in version.split(".")) < SAFE_VERSION:
        wanted = ".".join(map(str, SAFE_VERSION))
        log.warning("this SQLite has a rare fault that a newer one mends", version=version, mended_in=wanted)


def _make_ready(path: Path, where: str, *, check: bool) -> None:
    finding = "ok"
    try:
        # Made for its owner alone: it holds what people said. A file that can only be read says so here.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(path)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if check:
                log.info("checking the database, which was not closed cleanly", file=str(path))
                (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except OSError as error:
        raise _unwritable(where, error) from error
    except sqlite3.Error as error:
        told = tell_sqlite(error, where)
        if told is None:
            raise
        raise told from error
    if mode != "wal":
        raise DatabaseUnavailable(f"{where} is in a folder without shared memory, such as a network share.")
    if finding != "ok":
        raise DatabaseDamaged(f"{where} is damaged ({finding.splitlines()[-1]}). Restore it from a backup.")


def _set_up(engine: Engine, pragmas: Mapping[str, str], *, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _unwritable(where: str, error: OSError) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"{where} cannot be written: {error.strerror} ({error.filename}).")
