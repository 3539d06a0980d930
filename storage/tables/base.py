"""What all tables share: names of constraints, ids, words from a fixed list, text that any database takes, UTC."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

Platform = Literal["discord", "slack", "terminal"]

UNSTORABLE = re.compile("[\0\ud800-\udfff]")

NAMING = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Moment(TypeDecorator[datetime]):
    """A point in time. Goes in with any timezone and comes out in UTC, also from SQLite, which keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"A time must say its timezone before it is stored, and {value} does not.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Prose(TypeDecorator[str]):
    """What people and models write. What no database can hold becomes U+FFFD: NUL, and halves of surrogate pairs."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return UNSTORABLE.sub("\ufffd", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return value


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        # SQLite numbers rows by itself only in a column that is called INTEGER; it holds 64 bits all the same.
        int: BigInteger().with_variant(Integer, "sqlite"),
        datetime: Moment,
        dict[str, Any]: JSON,
        list[int]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
    }
    if TYPE_CHECKING:
        __table__: ClassVar[Table]


Id = Annotated[int, mapped_column(primary_key=True)]
AddedAt = Annotated[datetime, mapped_column(default=lambda: datetime.now(UTC))]


def word(name: str, words: object) -> Enum:
    """A short string out of the `Literal` type `words`, which a CHECK called `name` enforces."""
    return Enum(*get_args(words), name=name, native_enum=False, create_constraint=True, length=16)


def refers_to(
    column: str, on_delete: Literal["CASCADE", "SET NULL"], *, indexed: bool = True
) -> MappedColumn[Any]:
    """A foreign key. `indexed` False where another index begins with it: a delete must not read the whole table."""
    return mapped_column(ForeignKey(column, ondelete=on_delete), index=indexed)
