"""Which tables a database has, and bringing them up to date. Blocking: callers run it in a thread."""

import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from storage.errors import DatabaseDamaged, SchemaTooNew, SchemaTooOld

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
    config = alembic_config(connection)
    if _is_at_head(connection, config, where):
        return
    with _one_at_a_time:
        command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        _check_references(connection, where)


def check_schema(connection: Connection, where: str) -> None:
    """Raise `SchemaTooOld` or `SchemaTooNew` unless every migration has been run."""
    if not _is_at_head(connection, alembic_config(connection), where):
        raise SchemaTooOld(f"{where} is older than this Parley. Run: parley migrate")


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings, without an alembic.ini: the migrations travel inside this package."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "storage:migrations")
    return config


def _is_at_head(connection: Connection, config: Config, where: str) -> bool:
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    current = set(MigrationContext.configure(connection).get_current_heads())
    if unknown := current - known:
        raise SchemaTooNew(
            f"{where} is at revision {', '.join(sorted(unknown))}, which this Parley does not know: "
            "a newer one has migrated it. Update Parley, or name another database."
        )
    return current == set(script.get_heads())


def _check_references(connection: Connection, where: str) -> None:
    """SQLite's foreign keys are off while tables are rebuilt, so what they promise is looked up at the end."""
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise DatabaseDamaged(
            f"{where} was left as it was: row {broken.rowid} of {broken.table} refers to a row of "
            f"{broken.parent} that is not there."
        )
