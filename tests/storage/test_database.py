"""Transactions and readings on both databases."""

import asyncio
import threading

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.tables import Workspace


async def count_workspaces(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Workspace)) or 0


def new_workspace(external_id: str = "w1") -> Workspace:
    return Workspace(platform="discord", external_id=external_id)


async def test_what_a_transaction_wrote_is_there_afterwards(database: Database) -> None:
    with database.transaction() as tx:
        tx.add(new_workspace())
    assert await count_workspaces(database) == 1


async def test_an_error_in_a_transaction_undoes_all_of_it_and_comes_through(database: Database) -> None:
    with pytest.raises(KeyError, match="mine"), database.transaction() as tx:
        tx.add(new_workspace())
        tx.flush()
        raise KeyError("mine")
    assert await count_workspaces(database) == 0


async def test_a_broken_constraint_comes_through_without_the_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught, database.transaction() as tx:
        tx.add_all([new_workspace("very private"), new_workspace("very private")])
    assert "[SQL parameters hidden" in str(caught.value)
    assert await count_workspaces(database) == 0


async def test_a_reading_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"), database.reading() as session:
        session.add(new_workspace())
        session.flush()
    assert await count_workspaces(database) == 0


async def test_a_reading_sees_one_state_while_others_write(database: Database) -> None:
    with database.reading() as session:
        before = session.scalar(select(func.count()).select_from(Workspace))
        with database.transaction() as tx:
            tx.add(new_workspace())
        after = session.scalar(select(func.count()).select_from(Workspace))
    assert (before, after) == (0, 0)
    assert await count_workspaces(database) == 1


async def test_many_writers_at_once_lose_nothing(database: Database) -> None:
    def add(tx: Session, number: int) -> None:
        tx.execute(select(func.count()).select_from(Workspace))
        tx.add(new_workspace(f"w{number}"))

    await asyncio.gather(*(database.write(add, number) for number in range(40)))
    assert await count_workspaces(database) == 40


async def test_what_is_written_in_the_database_s_own_thread_is_undone_when_it_fails(
    database: Database,
) -> None:
    def add(tx: Session) -> None:
        tx.add(new_workspace())
        tx.flush()
        raise KeyError(threading.current_thread().name)

    with pytest.raises(KeyError, match="database"):
        await database.write(add)
    assert await count_workspaces(database) == 0


async def test_of_those_that_share_a_commit_one_that_fails_is_undone_alone(sqlite_database: Database) -> None:
    go_on = threading.Event()

    def add(tx: Session, name: str) -> str:
        tx.add(new_workspace(name))
        tx.flush()
        if name == "fails":
            raise KeyError(name)
        return name

    def wait(tx: Session) -> None:
        assert go_on.wait(10)

    first = asyncio.create_task(sqlite_database.write(wait))
    group = [
        asyncio.create_task(sqlite_database.write(add, name)) for name in ("one", "fails", "one", "other")
    ]
    await asyncio.sleep(0)
    go_on.set()
    await first
    one, fails, twice, other = await asyncio.gather(*group, return_exceptions=True)
    assert (one, other) == ("one", "other")
    assert isinstance(fails, KeyError)
    assert isinstance(twice, IntegrityError)
    assert await count_workspaces(sqlite_database) == 2


async def test_whoever_is_cancelled_has_not_begun_or_it_ends_without_him(sqlite_database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def add_slowly(tx: Session) -> None:
        begun.set()
        assert go_on.wait(10)
        tx.add(new_workspace("ends"))

    def add(tx: Session) -> None:
        tx.add(new_workspace("never"))

    slow = asyncio.create_task(sqlite_database.write(add_slowly))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(sqlite_database.write(add))
    await asyncio.sleep(0)
    slow.cancel()
    waiting.cancel()
    ends = await asyncio.gather(slow, waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
    go_on.set()
    names = await sqlite_database.write(lambda tx: list(tx.scalars(select(Workspace.external_id))))
    assert names == ["ends"]


async def test_closing_waits_for_what_is_under_way(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    writing = asyncio.create_task(database.write(lambda tx: tx.add(new_workspace())))
    await asyncio.sleep(0)
    await database.close()
    await writing
    again = await Database.open(sqlite_url)
    assert await count_workspaces(again) == 1
    await again.close()


async def test_what_is_closed_is_told_in_words(database: Database) -> None:
    await database.close()
    with pytest.raises(DatabaseUnavailable, match="is closed"):
        await database.read(lambda session: None)


async def test_closing_twice_does_nothing(database: Database) -> None:
    await database.close()
    await database.close()


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"), database.transaction() as tx:
        tx.execute(
            text("INSERT INTO channels (workspace_id, external_id, added_at) VALUES (7, 'c', '2026-01-01')")
        )
