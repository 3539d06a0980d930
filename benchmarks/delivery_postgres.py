"""A PostgreSQL server for one run, to be stopped and started at will: its folder and port are its own."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

Mode = Literal["fast", "immediate"]
"""Of stopping. `fast` ends the connections and writes everything down; `immediate` is a crash."""
ACCOUNT = "postgres"
MISSING = (
    "PostgreSQL's programs initdb and pg_ctl are not there, so no server can be stopped and started: "
    "install PostgreSQL, or put its pg_config on the PATH."
)


class PostgresServer:
    def __init__(self, programs: Path) -> None:
        """`programs` is what `find_programs` has found."""
        self._programs = programs
        self.port = _free_port()

    @property
    def url(self) -> str:
        return f"postgresql://{ACCOUNT}@127.0.0.1:{self.port}/postgres"

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="delivery-postgres-"))
        try:
            if os.geteuid() == 0:
                shutil.chown(self._folder, ACCOUNT, ACCOUNT)
            new = ("--username", ACCOUNT, "--auth", "trust", "--encoding", "UTF8", "--locale", "C")
            await self._run("initdb", "--pgdata", self._data, *new)
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            with suppress(RuntimeError):
                await self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        log = str(self._folder / "log")
        await self._run(
            "pg_ctl", "start", "--wait", "--pgdata", self._data, "--log", log, "--options", options
        )

    async def stop(self, mode: Mode) -> None:
        await self._run("pg_ctl", "stop", "--wait", "--pgdata", self._data, "--mode", mode)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _command(self, program: str) -> Sequence[str]:
        """PostgreSQL refuses to run as root."""
        as_account = ("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", "--")
        return (*(as_account if os.geteuid() == 0 else ()), str(self._programs / program))

    async def _run(self, program: str, *arguments: str) -> None:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self._command(program), *arguments, cwd=self._folder, stdin=quiet, stdout=quiet, stderr=quiet
        )
        if await process.wait():
            raise RuntimeError(f"{program} {arguments[0]} ended with {process.returncode}.")


def find_programs() -> Path | None:
    """The folder with initdb and pg_ctl: where pg_config says, or where Debian puts them, the newest first."""
    told = shutil.which("pg_config")
    folders = [Path(_output(told, "--bindir"))] if told else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _free_port() -> int:
    """Another program may take it meanwhile, if hardly."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port
