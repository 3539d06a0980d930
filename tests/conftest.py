"""What tests of every package share: an open database in a fresh file, and examples that are the same in every run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from storage.database import Database, migrate

settings.register_profile("the same every time", derandomize=True)
settings.load_profile("the same every time")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'parley.db'}"
    await migrate(url)
    opened = await Database.open(url)
    yield opened
    await opened.close()
