"""The seam between delivery and a platform: how a part gets to people, and how one finds out whether it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.controls import Controls
from bot.errors import DeliveryFailed


class NotApplied(DeliveryFailed):
    """Surely not applied, and worth another try: a limit, a refused connection. `retry_after` in seconds."""

    def __init__(self, sentence: str, retry_after: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Refused(DeliveryFailed):
    """Surely not applied, and never will be: no permission, a deleted channel, a message that is gone."""


class InDoubt(DeliveryFailed):
    """Nobody knows: a timeout, a broken connection, a server's error."""


@dataclass(frozen=True, slots=True)
class Post:
    """A part of an answer on its way to the message that asked."""

    question: IncomingMessage
    """Where, to what, and with which token."""
    part: int
    text: str
    nonce: str
    """The marker: 24 hexadecimal digits, the same in every try."""
    first_try_at: datetime
    previous: str | None
    """The platform's id of the part before this one."""
    final: bool = True
    """False while the answer is still being written."""
    last: bool = True
    """No part follows."""
    controls: Controls | None = None
    """The buttons under it."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A piece of a place's history, oldest first: what addresses the bot there, and how far was read."""

    messages: Sequence[IncomingMessage]
    verified_upto: str
    more: bool
    """Whether there is history after `verified_upto`."""


class Courier(Protocol):
    """One platform, connected. Every method but `may_edit` raises one of the three errors above and nothing else."""

    name: ClassVar[PlatformName]
    typing_seconds: float
    """How often `typing` must be called for the sign to stay."""
    has_controls: bool
    """Whether it shows buttons under answers."""

    def limit(self, question: IncomingMessage) -> int:
        """Characters that one message of an answer to `question` holds."""
        ...

    async def describe(self, question: IncomingMessage) -> IncomingMessage:
        """The message with names in place of ids, where that takes a call to the platform. Never fails."""
        ...

    async def post(self, post: Post) -> str:
        """Post it once; the platform's id of the message. No try of its own follows an answer in doubt."""
        ...

    async def find(self, post: Post) -> str | None:
        """Whether a post in doubt stands there, and as what; it may settle that by posting again with the nonce."""
        ...

    async def is_answered(self, question: IncomingMessage) -> bool:
        """Whether the history shows an answer of the bot's to it, whichever its marker."""
        ...

    async def edit(
        self,
        question: IncomingMessage,
        message_id: str,
        text: str,
        part: int,
        controls: Controls | None = None,
    ) -> None:
        """Give a message its final text and buttons. It waits for its turn, and may be repeated."""
        ...

    def may_edit(self) -> bool:
        """Whether there is room for a preview's edit now; taking it counts. Final edits never ask."""
        ...

    async def delete(self, question: IncomingMessage, message_id: str) -> None: ...

    async def typing(self, question: IncomingMessage) -> None: ...

    async def read_history(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        """The next page of what was said after the message `after`. What the bot has answered is left out."""
        ...

    async def is_newer(self, place: ConversationKey, after: str) -> bool:
        """Whether something may have been said after `after`; True where only reading tells."""
        ...
