"""A database that is away when a test says so."""

import asyncio
from collections.abc import Callable
from typing import Any

from storage.database import Database, Session
from storage.errors import DatabaseUnavailable


class LeavingDatabase(Database):
    """Opened as any other. `missed` is set when something could not be written, `unread` when it was not read."""

    away = False
    breaks_next = False
    """Whether the connection breaks at the end of the next transaction, which is undone."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.missed = asyncio.Event()
        self.unread = asyncio.Event()
        self.tells = asyncio.Event()
        """Unset, whoever writes waits to hear that it failed."""
        self.tells.set()

    async def write(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        breaks, self.breaks_next = self.breaks_next, False

        def do(tx: Session) -> Any:
            done = work(tx, *args, **kwargs)
            if breaks:
                raise DatabaseUnavailable("The connection broke.")
            return done

        try:
            self._check()
            return await super().write(do)
        except DatabaseUnavailable:
            self.missed.set()
            await self.tells.wait()
            raise

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self._check()
            return await super().read(*args, **kwargs)
        except DatabaseUnavailable:
            self.unread.set()
            raise

    def _check(self) -> None:
        if self.away:
            raise DatabaseUnavailable("The database is away.")
