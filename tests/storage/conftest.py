"""Databases for the tests: a SQLite file always, and PostgreSQL where PARLEY_TEST_POSTGRES names a server's URL."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import delete, make_url

from storage.database import Database, migrate
from storage.tables import Account, Identify, Inbox, Lease, Scan, Workspace

SERVER = os.environ.get("PARLEY_TEST_POSTGRES", "")


@contextmanager
def new_postgresql_database() -> Iterator[str]:
    """A database of its own for whoever asks, so that runs beside each other do not meet; dropped at the end."""
    if not SERVER:
        pytest.skip("PARLEY_TEST_POSTGRES names no PostgreSQL server")
    name = sql.Identifier(f"parley_test_{uuid.uuid4().hex}")
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        try:
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
            url = make_url(SERVER).set(database=name.as_string().strip('"'))
            yield url.render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file with all tables, to copy."""
    path = tmp_path_factory.mktemp("migrated") / "parley.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_postgresql() -> Iterator[str]:
    with new_postgresql_database() as url:
        asyncio.run(migrate(url))
        yield url


@pytest.fixture(scope="session")
def bare_postgresql() -> Iterator[str]:
    with new_postgresql_database() as url:
        yield url


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    path = tmp_path / "parley.db"
    shutil.copy(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture
def empty_postgresql(bare_postgresql: str) -> str:
    with psycopg.connect(bare_postgresql, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return bare_postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgresql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A database with all tables and no rows, on each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "migrated_postgresql"))


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    database = await Database.open(sqlite_url)
    yield database
    await database.close()


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """An open database with all tables and no rows, on each kind."""
    database = await Database.open(migrated_url)
    yield database
    if migrated_url.startswith("postgresql"):
        with database.transaction() as tx:
            for table in (Inbox, Lease, Scan, Identify, Account, Workspace):  # with all that was said there
                tx.execute(delete(table))
    await database.close()
