"""What one process may do at a time, and how often a gateway was logged in to, the same on both databases."""

import asyncio
from datetime import datetime, timedelta

from storage.database import Database
from storage.leases import count_identifies, give_back_lease, record_identify, take_lease
from tests.storage.test_inbox import NOON, later

DAY = timedelta(days=1)


async def take(
    database: Database, holder: str = "me", at: datetime = NOON, name: str = "discord"
) -> int | None:
    return await database.write(take_lease, name, holder, at, 30)


async def give_back(database: Database, holder: str = "me") -> None:
    await database.write(give_back_lease, "discord", holder)


async def test_a_lease_is_held_by_one_until_it_ends(database: Database) -> None:
    assert await take(database, "one") == 1
    assert await take(database, "other", later(29)) is None
    assert await take(database, "other", later(30)) == 2
    assert await take(database, "one", later(31)) is None


async def test_renewing_a_lease_keeps_its_fence(database: Database) -> None:
    assert await take(database) == 1
    assert await take(database, at=later(20)) == 1
    assert await take(database, "other", later(49)) is None
    assert await take(database, "other", later(50)) == 2


async def test_a_lease_that_ended_and_that_nobody_took_is_still_its_holders(database: Database) -> None:
    assert await take(database) == 1
    assert await take(database, at=later(600)) == 1
    assert await take(database, "other", later(601)) is None


async def test_many_who_ask_at_once_are_given_a_lease_once(database: Database) -> None:
    fences = await asyncio.gather(*(take(database, f"process {number}") for number in range(8)))
    assert [fence for fence in fences if fence is not None] == [1]


async def test_leases_of_other_names_are_other_leases(database: Database) -> None:
    assert await take(database, "one") == 1
    assert await take(database, "other", name="slack") == 1


async def test_a_lease_that_is_given_back_is_taken_at_once_with_a_new_fence(database: Database) -> None:
    await take(database, "one")
    await give_back(database, "one")
    assert await take(database, "other") == 2
    await give_back(database, "other")
    assert await take(database, "other") == 3


async def test_nobody_gives_back_what_another_holds(database: Database) -> None:
    await give_back(database, "one")
    await take(database, "one")
    await give_back(database, "other")
    assert await take(database, "other") is None


async def test_logins_are_counted_for_each_platform_since_a_time(database: Database) -> None:
    with database.transaction() as tx:
        for second in (0, 10, 20):
            record_identify(tx, "discord", later(second))
        record_identify(tx, "slack", later(20))
    with database.reading() as session:
        assert count_identifies(session, "discord", NOON) == 3
        assert count_identifies(session, "discord", later(10)) == 2
        assert count_identifies(session, "slack", NOON) == 1
        assert count_identifies(session, "terminal", NOON) == 0


async def test_a_login_of_more_than_a_day_ago_is_forgotten(database: Database) -> None:
    with database.transaction() as tx:
        record_identify(tx, "discord", NOON - DAY - timedelta(seconds=1))
        record_identify(tx, "discord", NOON - DAY)
        record_identify(tx, "discord", NOON)
    with database.reading() as session:
        assert count_identifies(session, "discord", NOON - 2 * DAY) == 2
