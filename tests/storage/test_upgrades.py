"""From the tables of every earlier Parley to this one's, with what they held, on both databases."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Engine, MetaData, create_engine, insert, inspect, select
from sqlalchemy.pool import NullPool

from storage.address import parse_address
from storage.database import migrate
from storage.schema import alembic_config, revisions
from storage.sqlite import open_for_migration
from storage.tables import Base

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""By table, in an order in which none refers to one that comes later."""

ADDED: Mapping[str, Rows] = {
    "0001": {
        "workspaces": [
            {"id": 1, "platform": "discord", "external_id": "club", "added_at": NOON},
            {"id": 2, "platform": "slack", "external_id": "T1", "added_at": NOON},
        ],
        "channels": [{"id": 1, "workspace_id": 1, "external_id": "general", "added_at": NOON}],
        "conversations": [
            {"id": 1, "channel_id": 1, "thread": "", "private": False, "added_at": NOON},
            {"id": 2, "channel_id": 1, "thread": "t", "private": True, "history_starts_after": 1},
        ],
        "accounts": [
            {"id": 1, "platform": "discord", "scope": "", "external_id": "7", "name": "Ann 🌻"},
            {"id": 2, "platform": "slack", "scope": "T1", "external_id": "U1", "name": "Bob", "is_bot": True},
        ],
        "consents": [
            {"id": 1, "account_id": 1, "purpose": "train", "decision": "grant"},
            {"id": 2, "account_id": 2, "workspace_id": 2, "purpose": "store", "decision": "withdraw"},
        ],
        "messages": [
            {"id": 1, "role": "user", "account_id": 1, "external_id": "m1", "text": "Hello?\n\tÄ 東京"},
            {"id": 2, "role": "assistant", "question_id": 1, "text": "Hi Ann."},
        ],
        "message_parts": [
            {"message_id": 2, "part": 0, "channel_id": 1, "external_id": "m2"},
            {"message_id": 2, "part": 1, "channel_id": 1, "external_id": "m3"},
        ],
        "turns": [
            {
                "id": 1,
                "conversation_id": 1,
                "question_id": 1,
                "answer_id": 2,
                "version": "v7",
                "model": "starter",
                "sampling": {"temperature": 0.7, "stop": ["###"], "seed": None},
                "seed": 2**63 - 1,
                "prompt_message_ids": [1],
                "total_seconds": 2.5,
                "finish_reason": "stop",
                "started_at": NOON,
            }
        ],
        "feedback": [{"id": 1, "message_id": 2, "account_id": 1, "rating": "up", "given_at": NOON}],
        "flags": [
            {"id": 1, "message_id": 2, "source": "classifier", "category": "rude", "score": 0.25},
            {"id": 2, "message_id": 2, "source": "person", "category": "rude", "reporter_id": 2},
        ],
        "reviews": [{"id": 1, "flag_id": 2, "reviewer_id": 1, "decision": "dismiss", "why": "It is not."}],
    },
    "0002": {
        "inbox": [{"id": 1, "platform": "discord", "workspace": "club", "channel": "general", "via": "dm"}],
        "outbox": [{"id": 1, "inbox_id": 1, "part": 0, "op": "post", "nonce": "a" * 24, "state": "sent"}],
        "leases": [{"name": "discord", "holder": "one", "fence": 3, "expires_at": NOON}],
        "scans": [{"id": 1, "platform": "discord", "workspace": "club", "verified_upto": "100"}],
        "identifies": [{"id": 1, "platform": "discord", "at": NOON}],
    },
    "0003": {
        "choices": [
            {
                "id": 1,
                "workspace_id": 1,
                "scope": "channel",
                "scope_id": "general",
                "name": "talk",
                "value": "off",
            },
            {"id": 2, "workspace_id": 1, "scope": "person", "scope_id": "7", "account_id": 1, "name": "seed"},
        ],
        "bundles": [{"id": 1, "workspace_id": 1, "name": "tutor", "values": {"persona": "You teach."}}],
        "access_rules": [
            {"id": 1, "workspace_id": 1, "need": "chat", "subject_kind": "everyone", "allow": False}
        ],
    },
}
"""What the tables that a revision adds may hold; a column that is not named and takes no NULL gets a plain value."""

