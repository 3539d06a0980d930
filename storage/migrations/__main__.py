"""Writes the next migration: python -m storage.migrations "What it changes". For those who change the tables.

It holds the difference between the tables and an empty SQLite file after all migrations; read it before you keep it.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command

from storage.address import parse_address
from storage.schema import alembic_config, upgrade_schema
from storage.sqlite import open_for_migration


def write_next_migration(message: str) -> None:
    number = len(list(Path(__file__).with_name("versions").glob("[0-9]*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        address = parse_address(f"sqlite:///{Path(folder) / 'empty.db'}")
        with open_for_migration(address.url).begin() as connection:
            upgrade_schema(connection, str(address))
            command.revision(alembic_config(connection), message, autogenerate=True, rev_id=f"{number:04}")


if __name__ == "__main__":
    write_next_migration(sys.argv[1])
