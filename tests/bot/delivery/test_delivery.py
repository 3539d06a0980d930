"""Nothing lost, nothing answered twice: through failed posts, posts in doubt, crashes, deletions and lateness."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from bot.chat import Author, ConversationKey
from bot.delivery import worker
from bot.delivery.answering import APOLOGY
from bot.delivery.courier import NotApplied, Refused
from model.errors import BadRequest, EngineDied
from storage.database import Database
from storage.inbox import release_all_claims
from tests.bot.conversation import CHANNEL, Stored, stored_messages, stored_turns
from tests.bot.delivery.post_office import all_closed, at_work, delivery, inbox, outbox, said
from tests.fakes.courier import FakeCourier, Shown, in_doubt
from tests.fakes.engine import Answer, FakeEngine


async def test_a_message_is_answered_once_and_all_of_it_is_remembered(database: Database) -> None:
    desk, courier = delivery(FakeEngine("Hello, Ada!"), database), FakeCourier()
    async with at_work(desk):
        await desk.connected(courier)
        asked = said("hi")
        await desk.receive(asked)
        await desk.receive(asked)
        (row,) = await all_closed(database)
    assert (row.decision, row.state, row.text, row.token) == ("answer", "done", "", None)
    assert courier.texts == ["Hello, Ada!"]
    assert await stored_messages(database) == [Stored("user", "hi"), Stored("assistant", "Hello, Ada!")]
    assert len(await stored_turns(database)) == 1
    assert [part.state for part in await outbox(database)] == ["sent"]


async def test_nothing_is_answered_before_a_platform_is_connected_and_its_history_read(
    database: Database,
) -> None:
    engine, courier = FakeEngine("Older.", "Newer."), FakeCourier()
    desk = delivery(engine, database)
    older, newer = said("older"), said("newer")
    courier.history = [older, newer]
    async with at_work(desk):
        await desk.receive(newer)
        await desk.watch([(CHANNEL, False, "1")])
        assert courier.calls == []
        # The channel was known before the older message was written.
        with database.transaction() as tx:
            tx.execute(text("UPDATE scans SET verified_upto = '1'"))
        await desk.connected(courier)
        await all_closed(database)
    assert [request.messages[-1].content for request in engine.requests] == ["older", "newer"]
    assert courier.texts == ["Older.", "Newer."]


async def test_a_long_history_is_read_page_by_page_and_only_once(database: Database) -> None:
    desk, courier = delivery(FakeEngine(default="Yes."), database), FakeCourier()
    await desk.watch([(CHANNEL, False, "1")])
    courier.history = [said(f"question {number}") for number in range(5)]
    async with at_work(desk):
        await desk.connected(courier)
        await all_closed(database)
        await desk.connected(courier)
        await all_closed(database)
    assert courier.texts == ["Yes."] * 5
    assert courier.calls.count("history") == 4


async def test_a_post_in_doubt_that_was_applied_is_found_and_not_repeated(database: Database) -> None:
    desk, courier = delivery(FakeEngine("Once."), database), FakeCourier()
    courier.after_posting.append(in_doubt())
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    assert courier.texts == ["Once."]
    assert "find" in courier.calls


async def test_a_post_in_doubt_that_was_not_applied_is_made_again(database: Database) -> None:
    desk, courier = delivery(FakeEngine("Once."), database), FakeCourier()
    courier.before_posting.append(in_doubt())
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    assert courier.texts == ["Once."]


async def test_a_limit_is_waited_for(database: Database) -> None:
    desk, courier = delivery(FakeEngine("Once."), database), FakeCourier()
    courier.before_posting += [NotApplied("Too fast.", 0.01), NotApplied("Too fast.", 0.01)]
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    assert courier.texts == ["Once."]
    assert "find" not in courier.calls


async def test_a_refused_answer_is_closed_with_the_reason_and_the_next_is_answered(
    database: Database,
) -> None:
    desk, courier = delivery(FakeEngine(default="Hello."), database), FakeCourier()
    courier.before_posting.append(Refused("I may not write in #general."))
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("one"))
        (row,) = await all_closed(database)
        assert (row.state, row.last_error) == ("done", "I may not write in #general.")
        await desk.receive(said("two"))
        await all_closed(database)
    assert courier.texts == ["Hello."]


async def test_what_was_being_written_at_a_crash_is_written_again_into_the_same_message(
    database: Database,
) -> None:
    engine, courier = FakeEngine(Answer("Half an ", asyncio.Event())), FakeCourier()
    desk = delivery(engine, database)
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await courier.wait_for("posted")
    assert (await inbox(database))[0].state == "new"
    engine.queue("Another answer.")
    async with at_work(again := delivery(engine, database)):
        await again.connected(courier)
        (row,) = await all_closed(database)
    assert courier.texts == ["Another answer."]
    assert row.attempts == 1


async def test_what_is_tried_again_is_asked_again_although_an_earlier_message_was_found_and_answered(
    database: Database,
) -> None:
    engine, courier = FakeEngine(Answer("Half an ", asyncio.Event())), FakeCourier()
    earlier, later = said("earlier"), said("later")
    async with at_work(desk := delivery(engine, database)):
        await desk.connected(courier)
        await desk.receive(later)
        await courier.wait_for("posted")
    engine.queue("First.", "Second.")
    again = delivery(engine, database)
    await again.receive(earlier)
    async with at_work(again):
        await again.connected(courier)
        await all_closed(database)
    asked = [request.messages[-1].content for request in engine.requests]
    assert asked == ["later", "earlier", "later"]


async def test_a_longer_first_try_leaves_no_surplus_messages(database: Database) -> None:
    engine, courier = FakeEngine(Answer("many words " * 20, asyncio.Event())), FakeCourier(limit=50)
    desk = delivery(engine, database)
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await courier.wait_until(lambda: len(courier.standing) == 3)
    engine.queue("Short.")
    async with at_work(again := delivery(engine, database)):
        await again.connected(courier)
        await all_closed(database)
    assert courier.texts == ["Short."]


async def test_a_long_answer_is_sent_in_order_and_compared_with_what_is_stored(database: Database) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    desk, courier = delivery(FakeEngine(words), database), FakeCourier(limit=50, room=False)
    courier.after_posting += [None, in_doubt(), None]
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    assert " ".join(courier.texts).split() == words.split()
    assert (await stored_messages(database))[-1].text == words
    assert [shown.part for shown in courier.standing.values()] == list(range(len(courier.standing)))


async def test_what_is_too_old_other_bots_say_or_was_deleted_is_decided_without_an_answer(
    database: Database,
) -> None:
    desk, courier = delivery(FakeEngine(), database), FakeCourier()
    old = said("old", created_at=datetime.now(UTC) - timedelta(hours=1))
    robot = said("beep", author=Author("9", "Robot", is_bot=True))
    thread = replace(CHANNEL, thread="17")
    gone, strangers = said("gone"), said("unasked", via="thread", conversation=thread)
    for message in (old, robot, gone, strangers):
        await desk.receive(message)
    await desk.deleted(CHANNEL, gone.message_id)
    async with at_work(desk):
        await desk.connected(courier)
        rows = await all_closed(database)
    decided = [(row.decision, row.state) for row in rows]
    assert decided == [("expired", "done"), ("ignore", "done"), (None, "cancelled"), ("ignore", "done")]
    assert courier.texts == []
    assert await stored_messages(database) == []


async def test_an_edit_before_the_answer_counts(database: Database) -> None:
    engine, courier = FakeEngine("Yes."), FakeCourier()
    desk, asked = delivery(engine, database), said("befroe")
    await desk.receive(asked)
    await desk.edited(CHANNEL, asked.message_id, "before <@1>")
    async with at_work(desk):
        await desk.connected(courier)
        await all_closed(database)
    assert engine.requests[0].messages[-1].content == "before @Ada"


async def test_what_the_engine_refuses_is_read_as_its_sentence(database: Database) -> None:
    desk, courier = delivery(FakeEngine(Answer("Half", BadRequest("Too long."))), database), FakeCourier()
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    assert courier.texts == ["Half\n\nToo long."]
    assert (await stored_turns(database))[0].error == "Too long."


async def test_a_message_that_fails_too_often_is_given_up_with_one_apology(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_REST", 0.0)
    died = Answer(EngineDied("Gone."))
    desk, courier = delivery(FakeEngine(*[died] * 6), database), FakeCourier()
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await all_closed(database)
    (row,) = await inbox(database)
    assert (row.decision, row.attempts) == ("dead", 6)
    assert courier.texts == [APOLOGY]


async def test_conversations_are_answered_side_by_side_and_each_in_order(database: Database) -> None:
    go_on = asyncio.Event()
    engine = FakeEngine(Answer("Slow", go_on), default="Beside.")
    desk, courier = delivery(engine, database), FakeCourier()
    elsewhere = ConversationKey("discord", "guild", "elsewhere")
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("one"))
        await courier.wait_for("post")
        await desk.receive(said("two"))
        await desk.receive(said("three", conversation=elsewhere))
        await courier.wait_until(lambda: "Beside." in courier.texts)
        assert courier.texts.count("Beside.") == 1
        go_on.set()
        await all_closed(database)
    assert [request.messages[-1].content for request in engine.requests] == ["one", "three", "two"]


async def test_a_command_in_words_is_answered_without_the_model(database: Database) -> None:
    engine, courier = FakeEngine(), FakeCourier()
    desk = delivery(engine, database)
    async with at_work(desk):
        await desk.connected(courier)
        await desk.receive(said("!help"))
        await all_closed(database)
    assert courier.texts[0].startswith("I am Parley")
    assert engine.requests == []


async def test_after_a_crash_the_only_process_takes_up_at_once_what_was_claimed(database: Database) -> None:
    desk, courier = delivery(FakeEngine("Hello."), database), FakeCourier()
    await desk.receive(said("hi"))
    with database.transaction() as tx:
        tx.execute(
            text("UPDATE inbox SET state = 'claimed', lease_owner = 'dead', lease_until = '2999-01-01'")
        )
        release_all_claims(tx)
    async with at_work(desk):
        await desk.connected(courier)
        await all_closed(database)
    assert courier.texts == ["Hello."]


async def test_what_was_answered_after_a_backup_was_made_is_not_answered_again(database: Database) -> None:
    courier = FakeCourier()
    asked, unanswered = said("hi"), said("and me?")
    courier.standing["p0"] = Shown(asked.message_id, 0, "Answered in the lost time.", "another")
    desk = delivery(FakeEngine("Now."), database, restored=True)
    async with at_work(desk):
        await desk.receive(asked)
        await desk.receive(unanswered)
        await desk.connected(courier)
        rows = await all_closed(database)
    assert courier.texts == ["Answered in the lost time.", "Now."]
    assert [row.decision for row in rows] == ["answer", "answer"]


async def test_a_connection_that_is_superseded_while_its_history_is_read_answers_nothing(
    database: Database,
) -> None:
    desk, courier = delivery(FakeEngine("Hello."), database), FakeCourier()
    await desk.watch([(CHANNEL, False, "1")])
    courier.may_read.clear()
    async with at_work(desk):
        earlier = asyncio.create_task(desk.connected(courier))
        await courier.wait_for("history")
        desk.connecting("discord")
        courier.may_read.set()
        await earlier
        await desk.receive(said("hi"))
        assert courier.texts == []
        assert (await inbox(database))[0].state == "new"
        await desk.connected(courier)
        await all_closed(database)
    assert courier.texts == ["Hello."]


async def test_what_was_decided_holds_for_the_next_try_however_late_it_comes(database: Database) -> None:
    engine, courier = FakeEngine(Answer("Half an ", asyncio.Event())), FakeCourier()
    async with at_work(desk := delivery(engine, database)):
        await desk.connected(courier)
        await desk.receive(said("hi"))
        await courier.wait_for("posted")
    engine.queue("A late answer.")
    async with at_work(later := delivery(engine, database, answer_window=timedelta(0))):
        await later.connected(courier)
        (row,) = await all_closed(database)
    assert (row.decision, courier.texts) == ("answer", ["A late answer."])
