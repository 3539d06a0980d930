"""Alembic runs this file for each command, on the connection that `storage.schema` or the caller opened."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import TypeDecorator

from storage.tables import Base


def render_plainly(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """A new migration names SQLAlchemy's types in place of Parley's, which may change after it."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a column only by rebuilding its table
    render_item=render_plainly,
)
context.run_migrations()
