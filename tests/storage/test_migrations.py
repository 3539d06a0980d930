"""From nothing to this version's tables, on both databases, and what happens when that is not possible."""

import asyncio
import sqlite3
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, create_engine, func, insert, inspect, select, text

from storage.address import parse_address
from storage.database import Database, migrate
from storage.errors import DatabaseDamaged, SchemaTooNew, SchemaTooOld
from storage.schema import MIGRATION_LOCK, alembic_config, revisions
from storage.sqlite import open_for_migration
from storage.tables import Base, Channel, Workspace


async def test_the_migrated_database_has_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.reading() as session:
        differences = compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    assert differences == []


async def test_the_migrated_database_has_every_check_of_the_models(database: Database) -> None:
    def checks(connection: Connection) -> set[str]:
        look = inspect(connection)
        return {
            str(check["name"])
            for table in look.get_table_names()
            for check in look.get_check_constraints(table)
        }

    with database.reading() as session:
        found = checks(session.connection())
    wanted = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert found == wanted
    assert "ck_messages_source" in found


async def test_migrating_twice_is_migrating_once(empty_url: str) -> None:
    await migrate(empty_url)
    await migrate(empty_url)
    database = await Database.open(empty_url)
    with database.reading() as session:
        assert list(session.scalars(text("SELECT version_num FROM alembic_version"))) == [revisions()[-1]]
    await database.close()


async def test_several_programs_migrate_an_empty_postgresql_one_after_the_other(
    empty_postgresql: str,
) -> None:
    await asyncio.gather(*(migrate(empty_postgresql) for _ in range(3)))
    await (await Database.open(empty_postgresql)).close()


async def test_a_program_that_migrates_postgresql_waits_for_another_that_does(empty_postgresql: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    )
    with psycopg.connect(empty_postgresql, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        migration = asyncio.create_task(migrate(empty_postgresql))
        while other.execute(waiting).fetchone() == (0,):
            assert not migration.done()
            await asyncio.sleep(0)
        other.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        await migration


async def test_several_databases_are_migrated_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(4)]
    await asyncio.gather(*(migrate(url) for url in urls))
    for url in urls:
        await (await Database.open(url)).close()


async def test_a_database_without_its_tables_is_not_opened(empty_url: str) -> None:
    with pytest.raises(SchemaTooOld, match="Run: parley migrate"):
        await Database.open(empty_url)


async def test_a_database_of_a_newer_parley_is_refused_in_words(empty_url: str) -> None:
    await migrate(empty_url)
    database = await Database.open(empty_url)
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    for attempt in (migrate, Database.open):
        with pytest.raises(
            SchemaTooNew, match=r"revision 9999, which this Parley does not know.*Update Parley"
        ):
            await attempt(empty_url)


async def test_a_migration_that_leaves_dangling_references_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE b (a_id INTEGER REFERENCES a (id))")
        connection.execute("INSERT INTO b VALUES (7)")
    with pytest.raises(DatabaseDamaged, match="row 1 of b refers to a row of a that is not there"):
        await migrate(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        assert [name for (name,) in tables] == ["a", "b"]


async def test_a_table_can_be_rebuilt_on_sqlite_without_losing_what_refers_to_it(sqlite_url: str) -> None:
    address = parse_address(sqlite_url)
    with open_for_migration(address.url).begin() as connection:
        connection.execute(insert(Workspace).values(id=1, platform="discord", external_id="w"))
        connection.execute(insert(Channel).values(workspace_id=1, external_id="c"))
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("workspaces", recreate="always"):
            pass
        assert connection.scalar(select(func.count()).select_from(Channel)) == 1


def test_the_newest_file_is_the_head_that_alembic_finds() -> None:
    with create_engine("sqlite://").connect() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
    assert script.get_heads() == [revisions()[-1]]
    assert sorted(revision.revision for revision in script.walk_revisions()) == revisions()
