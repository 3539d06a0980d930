"""The values and seams between the platforms and the core. No platform's object passes here."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, Protocol

PlatformName = Literal["discord", "slack", "terminal"]
Via = Literal["mention", "reply", "dm", "thread", "command", "wake", "lively", "button"]
"""How a message reached the bot. "thread": unasked, in a thread; answered only where the bot takes part. "wake": by a
wake word; "lively": not at all, the bot talks unasked; "button": by a button under an answer."""


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
    roles: tuple[str, ...] = ()
    """The platform's ids of the roles."""
    manages: bool = False
    """The platform lets this person manage the workspace."""
    moderates: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that somebody attached, as the platform tells of it: none of this need be true of the file itself."""

    name: str
    media_type: str
    """Such as text/markdown; empty where the platform does not say."""
    size: int
    """Bytes."""
    url: str = field(repr=False)
    """Where the platform keeps it; empty where it shows the bot none. Discord signs it, for a day."""


@dataclass(frozen=True, slots=True)
class Press:
    """A button under an answer that changes it: to write another one, or to show an earlier one again."""

    action: Literal["regenerate", "show"]
    target: int
    """The row of the inbox that the answer belongs to."""
    candidate: int | None = None
    """The answer to show."""


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
    category: str = ""
    """The platform's id of the category that the channel is in."""
    press: Press | None = None
    reason: str | None = None
    """Why it is answered, where that was decided when it was heard."""
    attachments: tuple[Attachment, ...] = ()


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
    """A command that answers with one text, such as reset or help; `bot.commands.table` lists them."""

    name: str
    conversation: ConversationKey
    author: Author
    private: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None
    """The sentence for somebody who typed it wrongly."""
    message_id: str = ""
    """The message that it was typed in, and the one that this replies to."""
    reply_to: str | None = None
    category: str = ""


Respond = Callable[[IncomingMessage, Reply], Awaitable[None]]
"""Answers one message, or decides not to. Never raises for what a person or a model did wrong."""

RunCommand = Callable[[CommandCall], Awaitable[str]]


class Listen(Protocol):
    """What was said without addressing the bot, and whether it was meant for somebody else."""

    async def __call__(self, message: IncomingMessage, *, for_others: bool) -> IncomingMessage | None:
        """The message with the reason to answer it, or None."""
        ...


Complete = Callable[[CommandCall, str, str], Awaitable[list[str]]]
"""The values to offer for an option of a command, by the option's name and what is typed of it so far."""

Prepare = Callable[[ConversationKey], Awaitable[None]]
"""Somebody is about to say something there, so what was said before may be computed ahead. Never raises."""


Fetch = Callable[[Attachment, int], Awaitable[bytes]]
"""Brings a file of at most so many bytes from its platform. Raises `DeliveryFailed` where it cannot."""


class Platform(Protocol):
    """A place where people talk. Built by `bot.app` with a `Respond` and a `RunCommand`."""

    name: ClassVar[PlatformName]

    async def run(self) -> None:
        """Serve until the platform ends by itself (a terminal's quit) or the task is cancelled."""
        ...
