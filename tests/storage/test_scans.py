"""How far a history is known, the same on both databases: only a scan moves it, with what it read."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from storage.database import Database
from storage.inbox import add_received
from storage.scans import Watermark, add_scan, advance_scan, list_scans
from tests.storage.test_inbox import NOON, add, later, received, rows


async def look_at(
    database: Database,
    channel: str = "general",
    thread: str = "",
    begin_after: str = "100",
    until: datetime | None = None,
) -> None:
    await database.write(
        add_scan,
        platform="discord",
        workspace="club",
        channel=channel,
        thread=thread,
        private=channel.startswith("dm"),
        begin_after=begin_after,
        active_until=until or later(60),
    )


async def places(database: Database, at: datetime = NOON) -> list[Watermark]:
    return await database.read(list_scans, "discord", at)


async def test_a_place_is_looked_at_from_where_it_was_first_seen(database: Database) -> None:
    await look_at(database, "dm ann", "t", "100")
    (place,) = await places(database)
    assert place == Watermark(place.id, "club", "dm ann", "t", True, "100")


async def test_a_place_that_is_seen_again_is_read_from_where_it_was(database: Database) -> None:
    await look_at(database, begin_after="100")
    await look_at(database, begin_after="200", until=later(600))
    (place,) = await places(database, later(599))
    assert place.verified_upto == "100"


async def test_a_place_that_many_see_at_once_is_one_place(database: Database) -> None:
    await asyncio.gather(*(look_at(database) for _ in range(8)))
    assert len(await places(database)) == 1


async def test_a_place_that_is_silent_for_long_is_not_looked_at(database: Database) -> None:
    await look_at(database, until=later(60).astimezone(timezone(timedelta(hours=-9))))
    assert len(await places(database, later(59))) == 1
    assert await places(database, later(60)) == []


async def test_a_channel_and_its_threads_are_places_of_their_own(database: Database) -> None:
    for channel, thread in (("general", ""), ("general", "t"), ("random", "")):
        await look_at(database, channel, thread)
    assert [(place.channel, place.thread) for place in await places(database)] == [
        ("general", ""),
        ("general", "t"),
        ("random", ""),
    ]


async def test_places_of_another_platform_are_not_listed(database: Database) -> None:
    await look_at(database)
    with database.reading() as session:
        assert list_scans(session, "slack", NOON) == []


async def test_a_scan_moves_its_own_place(database: Database) -> None:
    await look_at(database, "general")
    await look_at(database, "random")
    first, _ = await places(database)
    with database.transaction() as tx:
        advance_scan(tx, first.id, "300")
    assert [place.verified_upto for place in await places(database)] == ["300", "100"]


async def test_a_live_event_moves_nothing(database: Database) -> None:
    await look_at(database)
    await add(database, received("500"))
    (place,) = await places(database)
    assert place.verified_upto == "100"


async def test_a_place_moves_with_what_was_read_there_or_not_at_all(database: Database) -> None:
    await look_at(database)
    (place,) = await places(database)
    with pytest.raises(ConnectionError), database.transaction() as tx:
        add_received(tx, received("150"), NOON)
        advance_scan(tx, place.id, "150")
        raise ConnectionError
    assert await places(database) == [place]
    assert await rows(database) == []
    with database.transaction() as tx:
        add_received(tx, received("150"), NOON)
        advance_scan(tx, place.id, "150")
    assert await places(database) == [replace(place, verified_upto="150")]
    assert len(await rows(database)) == 1
