"""Where the database is: from the URL that a person wrote to one that SQLAlchemy opens. Touches no disk, no network."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import AddressUnusable

CONNECT_SECONDS = "10"
EXAMPLES = "sqlite:///parley.db or postgresql://name:password@host/database"


@dataclass(frozen=True, slots=True)
class Address:
    """A database. As a string it is what errors call it: without name of user, password and options."""

    url: URL
    path: Path | None
    """The SQLite file, absolute and without links; None for PostgreSQL."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"The database file {self.path}"
        host = self.url.host or "this machine"
        return f"The PostgreSQL database {self.url.database} at {host}:{self.url.port or 5432}"


def parse_address(url: str) -> Address:
    """Read a database URL, whatever driver it names. Raises `AddressUnusable`, which never repeats the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise AddressUnusable(f"The database's address cannot be read. It looks like {EXAMPLES}.") from None
    match parsed.drivername:
        case "sqlite" | "sqlite+aiosqlite" | "sqlite+pysqlite":
            return _sqlite(parsed)
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed)
    raise AddressUnusable(
        f"Parley keeps its data in SQLite or PostgreSQL, not in {parsed.drivername}: for example {EXAMPLES}."
    )


def _sqlite(url: URL) -> Address:
    if url.host or url.username:
        raise AddressUnusable(
            "The address of a SQLite file has three slashes before its path: sqlite:///parley.db."
        )
    if url.query:
        raise AddressUnusable(f"Parley sets SQLite's options itself; leave out {', '.join(url.query)}.")
    if url.database in (None, "", ":memory:"):
        raise AddressUnusable(
            "Parley keeps its data in a file, not in memory: for example sqlite:///parley.db."
        )
    path = Path(url.database or "").expanduser().resolve()
    return Address(URL.create("sqlite+pysqlite", database=str(path)), path)


def _postgresql(url: URL) -> Address:
    if not url.database:
        raise AddressUnusable(
            "The address of a PostgreSQL database ends with its name: postgresql://host/name."
        )
    query = {"connect_timeout": CONNECT_SECONDS, **url.query}
    return Address(url.set(drivername="postgresql+psycopg", query=query), None)
