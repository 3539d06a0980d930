"""Things that happen once, and once in a while, on a real database."""

from datetime import UTC, datetime, timedelta

from storage.database import Database
from storage.once import is_first_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_something_happens_once_however_often_it_is_asked(database: Database) -> None:
    asked = [
        await database.write(is_first_time, "welcome 1", NOON + timedelta(days=day)) for day in (0, 0, 9000)
    ]
    assert asked == [True, False, False]
    assert await database.write(is_first_time, "welcome 2", NOON)


async def test_something_that_may_happen_once_a_day_may_happen_the_next_day(database: Database) -> None:
    day = timedelta(days=1)
    moments = (NOON, NOON + day / 2, NOON + day, NOON + 1.5 * day)
    asked = [await database.write(is_first_time, "notice", moment, day) for moment in moments]
    assert asked == [True, False, True, False]
