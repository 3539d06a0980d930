"""What a driver's error means to a person. A fault of the program's own, such as a broken constraint, passes by."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import DatabaseDamaged, DatabaseLocked, DatabaseUnavailable, DiskFull, StorageError


@contextmanager
def failures_in_words(where: str) -> Iterator[None]:
    """Turn what drivers raise inside the block into `StorageError`s whose sentences begin with `where`."""
    try:
        yield
    except DBAPIError as error:
        told = _tell(error, where)
        if told is None:
            raise
        raise told from error
    except PoolTimeout as error:
        raise DatabaseUnavailable(f"{where} is busy: no connection became free in 30 seconds.") from error


def _tell(error: DBAPIError, where: str) -> StorageError | None:
    if isinstance(error.orig, sqlite3.Error):
        return tell_sqlite(error.orig, where)
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == "53100":
        return DiskFull(f"{where} cannot be written: the server's disk is full.")
    # Class 40 is a deadlock or a conflict between transactions: the program's affair, and worth a traceback.
    outside = isinstance(error, OperationalError) and not state.startswith("40")
    refused_before_sending = not state and error.statement is None
    if outside or refused_before_sending:
        return DatabaseUnavailable(f"{where} cannot be used: {_reason(error.orig)}.")
    return None


def tell_sqlite(error: sqlite3.Error, where: str) -> StorageError | None:
    """The sentence for SQLite's primary result code; None for a fault of the program's own."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"{where} cannot be written: the disk is full.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseLocked(
                f"{where} is being written by another program, and stayed so for 5 seconds."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseDamaged(f"{where} is damaged ({error}). Restore it from a backup.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_IOERR:
            return DatabaseUnavailable(f"{where} cannot be written: {error}.")
    return None


def _reason(error: BaseException | None) -> str:
    """What PostgreSQL's client library says last, without the addresses that it tried before."""
    reasons = re.findall(r".*failed: (?:FATAL: *)?(.+)", str(error)) or str(error).strip().splitlines()
    return reasons[-1].strip().rstrip(".") if reasons else "it gave no reason"
