"""The terminal as a platform: one person, one conversation a start, text as it comes. Works with piped input."""

import asyncio
import getpass
import signal
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar
from unicodedata import category

from rich.console import Console

from bot.chat import (
    Author,
    ConversationKey,
    IncomingMessage,
    PlatformName,
    Respond,
    RunCommand,
)
from bot.commands.parse import parse_command, question_of, read_command

ReadLine = Callable[[str], Awaitable[str | None]]
"""Shows a prompt and returns the next line without its end, or None at the end of the input."""


class TerminalPlatform:
    name: ClassVar[PlatformName] = "terminal"

    def __init__(
        self, *, respond: Respond, run_command: RunCommand, console: Console, read_line: ReadLine
    ) -> None:
        self._respond = respond
        self._run_command = run_command
        self._console = console
        self._read_line = read_line
        self._conversation = ConversationKey("terminal", "local", "terminal", thread=uuid.uuid4().hex)
        self._author = Author(id=_user_name(), name=_user_name(), manages=True)

    async def run(self) -> None:
        """Talk until /quit, the end of the input, or Ctrl-C at the prompt."""
        interrupted = _Interrupts()
        with interrupted:
            while True:
                line = await interrupted.guard(self._read_line("you> "))
                if line is None or line.strip() in ("/quit", "/exit"):
                    return
                await interrupted.guard(self._handle(line.strip()))

    async def _handle(self, line: str) -> None:
        message = IncomingMessage(
            conversation=self._conversation,
            message_id=uuid.uuid4().hex,
            author=self._author,
            text=line,
            created_at=datetime.now(UTC),
            via="dm",
            private=True,
        )
        command, question = read_command(message), question_of(message)
        if command is None and line.startswith("/") and question == line:
            command = parse_command(line[1:], message)
        if command is not None:
            self._print(f"{await self._run_command(command)}\n")
        elif line:
            await self._respond(replace(message, text=question), TerminalReply(self._print))

    def _print(self, text: str) -> None:
        printable = "".join(letter for letter in text if letter in "\n\t" or category(letter) != "Cc")
        self._console.print(printable, end="", markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()


class TerminalReply:
    """A `Reply` that prints what it gets. What stands on the screen cannot be taken back, only followed."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._begun = False

    async def start(self) -> None:
        self._write("parley> ")

    async def append(self, text: str) -> None:
        self._write(text if self._begun else text.lstrip())
        self._begun = self._begun or bool(text.strip())

    async def replace(self, text: str) -> None:
        self._write(f"\n{text}" if self._begun else text)
        self._begun = True

    async def finish(self) -> tuple[str, ...]:
        self._write("\n")
        return ()

    async def fail(self, sentence: str) -> None:
        self._write(f"\n{sentence}\n" if self._begun else f"{sentence}\n")


class _Interrupts:
    """Ctrl-C ends what is under way: an answer, and the chat when it waits at the prompt."""

    def __init__(self) -> None:
        self._current: asyncio.Future[str | None] | None = None
        self._interrupted = False

    def __enter__(self) -> None:
        with suppress(NotImplementedError, RuntimeError):  # not on Windows, nor outside the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        with suppress(NotImplementedError, RuntimeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        if self._current is not None:
            self._interrupted = True
            self._current.cancel()

    async def guard(self, work: Awaitable[str | None]) -> str | None:
        """The result of `work`, or None when Ctrl-C ended it."""
        self._interrupted = False
        self._current = asyncio.ensure_future(work)
        try:
            return await self._current
        except asyncio.CancelledError:
            if self._interrupted:
                return None
            raise
        finally:
            self._current = None


async def read_terminal_line(prompt: str) -> str | None:
    """One line of stdin, read in a thread that never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str | None] = loop.create_future()

    def read() -> None:
        try:
            text = input(prompt if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            text = None
        with suppress(RuntimeError):  # the loop has ended while we waited for a key
            loop.call_soon_threadsafe(_settle, line, text)

    threading.Thread(target=read, name="terminal-input", daemon=True).start()
    return await line


def _settle(future: asyncio.Future[str | None], text: str | None) -> None:
    if not future.done():
        future.set_result(text)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "you"
