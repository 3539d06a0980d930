"""What the answering path stores and reads back, the same on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from storage import tables
from storage.conversations import (
    Conversation,
    HistoryMessage,
    find_conversation,
    find_or_add_account,
    find_or_add_conversation,
    find_referenced,
    list_history,
    record_message,
    reset_conversation,
)
from storage.database import Database
from storage.turns import TurnRecord, record_turn

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)


def talk(tx: Session, *, channel: str = "general", thread: str = "") -> Conversation:
    return find_or_add_conversation(
        tx, platform="discord", workspace="club", channel=channel, thread=thread, private=False
    )


def person(tx: Session, name: str = "Ann", external_id: str = "1") -> int:
    return find_or_add_account(
        tx, platform="discord", workspace="club", external_id=external_id, name=name, is_bot=False
    )


def say(tx: Session, conversation: Conversation, words: str, external_id: str) -> int | None:
    return record_message(
        tx,
        conversation=conversation,
        account_id=person(tx),
        external_id=external_id,
        text=words,
        source="discord",
        created_at=NOON,
        reply_to=None,
    )


def turn_about(conversation: Conversation, question_id: int) -> TurnRecord:
    return TurnRecord(
        conversation=conversation,
        question_id=question_id,
        version="v7",
        model="starter",
        sampling={"temperature": 0.7, "stop": ("###",), "seed": None},
        seed=2**63 - 1,
        prompt_message_ids=(question_id,),
        prompt_tokens=120,
        completion_tokens=30,
        cached_tokens=100,
        queue_seconds=0.25,
        first_token_seconds=0.5,
        total_seconds=2.5,
        finish_reason="stop",
        error=None,
        started_at=NOON,
        prompt=[{"role": "user", "content": "hello"}],
    )


def answer(tx: Session, conversation: Conversation, question: int | None, words: str, *ids: str) -> int:
    assert question is not None
    answer_id = record_turn(tx, turn_about(conversation, question), words, ids)
    assert answer_id is not None
    return answer_id


async def texts(database: Database, conversation: Conversation, limit: int = 100) -> list[str]:
    with database.reading() as session:
        return [message.text for message in list_history(session, conversation, limit=limit)]


async def count(database: Database, table: type[tables.Base]) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


async def test_a_place_is_one_conversation_however_often_it_is_asked_for(database: Database) -> None:
    with database.transaction() as tx:
        first = talk(tx)
        again = talk(tx)
        thread = talk(tx, thread="t1")
    assert first == again
    assert thread.id != first.id
    assert thread.channel_id == first.channel_id
    assert await count(database, tables.Workspace) == 1


async def test_an_unknown_place_has_no_conversation_and_gets_none_by_looking(database: Database) -> None:
    with database.reading() as session:
        found = find_conversation(session, platform="slack", workspace="w", channel="c", thread="")
    assert found is None
    assert await count(database, tables.Workspace) == 0


async def test_the_same_ids_on_two_platforms_are_two_conversations(database: Database) -> None:
    with database.transaction() as tx:
        one = find_or_add_conversation(
            tx, platform="discord", workspace="1", channel="1", thread="1", private=False
        )
        other = find_or_add_conversation(
            tx, platform="slack", workspace="1", channel="1", thread="1", private=True
        )
        found = find_conversation(tx, platform="slack", workspace="1", channel="1", thread="1")
    assert one.id != other.id
    assert found == other
    assert (other.platform, other.private) == ("slack", True)


async def test_a_new_place_asked_for_by_many_at_once_is_added_once(database: Database) -> None:
    def ask(tx: Session) -> tuple[Conversation, int]:
        return talk(tx), person(tx)

    assert len(set(await asyncio.gather(*(database.write(ask) for _ in range(8))))) == 1
    assert await count(database, tables.Account) == 1


async def test_an_account_takes_the_name_that_it_has_now(database: Database) -> None:
    with database.transaction() as tx:
        before = person(tx, name="Ann")
    with database.transaction() as tx:
        assert person(tx, name="Ann 🌻") == before
    with database.reading() as session:
        assert list(session.scalars(select(tables.Account.name))) == ["Ann 🌻"]


async def test_a_person_on_discord_is_one_account_in_all_workspaces_and_on_slack_one_in_each(
    database: Database,
) -> None:
    with database.transaction() as tx:
        accounts = {
            (platform, workspace): find_or_add_account(
                tx, platform=platform, workspace=workspace, external_id="1", name="Ann", is_bot=False
            )
            for platform in ("discord", "slack")
            for workspace in ("club", "direct")
        }
    assert accounts["discord", "club"] == accounts["discord", "direct"]
    assert accounts["slack", "club"] != accounts["slack", "direct"]


async def test_a_message_delivered_twice_is_recorded_once(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        assert say(tx, conversation, "hello", "m1") is not None
        assert say(tx, conversation, "hello", "m1") is None
    assert await texts(database, conversation) == ["hello"]


async def test_a_message_delivered_under_two_threads_of_a_channel_is_recorded_once(
    database: Database,
) -> None:
    with database.transaction() as tx:
        assert say(tx, talk(tx), "hello", "m1") is not None
        assert say(tx, talk(tx, thread="m1"), "hello", "m1") is None
        assert say(tx, talk(tx, channel="other"), "hello", "m1") is not None


async def test_a_message_delivered_many_times_at_once_is_recorded_once(database: Database) -> None:
    def deliver(tx: Session) -> int | None:
        return say(tx, talk(tx), "hello", "m1")

    recorded = await asyncio.gather(*(database.write(deliver) for _ in range(8)))
    assert len([message_id for message_id in recorded if message_id is not None]) == 1
    assert await count(database, tables.Message) == 1


async def test_a_message_of_nobody_is_refused_and_not_taken_for_a_duplicate(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as tx:
        record_message(
            tx,
            conversation=talk(tx),
            account_id=404,
            external_id="m1",
            text="hello",
            source="discord",
            created_at=NOON,
            reply_to=None,
        )


async def test_the_history_is_oldest_first_and_names_the_speakers(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "hello", "m1")
        answer(tx, conversation, question, "Hi Ann.", "m2")
        say(tx, talk(tx, channel="other"), "elsewhere", "m1")
    with database.reading() as session:
        first, second = list_history(session, conversation, limit=10)
    assert first == HistoryMessage(question or 0, "user", "Ann", "hello", NOON)
    assert second == HistoryMessage(second.id, "assistant", None, "Hi Ann.", NOON + timedelta(seconds=2.5))
    assert second.id > first.id


async def test_the_history_keeps_the_newest_in_the_order_of_recording(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        for number in range(6):
            say(tx, conversation, f"message {number}", f"m{9 - number}")
    assert await texts(database, conversation, limit=3) == ["message 3", "message 4", "message 5"]


async def test_a_reset_hides_what_was_said_and_deletes_nothing(database: Database) -> None:
    with database.transaction() as tx:
        conversation, other = talk(tx), talk(tx, thread="t")
        answer(tx, conversation, say(tx, conversation, "before", "m1"), "a", "m2")
        say(tx, other, "another thread", "m3")
        reset_conversation(tx, conversation)
    assert await texts(database, conversation) == []
    with database.transaction() as tx:
        say(tx, conversation, "after", "m4")
    assert await texts(database, conversation) == ["after"]
    assert await texts(database, other) == ["another thread"]
    assert await count(database, tables.Message) == 4


async def test_an_answer_that_was_being_written_during_a_reset_stays_outside(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "before", "m1")
        reset_conversation(tx, conversation)
        answer(tx, conversation, question, "too late", "m2")
        say(tx, conversation, "after", "m3")
    assert await texts(database, conversation) == ["after"]


async def test_a_history_for_a_question_ends_with_it_whatever_was_recorded_or_reset_since(
    database: Database,
) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        say(tx, conversation, "before", "m1")
        question = say(tx, conversation, "asked again", "m2")
        other = say(tx, conversation, "found late", "m3")
        answer(tx, conversation, other, "Answered first.", "m4")
    history = await database.read(list_history, conversation, limit=10, question_id=question)
    assert [message.text for message in history] == ["before", "asked again"]
    await database.write(reset_conversation, conversation)
    history = await database.read(list_history, conversation, limit=10, question_id=question)
    assert [message.text for message in history] == ["asked again"]


async def test_resetting_an_empty_conversation_hides_nothing(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        reset_conversation(tx, conversation)
        say(tx, conversation, "hello", "m1")
    assert await texts(database, conversation) == ["hello"]


async def test_a_turn_is_read_back_with_all_that_was_recorded(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "hello", "m1")
        answer(tx, conversation, question, "Hi.", "m2", "m3")
    with database.reading() as session:
        turn = (session.scalars(select(tables.Turn))).one()
        stored = {name: value for name, value in vars(turn).items() if not name.startswith("_")}
        reply = session.get_one(tables.Message, turn.answer_id)
        parts = session.scalars(select(tables.MessagePart).order_by(tables.MessagePart.part))
        shown_as = [(part.message_id, part.part, part.external_id) for part in parts]
    assert stored == {
        "id": turn.id,
        "conversation_id": conversation.id,
        "question_id": question,
        "answer_id": reply.id,
        "version": "v7",
        "model": "starter",
        "sampling": {"temperature": 0.7, "stop": ["###"], "seed": None},
        "seed": 2**63 - 1,
        "prompt_message_ids": [question],
        "prompt": [{"role": "user", "content": "hello"}],
        "prompt_tokens": 120,
        "completion_tokens": 30,
        "cached_tokens": 100,
        "queue_seconds": 0.25,
        "first_token_seconds": 0.5,
        "total_seconds": 2.5,
        "finish_reason": "stop",
        "error": None,
        "started_at": NOON,
    }
    assert (reply.role, reply.text, reply.source, reply.question_id) == (
        "assistant",
        "Hi.",
        "discord",
        question,
    )
    assert shown_as == [(reply.id, 0, "m2"), (reply.id, 1, "m3")]


async def test_a_failed_turn_has_its_sentence_and_no_answer(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "hello", "m1")
        turn = replace(
            turn_about(conversation, question or 0),
            seed=None,
            prompt_tokens=None,
            completion_tokens=None,
            cached_tokens=None,
            queue_seconds=None,
            first_token_seconds=None,
            finish_reason="failed",
            error="The queue is full; try again in 5 seconds.",
        )
        record_turn(tx, turn, None, ())
    with database.reading() as session:
        row = (session.scalars(select(tables.Turn))).one()
    assert (row.answer_id, row.finish_reason, row.seed) == (None, "failed", None)
    assert row.error == "The queue is full; try again in 5 seconds."
    assert await texts(database, conversation) == ["hello"]


async def test_a_turn_that_cannot_be_stored_leaves_no_answer_behind(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "hello", "m1")
    turn = replace(turn_about(conversation, question or 0), finish_reason="tired")  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="ck_turns_finish_reason"), database.transaction() as tx:
        record_turn(tx, turn, "Hi.", ("m2",))
    assert await texts(database, conversation) == ["hello"]
    assert await count(database, tables.MessagePart) == 0


async def test_times_come_back_in_utc_whatever_zone_they_went_in_with(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        message_id = record_message(
            tx,
            conversation=conversation,
            account_id=person(tx),
            external_id="m1",
            text="hello",
            source="discord",
            created_at=NOON.astimezone(timezone(timedelta(hours=9))),
            reply_to="m0",
        )
    with database.reading() as session:
        message = session.get_one(tables.Message, message_id)
    assert message.created_at == NOON
    assert message.created_at.tzinfo is UTC
    assert message.recorded_at.tzinfo is UTC
    assert message.reply_to == "m0"


async def test_a_time_without_a_zone_is_refused_in_words(database: Database) -> None:
    with pytest.raises(StatementError, match="must say its timezone"), database.transaction() as tx:
        tx.add(tables.Workspace(platform="slack", external_id="w", added_at=NOON.replace(tzinfo=None)))


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("我喜欢在晴朗的日子里骑自行车", "我喜欢在晴朗的日子里骑自行车"),
        ("👩‍👩‍👧‍👦 \n\t'; DROP TABLE messages; --", "👩‍👩‍👧‍👦 \n\t'; DROP TABLE messages; --"),
        ("", ""),
        ("nul \0 and half a pair \ud83d", "nul \ufffd and half a pair \ufffd"),
    ],
)
async def test_every_text_can_be_stored(database: Database, written: str, stored: str) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        answer(tx, conversation, say(tx, conversation, written, "m1"), written)
    assert await texts(database, conversation) == [stored, stored]


async def test_a_word_that_is_not_on_the_list_is_refused_by_the_database_itself(database: Database) -> None:
    with pytest.raises(IntegrityError, match="ck_workspaces_platform"), database.transaction() as tx:
        tx.execute(
            text("INSERT INTO workspaces (platform, external_id, added_at) VALUES ('irc', 'w', '2026-01-01')")
        )


async def test_the_number_of_a_deleted_message_is_never_given_again(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        first = say(tx, conversation, "hello", "m1")
        tx.execute(text("DELETE FROM messages"))
        second = say(tx, conversation, "hello", "m1")
    assert first is not None
    assert second is not None
    assert second > first


async def test_a_personal_history_is_what_one_said_and_what_was_answered_to_that(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        mine = say(tx, conversation, "I am Ann", "m1")
        answer(tx, conversation, mine, "Hi Ann.", "a1")
        other = record_message(
            tx,
            conversation=conversation,
            account_id=person(tx, "Bob", "2"),
            external_id="m2",
            text="I am Bob",
            source="discord",
            created_at=NOON,
            reply_to=None,
        )
        answer(tx, conversation, other, "Hi Bob.", "a2")
        question = say(tx, conversation, "who am I?", "m3")
    history = await database.read(list_history, conversation, limit=10, question_id=question, personal=True)
    assert [message.text for message in history] == ["I am Ann", "Hi Ann.", "who am I?"]


async def test_what_a_reply_refers_to_is_found_by_the_id_of_a_message_or_of_a_part(
    database: Database,
) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        question = say(tx, conversation, "hello", "m1")
        answer(tx, conversation, question, "Hi.", "a1", "a2")
    for external_id, words in (("m1", "hello"), ("a1", "Hi."), ("a2", "Hi.")):
        found = await database.read(find_referenced, conversation, external_id)
        assert found is not None
        assert found.text == words
    assert await database.read(find_referenced, conversation, "unknown") is None
