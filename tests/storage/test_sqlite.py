"""What keeps a SQLite file safe: its settings, its lock, the check after a crash; and sentences where it fails."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from storage.database import Database, migrate
from storage.errors import DatabaseDamaged, DatabaseLocked, DatabaseUnavailable, DiskFull
from storage.sqlite import warn_if_old
from storage.tables import Workspace

CHECKING = "checking the database, which was not closed cleanly"
HOLDER = """
import asyncio, sys
from storage.database import Database

async def hold():
    database = await Database.open(sys.argv[1])
    print("open", flush=True)
    sys.stdin.readline()
    await database.close()

asyncio.run(hold())
"""


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def start_holder(url: str) -> subprocess.Popen[str]:
    """Another process that has the database open until it reads a line or is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert "open\n" in iter(holder.stdout.readline, "")
    return holder


@contextmanager
def killed_at_the_end(holder: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def damage(path: Path) -> None:
    """Overwrite the last page, which nothing reads at the opening."""
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x5a" * 4096)


def pragmas(session: Session, *names: str) -> dict[str, object]:
    return {name: session.scalar(text(f"PRAGMA {name}")) for name in names}


async def test_the_writer_is_durable_and_holds_foreign_keys(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        found = pragmas(tx, "journal_mode", "synchronous", "busy_timeout", "foreign_keys", "query_only")
    full, on, off = 2, 1, 0
    assert found == {
        "journal_mode": "wal",
        "synchronous": full,
        "busy_timeout": 5000,
        "foreign_keys": on,
        "query_only": off,
    }


async def test_all_transactions_go_through_one_connection(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        tx.execute(text("CREATE TEMP TABLE seen_by_its_own_connection_alone (id INTEGER)"))

    def count_temporary_tables(tx: Session) -> object:
        return tx.scalar(text("SELECT count(*) FROM sqlite_temp_master"))

    write = sqlite_database.write
    assert set(await asyncio.gather(*(write(count_temporary_tables) for _ in range(8)))) == {1}


async def test_the_readers_only_read(sqlite_database: Database) -> None:
    with sqlite_database.reading() as session:
        found = pragmas(session, "journal_mode", "busy_timeout", "query_only")
    assert found == {"journal_mode": "wal", "busy_timeout": 5000, "query_only": 1}


async def test_a_transaction_holds_the_write_lock_from_its_beginning(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    with closing(sqlite3.connect(path_of(sqlite_url), timeout=0, isolation_level=None)) as other:
        with database.transaction() as tx:
            tx.execute(text("SELECT 1"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
    await database.close()


async def test_the_file_and_its_folder_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a b?c#d%41.db"
    await migrate("sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F"))
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_second_opening_is_refused_also_in_the_same_process(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    sentence = rf"{path_of(sqlite_url)} is in use by another Parley \(process {os.getpid()}\)"
    for attempt in (Database.open, migrate):
        with pytest.raises(DatabaseLocked, match=sentence):
            await attempt(sqlite_url)
    await database.close()
    await (await Database.open(sqlite_url)).close()


async def test_a_second_process_is_refused_until_the_first_is_gone(sqlite_url: str) -> None:
    holder = start_holder(sqlite_url)
    sentence = rf"another Parley \(process {holder.pid}\)\. Stop that one first\."
    with killed_at_the_end(holder), pytest.raises(DatabaseLocked, match=sentence):
        await Database.open(sqlite_url)
    assert holder.returncode == -signal.SIGKILL
    with capture_logs() as logs:
        await (await Database.open(sqlite_url)).close()
    assert CHECKING in [line["event"] for line in logs]


async def test_after_a_clean_end_nothing_is_checked(sqlite_url: str) -> None:
    await (await Database.open(sqlite_url)).close()
    assert (path_of(sqlite_url).with_name("parley.db.lock")).read_text() == ""
    with capture_logs() as logs:
        await (await Database.open(sqlite_url)).close()
    assert CHECKING not in [line["event"] for line in logs]


async def test_a_damaged_file_is_found_after_an_unclean_end_and_each_time_again(sqlite_url: str) -> None:
    path = path_of(sqlite_url)
    path.with_name("parley.db.lock").write_text("12345")
    damage(path)
    for attempt in (Database.open, migrate, Database.open):
        with pytest.raises(DatabaseDamaged, match=rf"{path} is damaged .*Restore it from a backup"):
            await attempt(sqlite_url)


async def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    path.write_text("Dear diary, " * 100)
    for attempt in (Database.open, migrate):
        with pytest.raises(DatabaseDamaged, match="file is not a database"):
            await attempt(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear diary")


async def test_a_full_disk_is_told_in_words_and_the_transaction_is_undone(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        pages = tx.scalar(text("PRAGMA page_count"))
        tx.execute(text(f"PRAGMA max_page_count = {pages}"))
    many = [Workspace(platform="discord", external_id="w" * 1000 + str(n)) for n in range(50)]
    with pytest.raises(DiskFull, match=r"parley\.db cannot be written: the disk is full\."):
        await sqlite_database.write(Session.add_all, many)
    with sqlite_database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM workspaces")) == 0


async def test_a_full_disk_is_told_to_all_that_share_the_commit(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        pages = tx.scalar(text("PRAGMA page_count"))
        tx.execute(text(f"PRAGMA max_page_count = {pages}"))
    go_on = threading.Event()
    many = [Workspace(platform="discord", external_id="w" * 1000 + str(n)) for n in range(50)]
    first = asyncio.create_task(sqlite_database.write(lambda tx: go_on.wait(10)))
    group = [
        asyncio.create_task(sqlite_database.write(Session.add_all, rows))
        for rows in ([Workspace(platform="discord", external_id="small")], many)
    ]
    await asyncio.sleep(0)
    go_on.set()
    assert await first
    outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DiskFull, DiskFull]
    with sqlite_database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM workspaces")) == 0


async def test_a_foreign_program_that_keeps_the_file_locked_is_told_in_words(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    with database.transaction() as tx:
        tx.execute(text("PRAGMA busy_timeout = 1"))  # of the one writing connection: need not wait 5 s here
    with closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked, match="is being written by another program"):
            await database.write(Session.scalar, text("SELECT 1"))
    with database.transaction() as tx:
        tx.add(Workspace(platform="discord", external_id="w"))
    await database.close()


@contextmanager
def ordinary_person() -> Iterator[Path]:
    """A folder of one's own, with the rights of a person whom file modes bind: the root user's they do not."""
    with tempfile.TemporaryDirectory() as name:
        folder, me = Path(name), os.geteuid()
        nobody = me or 65534
        os.chown(folder, nobody, -1)
        os.seteuid(nobody)
        try:
            yield folder
        finally:
            os.seteuid(me)


async def test_a_folder_that_cannot_be_written_is_told_in_words() -> None:
    with ordinary_person() as folder:
        folder.chmod(0o500)
        for attempt in (migrate, Database.open):
            with pytest.raises(DatabaseUnavailable, match=r"parley\.db cannot be written: Permission denied"):
                await attempt(f"sqlite:///{folder}/parley.db")
            with pytest.raises(DatabaseUnavailable, match=rf"Permission denied \({folder}/sub\)"):
                await attempt(f"sqlite:///{folder}/sub/parley.db")
        folder.chmod(0o700)


async def test_a_file_that_cannot_be_written_is_told_in_words() -> None:
    with ordinary_person() as folder:
        path = folder / "parley.db"
        path.touch(0o400)
        for attempt in (migrate, Database.open):
            with pytest.raises(DatabaseUnavailable, match=r"parley\.db cannot be written: Permission denied"):
                await attempt(f"sqlite:///{path}")


async def test_a_folder_in_the_place_of_the_file_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "parley.db").mkdir()
    with pytest.raises(DatabaseUnavailable, match=r"parley\.db cannot be written: Is a directory"):
        await migrate(f"sqlite:///{tmp_path}/parley.db")


def test_an_old_sqlite_is_warned_of_once_and_a_mended_one_never() -> None:
    with capture_logs() as logs:
        for version in ("3.51.2", "3.51.2", "3.51.3", "3.52.0", "4.0.0"):
            warn_if_old(version)
    assert [(line["log_level"], line["version"], line["mended_in"]) for line in logs] == [
        ("warning", "3.51.2", "3.51.3")
    ]
