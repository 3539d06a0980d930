"""Inserts that are built once. To build a statement costs five times as much as to run it on SQLite, so those that
every message takes, here and in the modules beside, are built when the program starts and get their values later."""

from collections.abc import Mapping
from functools import cache

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from storage.tables import Base


def add_unless_there(tx: Session, table: type[Base], values: Mapping[str, object]) -> int | None:
    """Insert a row and return its id; None when a unique constraint says that it is there, also just now."""
    return tx.scalar(_insert(table.__table__, tx.get_bind().dialect.name), values)


@cache
def _insert(table: Table, dialect: str) -> ReturningInsert[int]:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing().returning(table.c.id)
    return sqlite.insert(table).on_conflict_do_nothing().returning(table.c.id)
