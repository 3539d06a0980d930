"""Transactions and readings on both databases."""

import asyncio

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from storage.database import Database
from storage.tables import Workspace


async def count_workspaces(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(Workspace)) or 0


def new_workspace(external_id: str = "w1") -> Workspace:
    return Workspace(platform="discord", external_id=external_id)


async def test_what_a_transaction_wrote_is_there_afterwards(database: Database) -> None:
    async with database.transaction() as tx:
        tx.add(new_workspace())
    assert await count_workspaces(database) == 1


async def test_an_error_in_a_transaction_undoes_all_of_it_and_comes_through(database: Database) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with database.transaction() as tx:
            tx.add(new_workspace())
            await tx.flush()
            raise KeyError("mine")
    assert await count_workspaces(database) == 0


async def test_a_broken_constraint_comes_through_without_the_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as tx:
            tx.add_all([new_workspace("very private"), new_workspace("very private")])
    assert "[SQL parameters hidden" in str(caught.value)
    assert await count_workspaces(database) == 0


async def test_a_reading_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        async with database.reading() as session:
            session.add(new_workspace())
            await session.flush()
    assert await count_workspaces(database) == 0


async def test_a_reading_sees_one_state_while_others_write(database: Database) -> None:
    async with database.reading() as session:
        before = await session.scalar(select(func.count()).select_from(Workspace))
        async with database.transaction() as tx:
            tx.add(new_workspace())
        after = await session.scalar(select(func.count()).select_from(Workspace))
    assert (before, after) == (0, 0)
    assert await count_workspaces(database) == 1


async def test_many_writers_at_once_lose_nothing(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(select(func.count()).select_from(Workspace))
            tx.add(new_workspace(f"w{number}"))

    await asyncio.gather(*(write(number) for number in range(40)))
    assert await count_workspaces(database) == 40


async def test_a_cancelled_transaction_is_undone_and_the_next_one_works(database: Database) -> None:
    async def write(session_is_open: asyncio.Event) -> None:
        async with database.transaction() as tx:
            tx.add(new_workspace("never"))
            await tx.flush()
            session_is_open.set()
            await write_for_ever(tx)

    async def write_for_ever(tx: AsyncSession) -> None:
        while True:
            await tx.execute(text("SELECT count(*) FROM workspaces"))

    for _ in range(5):
        session_is_open = asyncio.Event()
        task = asyncio.create_task(write(session_is_open))
        await session_is_open.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with database.transaction() as tx:
        tx.add(new_workspace("kept"))
    assert await count_workspaces(database) == 1


async def test_closing_twice_does_nothing(database: Database) -> None:
    await database.close()
    await database.close()


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"):
        async with database.transaction() as tx:
            await tx.execute(
                text(
                    "INSERT INTO channels (workspace_id, external_id, added_at) VALUES (7, 'c', '2026-01-01')"
                )
            )
