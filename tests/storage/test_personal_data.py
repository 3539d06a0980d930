"""Every table that may hold something about a person is reached from that person's account."""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint, func, select

from storage import tables
from storage.database import Database
from tests.storage.test_conversations import answer, person, say, talk

WITHOUT_PERSONAL_DATA = {
    "workspaces",  # the platform's id of a community
    "channels",  # the platform's id of a place in it
    "conversations",  # the platform's id of a thread
}


def reachable_from(root: Table, all_tables: Iterable[Table]) -> set[str]:
    """The names of `root` and of all tables whose foreign keys lead to it, by however many steps."""
    reached = {root.name}
    while True:
        further = {
            table.name
            for table in all_tables
            if any(key.column.table.name in reached for key in table.foreign_keys)
        }
        if further <= reached:
            return reached
        reached |= further


def test_every_table_leads_to_an_account_or_is_named_as_one_without_personal_data() -> None:
    metadata = tables.Base.metadata
    reached = reachable_from(metadata.tables["accounts"], metadata.tables.values())
    assert reached | WITHOUT_PERSONAL_DATA == set(metadata.tables)
    assert not reached & WITHOUT_PERSONAL_DATA


def test_every_foreign_key_begins_an_index_so_that_forgetting_reads_no_whole_table() -> None:
    slow = []
    for table in tables.Base.metadata.tables.values():
        unique = [c for c in table.constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)]
        first_columns = {next(iter(indexed.columns)).name for indexed in (*table.indexes, *unique)}
        slow += [str(key.parent) for key in table.foreign_keys if key.parent.name not in first_columns]
    assert slow == []


async def test_deleting_an_account_deletes_what_it_said_was_answered_and_decided(database: Database) -> None:
    async with database.transaction() as tx:
        conversation = await talk(tx)
        ann, bob = await person(tx), await person(tx, "Bob", "2")
        await answer(tx, conversation, await say(tx, conversation, "hello", "m1"), "Hi Ann.", "m2")
        reply = (await tx.scalars(select(tables.Message).where(tables.Message.role == "assistant"))).one()
        flag = tables.Flag(message_id=reply.id, source="person", reporter_id=bob, category="rude")
        tx.add_all(
            [
                tables.Consent(account_id=ann, purpose="train", decision="grant"),
                tables.Feedback(message_id=reply.id, account_id=bob, rating="up"),
                flag,
            ]
        )
        await tx.flush()
        tx.add(tables.Review(flag_id=flag.id, reviewer_id=bob, decision="dismiss", why="It is not."))
    async with database.transaction() as tx:
        await tx.delete(await tx.get_one(tables.Account, ann))
    async with database.reading() as session:
        left = {
            table.name: await session.scalar(select(func.count()).select_from(table))
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
    async with database.transaction() as tx:
        conversation = await talk(tx)
        message_id = await say(tx, conversation, "hello", "m1")
        bob = await person(tx, "Bob", "2")
        flag = tables.Flag(
            message_id=message_id,
            source="person",
            reporter_id=bob,
            category="rude",
            raised_at=datetime.now(UTC),
        )
        tx.add(flag)
        await tx.flush()
        tx.add(tables.Review(flag_id=flag.id, reviewer_id=bob, decision="uphold"))
    async with database.transaction() as tx:
        await tx.delete(await tx.get_one(tables.Account, bob))
    async with database.reading() as session:
        assert list(await session.scalars(select(tables.Flag.reporter_id))) == [None]
        assert list(await session.scalars(select(tables.Review.reviewer_id))) == [None]