PLAIN: Mapping[str, Any] = {
    "conversation_id": 1,
    "channel_id": 1,
    "source": "discord",
    "state": "new",
    "author_roles": [],
    "attachments": [],
}


EARLIER = revisions()[:-1]

Content = dict[str, list[dict[str, Any]]]


@pytest.fixture
def newest(request: pytest.FixtureRequest, empty_url: str) -> dict[str, object]:
    """What a database of the same kind looks like that was empty before this version migrated it."""
    fresh = "sqlite_url" if empty_url.startswith("sqlite") else "migrated_postgresql"
    with open_blocking(request.getfixturevalue(fresh)).begin() as connection:
        return describe(connection)


@pytest.mark.parametrize("earlier", EARLIER)
async def test_an_earlier_database_without_rows_gets_the_newest_tables(
    empty_url: str, newest: dict[str, object], earlier: str
) -> None:
    with open_blocking(empty_url).begin() as connection:
        command.upgrade(alembic_config(connection), earlier)
        assert describe(connection) != newest
    await migrate(empty_url)
    with open_blocking(empty_url).begin() as connection:
        assert describe(connection) == newest
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


@pytest.mark.parametrize("earlier", EARLIER)
async def test_an_earlier_database_keeps_its_rows_and_gets_the_newest_tables(
    empty_url: str, newest: dict[str, object], earlier: str
) -> None:
    with open_blocking(empty_url).begin() as connection:
        command.upgrade(alembic_config(connection), earlier)
        fill(connection, earlier)
        before = read(connection)
    assert all(before[table] for table in before)
    await migrate(empty_url)
    with open_blocking(empty_url).begin() as connection:
        assert describe(connection) == newest
        assert only(before, read(connection)) == before


@pytest.mark.parametrize("revision", revisions())
def test_every_table_of_a_revision_is_filled_for_these_tests(empty_url: str, revision: str) -> None:
    with open_blocking(empty_url).begin() as connection:
        command.upgrade(alembic_config(connection), revision)
        fill(connection, revision)
        assert [table for table, rows in read(connection).items() if not rows] == []


def open_blocking(url: str) -> Engine:
    address = parse_address(url)
    if address.path is None:
        return create_engine(address.url, poolclass=NullPool)
    return open_for_migration(address.url)


def fill(connection: Connection, revision: str) -> None:
    """Put rows into every table that there is at `revision`."""
    tables = reflect(connection).tables
    for added in revisions()[: revisions().index(revision) + 1]:
        for name, rows in ADDED[added].items():
            for row in rows:
                connection.execute(
                    insert(tables[name]).values(plain_values(tables[name].columns) | dict(row))
                )


def plain_values(columns: Iterable[Column[Any]]) -> dict[str, Any]:
    return {
        column.name: PLAIN.get(
            column.name, NOON if column.type.python_type is datetime else column.type.python_type()
        )
        for column in columns
        if not column.nullable and not column.primary_key
    }


def read(connection: Connection) -> Content:
    return {
        name: [
            dict(row)
            for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        ]
        for name, table in reflect(connection).tables.items()
        if name != "alembic_version"
    }


def only(wanted: Content, found: Content) -> Content:
    """What `found` has of the tables and columns of `wanted`, which it may have added to."""
    return {
        table: [{column: row[column] for column in rows[0]} for row in found[table]]
        for table, rows in wanted.items()
    }


def reflect(connection: Connection) -> MetaData:
    tables = MetaData()
    tables.reflect(connection)
    return tables


def describe(connection: Connection) -> dict[str, object]:
    """All that the database tells of its tables, in an order that does not depend on how they came about."""
    look = inspect(connection)
    return {
        table: {
            "columns": by_name(look.get_columns(table)),
            "primary key": look.get_pk_constraint(table),
            "foreign keys": by_name(look.get_foreign_keys(table)),
            "indexes": by_name(look.get_indexes(table)),
            "unique": by_name(look.get_unique_constraints(table)),
            "checks": by_name(look.get_check_constraints(table)),
        }
        for table in look.get_table_names()
    }


def by_name(described: Iterable[Any]) -> list[dict[str, str]]:
    found = [{key: str(value) for key, value in one.items()} for one in described]
    return sorted(found, key=lambda one: one["name"])
