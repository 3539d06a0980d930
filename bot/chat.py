"""The values and seams between the platforms and the core. No platform's object passes here."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, Protocol

PlatformName = Literal["discord", "slack", "terminal"]
Via = Literal["mention", "reply", "dm", "thread", "command"]
"""How a message reached the bot. "thread": unasked, in a thread; answered only where the bot takes part."""


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """Where a conversation takes place, in the platform's own ids. `thread` is empty outside threads."""

    platform: PlatformName
    workspace: str
    channel: str
    thread: str = ""

    def __str__(self) -> str:
        return "/".join((self.platform, self.workspace, self.channel, self.thread))


@dataclass(frozen=True, slots=True)
class Author:
    """Who speaks: the platform's id, the name that people see, and whether it is a program."""

    id: str
    name: str
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as the core sees it. `text` is without the mention of the bot, with names in place of ids."""

    conversation: ConversationKey
    message_id: str
    author: Author
    text: str
    created_at: datetime
    via: Via
    private: bool = False
    """One person and the bot: a direct message or a terminal."""
    reply_to: str | None = None
    """The platform's id of the message that this one replies to."""
    client_msg_id: str | None = None
    """A second id that the platform gives it, equal in events that are twins."""
    token: str | None = field(default=None, repr=False)
    """What answers a slash command, for a quarter of an hour."""


class Reply(Protocol):
    """One answer on its way to people. It owns limits, splitting, pacing and typing."""

    async def start(self) -> None:
        """An answer will come: show that it is being written. Nothing shows before."""
        ...

    async def append(self, text: str) -> None: ...

    async def replace(self, text: str) -> None:
        """Show `text` in place of all that was appended."""
        ...

    async def finish(self) -> tuple[str, ...]:
        """Show the rest; the platform's message ids of the answer, in order."""
        ...

    async def fail(self, sentence: str) -> None:
        """End with a sentence for a person. What was shown before stays."""
        ...


@dataclass(frozen=True, slots=True)
class CommandCall:
    """A command that answers with one text, such as reset or help."""

    name: str
    conversation: ConversationKey
    author: Author
    private: bool = False


def read_command(message: IncomingMessage) -> CommandCall | None:
    """The command that a message is: `!reset`, or `/reset` after a mention, as in threads of Slack, which has no
    slash commands there. A word without its mark is a question.
    """
    match = re.fullmatch(r"\s*[/!](reset|help)\s*", message.text, re.IGNORECASE)
    if match is None:
        return None
    return CommandCall(match[1].lower(), message.conversation, message.author, message.private)


Respond = Callable[[IncomingMessage, Reply], Awaitable[None]]
"""Answers one message, or decides not to. Never raises for what a person or a model did wrong."""

RunCommand = Callable[[CommandCall], Awaitable[str]]

Prepare = Callable[[ConversationKey], Awaitable[None]]
"""Somebody is about to say something there, so what was said before may be computed ahead. Never raises."""


class Platform(Protocol):
    """A place where people talk. Built by `bot.app` with a `Respond` and a `RunCommand`."""

    name: ClassVar[PlatformName]

    async def run(self) -> None:
        """Serve until the platform ends by itself (a terminal's quit) or the task is cancelled."""
        ...
