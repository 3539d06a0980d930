"""Every table that may hold something about a person is reached from that person's account."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint, func, select

from storage import tables
from storage.database import Database
from storage.inbox import add_received, cancel_received, close_received, record_decision
from storage.outbox import commit_answer, conclude_answer
from tests.storage.test_conversations import answer, person, say, talk
from tests.storage.test_inbox import NOON, claim_in, received

WITHOUT_PERSONAL_DATA = {
    "workspaces",  # the platform's id of a community
    "channels",  # the platform's id of a place in it
    "conversations",  # the platform's id of a thread
    "scans",  # the same ids
    "leases",  # the names of processes
    "identifies",  # times
}

SOMETIMES_WITHOUT_ACCOUNT = {
    "messages",  # the assistant's lead to the question, and so to who asked it
    "inbox",  # what is not in the dialogue, or not yet: once it is closed, it says nothing of anybody
    "choices",  # a place's lead to who made them, if to anybody; a person's own always lead to that person
    "bundles",  # the workspace's; a person's own preset leads to that person
    "access_rules",  # of the moderators about an id; they hold for somebody who was forgotten, too
}


def reachable_from(root: Table, all_tables: Iterable[Table], *, always: bool = False) -> set[str]:
    """The names of `root` and of all tables whose foreign keys lead to it, by however many steps.

    `always` leaves out the keys that may be NULL, but those of `SOMETIMES_WITHOUT_ACCOUNT`.
    """
    reached = {root.name}
    while True:
        further = {
            table.name
            for table in all_tables
            if any(
                key.column.table.name in reached
                and not (always and key.parent.nullable and table.name not in SOMETIMES_WITHOUT_ACCOUNT)
                for key in table.foreign_keys
            )
        }
        if further <= reached:
            return reached
        reached |= further


def test_every_table_leads_to_an_account_or_is_named_as_one_without_personal_data() -> None:
    metadata = tables.Base.metadata
    reached = reachable_from(metadata.tables["accounts"], metadata.tables.values())
    assert reached | WITHOUT_PERSONAL_DATA == set(metadata.tables)
    assert not reached & WITHOUT_PERSONAL_DATA


def test_no_row_but_those_that_are_named_may_lead_to_no_account() -> None:
    metadata = tables.Base.metadata
    root = metadata.tables["accounts"]
    every_row = reachable_from(root, metadata.tables.values(), always=True)
    assert every_row == reachable_from(root, metadata.tables.values())
    for name in SOMETIMES_WITHOUT_ACCOUNT:
        keys = metadata.tables[name].foreign_keys
        assert all(key.parent.nullable for key in keys if key.column.table.name in every_row)


def test_every_foreign_key_begins_an_index_so_that_forgetting_reads_no_whole_table() -> None:
    slow = []
    for table in tables.Base.metadata.tables.values():
        unique = [c for c in table.constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)]
        first_columns = {next(iter(indexed.columns)).name for indexed in (*table.indexes, *unique)}
        slow += [str(key.parent) for key in table.foreign_keys if key.parent.name not in first_columns]
    assert slow == []


async def test_deleting_an_account_deletes_what_it_said_was_answered_and_decided(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        ann, bob = person(tx), person(tx, "Bob", "2")
        question_id = say(tx, conversation, "hello", "m1")
        answer_id = answer(tx, conversation, question_id, "Hi Ann.", "m2")
        add_received(tx, received("m1"), NOON)
        claimed = claim_in(tx)
        assert claimed is not None
        record_decision(tx, claimed, "answer", question_id)
        commit_answer(tx, claimed, ["Hi Ann."], decision="answer", answer_id=answer_id, shown={})
        reply = (tx.scalars(select(tables.Message).where(tables.Message.role == "assistant"))).one()
        flag = tables.Flag(message_id=reply.id, source="person", reporter_id=bob, category="rude")
        tx.add_all(
            [
                tables.Consent(account_id=ann, purpose="train", decision="grant"),
                tables.Feedback(message_id=reply.id, account_id=bob, rating="up"),
                flag,
            ]
        )
        tx.flush()
        tx.add(tables.Review(flag_id=flag.id, reviewer_id=bob, decision="dismiss", why="It is not."))
    with database.transaction() as tx:
        tx.delete(tx.get_one(tables.Account, ann))
    with database.reading() as session:
        left = {
            table.name: session.scalar(select(func.count()).select_from(table))
            for table in tables.Base.metadata.tables.values()
        }
    assert {name for name, rows in left.items() if rows} == {
        "workspaces",
        "channels",
        "conversations",
        "accounts",
    }
    assert left["accounts"] == 1


async def test_a_flag_and_its_review_outlive_the_people_who_made_them(database: Database) -> None:
    with database.transaction() as tx:
        conversation = talk(tx)
        message_id = say(tx, conversation, "hello", "m1")
        bob = person(tx, "Bob", "2")
        flag = tables.Flag(
            message_id=message_id,
            source="person",
            reporter_id=bob,
            category="rude",
            raised_at=datetime.now(UTC),
        )
        tx.add(flag)
        tx.flush()
        tx.add(tables.Review(flag_id=flag.id, reviewer_id=bob, decision="uphold"))
    with database.transaction() as tx:
        tx.delete(tx.get_one(tables.Account, bob))
    with database.reading() as session:
        assert list(session.scalars(select(tables.Flag.reporter_id))) == [None]
        assert list(session.scalars(select(tables.Review.reviewer_id))) == [None]


@pytest.mark.parametrize("end", ["ignored", "a command", "cancelled"])
async def test_what_never_got_into_the_dialogue_keeps_nothing_of_its_author_once_it_is_closed(
    database: Database, end: str
) -> None:
    said = replace(
        received(), text="my secret", author_id="id of Ann", author_name="name of Ann", token="token"
    )
    with database.transaction() as tx:
        add_received(tx, said, NOON)
        if end == "cancelled":
            cancel_received(tx, said.platform, said.workspace, said.channel, said.message_id)
        else:
            claimed = claim_in(tx)
            assert claimed is not None
            if end == "ignored":
                record_decision(tx, claimed, "ignore")
                close_received(tx, claimed, "done")
            else:
                told = ["What Ann may read: my secret"]
                commit_answer(tx, claimed, told, decision="answer", answer_id=None, shown={})
                conclude_answer(tx, claimed)
    with database.reading() as session:
        for table in (tables.Inbox.__table__, tables.Outbox.__table__):
            for row in (session.execute(select(table))).all():
                assert not any(word in repr(row) for word in ("secret", "Ann", "token"))
        assert session.scalar(select(func.count()).select_from(tables.Inbox)) == 1
