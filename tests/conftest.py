"""What tests of every package share: an open database in a fresh file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database import Database, migrate


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'parley.db'}"
    await migrate(url)
    opened = await Database.open(url)
    yield opened
    await opened.close()
