"""Several messages of one person in a row are one question."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.delivery.desk import looks_unfinished
from storage.database import Database
from tests.bot.conversation import BO, Stored, stored_messages
from tests.bot.delivery.post_office import all_closed, at_work, delivery_parts, inbox, said
from tests.fakes.courier import FakeCourier
from tests.fakes.engine import FakeEngine


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("hey", True),
        ("so I was thinking", True),
        ("what is a bat?", False),
        ("你好", True),
        ("什么是蝙蝠？", False),
        ("a longer text that says all that it has to say and that does not end with a full stop", False),
    ],
)
def test_a_few_words_without_an_end_look_unfinished(text: str, unfinished: bool) -> None:
    assert looks_unfinished(text) is unfinished


async def test_what_one_says_in_a_row_gets_one_answer(database: Database) -> None:
    engine, courier = FakeEngine("Bats fly.", "Hi Bo."), FakeCourier()
    desk = delivery_parts(engine, database, burst_seconds=2).desk
    for message in (said("hey"), said("do you know"), said("what a bat is?"), said("me, too", author=BO)):
        await desk.receive(message)
    async with at_work(desk):
        await desk.connected(courier)
        rows = await all_closed(database)
    assert [row.decision for row in rows] == ["answer", "joined", "joined", "answer"]
    assert courier.texts == ["Bats fly.", "Hi Bo."]
    assert await stored_messages(database) == [
        Stored("user", "hey"),
        Stored("user", "do you know"),
        Stored("user", "what a bat is?"),
        Stored("assistant", "Bats fly."),
        Stored("user", "me, too"),
        Stored("assistant", "Hi Bo."),
    ]
    assert [message.content for message in engine.requests[0].messages[1:]] == [
        "hey",
        "do you know",
        "what a bat is?",
    ]


async def test_a_command_in_a_burst_stands_alone(database: Database) -> None:
    engine, courier = FakeEngine("Hi.", "Again."), FakeCourier()
    desk = delivery_parts(engine, database, burst_seconds=2).desk
    for text in ("hey", "!reset", "you"):
        await desk.receive(said(text))
    async with at_work(desk):
        await desk.connected(courier)
        rows = await all_closed(database)
    assert [row.decision for row in rows] == ["answer", "answer", "answer"]


async def test_what_looks_unfinished_waits_for_more_but_never_for_long(database: Database) -> None:
    desk = delivery_parts(FakeEngine(), database, burst_seconds=2).desk
    before = datetime.now(UTC)
    await desk.receive(said("what is a bat?"))
    await desk.receive(said("hey"))
    first, second = await inbox(database)
    assert first.lease_until is None
    assert second.lease_until is not None
    assert timedelta(seconds=1.9) < second.lease_until - before < timedelta(seconds=4)
    await desk.receive(said("hello?"))
    longer = (await inbox(database))[1].lease_until
    assert longer is not None
    assert second.lease_until <= longer <= second.received_at + timedelta(seconds=8)


async def test_a_typed_chat_command_asks_without_its_name(database: Database) -> None:
    engine, courier = FakeEngine("A bat flies."), FakeCourier()
    desk = delivery_parts(engine, database).desk
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("!chat what is a bat?"))
        await all_closed(database)
    assert engine.requests[0].messages[-1].content == "what is a bat?"
