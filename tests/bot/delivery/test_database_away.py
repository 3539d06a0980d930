"""What delivery keeps and makes good when the database fails under it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.chat import ConversationKey
from storage.database import migrate
from storage.errors import DatabaseUnavailable
from storage.scans import list_scans
from tests.bot.conversation import message
from tests.bot.platforms.talker import Talker
from tests.fakes.database import LeavingDatabase

THREAD = ConversationKey("slack", "T1", "C1", "1700000000.000100")


@pytest.fixture
async def leaving(tmp_path: Path) -> AsyncIterator[LeavingDatabase]:
    url = f"sqlite:///{tmp_path / 'leaving.db'}"
    await migrate(url)
    opened = await LeavingDatabase.open(url)
    yield opened
    await opened.close()


async def test_a_place_is_looked_at_although_the_first_of_two_events_was_not_stored(
    leaving: LeavingDatabase,
) -> None:
    """A mention on Slack comes as two events at once, and what the first wrote may be undone."""
    delivery = Talker(leaving).open_delivery()
    mention = message("hi", conversation=THREAD, message_id="1700000000.000200")
    mention = replace(mention, created_at=datetime.now(UTC))
    leaving.breaks_next = True
    leaving.tells.clear()
    undone = asyncio.create_task(delivery.receive(mention))
    await leaving.missed.wait()
    await delivery.receive(mention)
    leaving.tells.set()
    with pytest.raises(DatabaseUnavailable):
        await undone
    places = await leaving.read(list_scans, "slack", datetime.now(UTC))
    assert {(place.channel, place.thread) for place in places} == {("C1", ""), ("C1", THREAD.thread)}
