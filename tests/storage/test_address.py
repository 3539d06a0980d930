"""Reading the database's address, and never telling its secrets."""

from pathlib import Path

import pytest

from storage.address import parse_address
from storage.errors import AddressUnusable


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
def test_every_driver_of_sqlite_means_the_one_that_parley_uses(driver: str, tmp_path: Path) -> None:
    address = parse_address(f"{driver}:///{tmp_path}/parley.db")
    assert address.url.drivername == "sqlite+pysqlite"
    assert address.path == tmp_path / "parley.db"


@pytest.mark.parametrize("driver", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_driver_of_postgresql_means_psycopg(driver: str) -> None:
    address = parse_address(f"{driver}://ann:secret@db.example:5433/talk")
    assert address.url.drivername == "postgresql+psycopg"
    assert address.path is None


def test_two_ways_to_the_same_file_are_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    paths = {
        parse_address(f"sqlite:///{way}").path
        for way in ("parley.db", "./link/parley.db", tmp_path / "parley.db")
    }
    assert paths == {tmp_path / "parley.db"}


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_address("sqlite:///~/parley.db").path == tmp_path / "parley.db"


def test_a_connection_is_given_up_after_ten_seconds_unless_the_address_says_otherwise() -> None:
    assert parse_address("postgresql://host/talk").url.query["connect_timeout"] == "10"
    assert parse_address("postgresql://host/talk?connect_timeout=3").url.query["connect_timeout"] == "3"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "cannot be read"),
        ("parley.db", "cannot be read"),
        ("postgresql://ann:secret@host:port/talk", "cannot be read"),
        ("mysql://ann:secret@host/talk", "mysql"),
        ("postgresql+asyncpg://ann:secret@host/talk", "asyncpg"),
        ("postgresql://ann:secret@host", "its name"),
        ("sqlite://", "not in memory"),
        ("sqlite:///:memory:", "not in memory"),
        ("sqlite://ann:secret@parley.db", "three slashes"),
        ("sqlite:///parley.db?timeout=3", "timeout"),
    ],
)
def test_an_address_that_names_no_usable_database_is_told_in_words(url: str, word: str) -> None:
    with pytest.raises(AddressUnusable, match=word) as caught:
        parse_address(url)
    assert str(caught.value).endswith(".")
    assert (
        "secret"
        not in f"{caught.value!r} {caught.value.__context__ if not caught.value.__suppress_context__ else ''}"
    )


def test_an_address_as_text_has_neither_password_nor_options() -> None:
    address = parse_address("postgresql://ann:secret@db.example/talk?password=secret&sslmode=require")
    assert str(address) == "The PostgreSQL database talk at db.example:5432"
    assert "secret" not in str(address)
