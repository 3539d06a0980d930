"""The bot as a process of its own, to be killed and started anew; and the database that it writes."""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url, select
from sqlalchemy.orm import aliased

from benchmarks.delivery_check import Stored
from bot.settings import Settings, environment_name
from storage.database import Database
from storage.tables import Inbox, Message

ROOT = Path(__file__).parents[1]
SERVER = os.environ.get("PARLEY_TEST_POSTGRES", "")
WANTED: Mapping[str, str] = {
    "scan_seconds": "3",
    "lease_seconds": "3",
    "edit_seconds": "0.2",
    "burst_seconds": "0",
}
"""Settings of the bot, shorter than its defaults: a run takes minutes, and not days."""
LAST_SECONDS = 15.0


class BotProcess:
    """`python -m MODULE ARGUMENTS`. What it prints is kept in bot.log."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._command = command
        self._environment = {**_clean_environment(), **environment}
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.crashes: list[int] = []
        """How it ended where nobody had killed it."""

    async def start(self) -> None:
        self.starts += 1
        with (self._folder / "bot.log").open("ab") as log:
            log.write(f"=== start {self.starts} at {time.strftime('%H:%M:%S')}\n".encode())
            log.flush()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self._command),
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def tracebacks(self) -> int:
        """How many it has printed in all its lives."""
        return (
            (self._folder / "bot.log").read_text(encoding="utf-8", errors="replace").count("Traceback (most")
        )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL. One that has ended by itself is written down."""
        assert self._process is not None
        if self._process.returncode is not None:
            self.crashes.append(self._process.returncode)
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def terminate(self) -> str:
        """SIGTERM; what is wrong with how it ends, or nothing."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self._process.wait(), LAST_SECONDS)
        except TimeoutError:
            await self.kill()
            return f"after SIGTERM it did not end within {LAST_SECONDS:g} s"
        return f"after SIGTERM it ended with {code}" if code else ""


def bot_settings() -> dict[str, str]:
    """Those of `WANTED` that this version of the bot has."""
    return {environment_name(name): value for name, value in WANTED.items() if name in Settings.model_fields}


def _clean_environment() -> dict[str, str]:
    ours = ("PARLEY_", "DISCORD_", "SLACK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def new_database(kind: str, folder: Path, server: str = SERVER) -> Iterator[str]:
    """The URL of an empty database; one on PostgreSQL, at the URL `server`, is dropped at the end."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'parley.db'}"
        return
    name = sql.Identifier(f"parley_delivery_{uuid.uuid4().hex}")
    _execute(server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    try:
        yield make_url(server).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
    finally:
        _execute(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _execute(server: str, statement: sql.Composed) -> None:
    """By a connection of its own: the server may be stopped between two of them."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


async def read_stored(url: str) -> Stored:
    """What a bot that has ended left behind."""
    database = await Database.open(url)
    question = aliased(Message)
    decided = select(Inbox.message_id, Inbox.decision).where(Inbox.decision.is_not(None))
    answered = select(question.external_id, Message.text).join(question, Message.question_id == question.id)
    try:
        with database.reading() as session:
            decisions = {number: str(decision) for number, decision in session.execute(decided)}
            answers = {str(number): text for number, text in session.execute(answered)}
    finally:
        await database.close()
    return Stored(decisions, answers)
