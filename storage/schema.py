"""Which tables a database has, and bringing them up to date. Blocking: callers run it in a thread."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from storage.errors import DatabaseDamaged, SchemaTooNew, SchemaTooOld

if TYPE_CHECKING:
    from alembic.config import Config

VERSIONS = Path(__file__).parent / "migrations" / "versions"

MIGRATION_LOCK = 0x5061726C6579
"""PostgreSQL's advisory lock that makes two programs migrate one after the other."""

_one_at_a_time = threading.Lock()
"""Alembic keeps the running migration's connection in a global of the process."""


def upgrade_schema(connection: Connection, where: str) -> None:
    """Run the migrations that are missing, inside the transaction of `connection`, or none of them.

    Raises `SchemaTooNew` when the database is at a revision that this Parley does not have.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    if _is_at_head(connection, where):
        return
    from alembic import command  # a fifth of a second that only a migration takes

    config = alembic_config(connection)
    with _one_at_a_time:
        command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        _check_references(connection, where)


def check_schema(connection: Connection, where: str) -> None:
    """Raise `SchemaTooOld` or `SchemaTooNew` unless every migration has been run."""
    if not _is_at_head(connection, where):
        raise SchemaTooOld(f"{where} is older than this Parley. Run: parley migrate")


def alembic_config(connection: Connection) -> "Config":
    """Alembic's settings, without an alembic.ini: the migrations travel inside this package."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "storage:migrations")
    return config


def revisions() -> list[str]:
    """Every revision that this Parley has, the newest last: a migration's file name begins with its number."""
    return sorted(path.stem.partition("_")[0] for path in VERSIONS.glob("[0-9]*.py"))


def _is_at_head(connection: Connection, where: str) -> bool:
    current: set[str] = set()
    if inspect(connection).has_table("alembic_version"):
        current = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    known = revisions()
    if unknown := current.difference(known):
        raise SchemaTooNew(
            f"{where} is at revision {', '.join(sorted(unknown))}, which this Parley does not know: "
            "a newer one has migrated it. Update Parley, or name another database."
        )
    return current == {known[-1]}


def _check_references(connection: Connection, where: str) -> None:
    """SQLite's foreign keys are off while tables are rebuilt, so what they promise is looked up at the end."""
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise DatabaseDamaged(
            f"{where} was left as it was: row {broken.rowid} of {broken.table} refers to a row of "
            f"{broken.parent} that is not there."
        )
