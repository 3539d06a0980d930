"""What a person reads when the PostgreSQL server cannot be used. Only the last tests need one."""

import socket

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from storage.database import Database, migrate
from storage.errors import DatabaseUnavailable

PASSWORD = "hunter2-very-secret"


@pytest.mark.parametrize("attempt", [migrate, Database.open])
async def test_an_unreachable_server_is_told_in_words_without_the_password(attempt: object) -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        port = bound_but_deaf.getsockname()[1]
        with pytest.raises(DatabaseUnavailable) as caught:
            await attempt(f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/talk?application_name={PASSWORD}")  # type: ignore[operator]
    assert str(caught.value) == (
        f"The PostgreSQL database talk at 127.0.0.1:{port} cannot be used: Connection refused."
    )
    assert PASSWORD not in whole_chain(caught.value)


async def test_an_option_that_postgresql_does_not_know_is_told_in_words() -> None:
    with pytest.raises(DatabaseUnavailable, match='invalid connection option "sslmood"'):
        await Database.open(f"postgresql://ann:{PASSWORD}@127.0.0.1:1/talk?sslmood=require")


async def test_a_database_that_is_not_there_is_named_without_the_password(migrated_postgresql: str) -> None:
    url = make_url(migrated_postgresql).set(database="parley_test_not_there", password=PASSWORD)
    with pytest.raises(DatabaseUnavailable, match='"parley_test_not_there" does not exist') as caught:
        await Database.open(url.render_as_string(hide_password=False))
    assert PASSWORD not in whole_chain(caught.value)


async def test_a_connection_that_the_server_drops_is_told_in_words(migrated_postgresql: str) -> None:
    database = await Database.open(migrated_postgresql)
    with pytest.raises(DatabaseUnavailable, match=r"cannot be used: .*(closed|terminat)"):
        await database.write(Session.execute, text("SELECT pg_terminate_backend(pg_backend_pid())"))
    await database.close()


async def test_after_the_server_was_restarted_nobody_notices(migrated_postgresql: str) -> None:
    database = await Database.open(migrated_postgresql)
    with psycopg.connect(migrated_postgresql, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with database.transaction() as tx:
        assert tx.scalar(text("SELECT 1")) == 1
    await database.close()


def whole_chain(error: BaseException | None) -> str:
    """Everything that a log would print of an error and of those that led to it."""
    told = ""
    while error is not None:
        told += f"{error!r} {error} "
        error = error.__cause__ or error.__context__
    return told
