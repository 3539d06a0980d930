"""From a stream of text to platform messages: when to show, and where to cut. Knows no platform."""

from typing import Protocol


class MessageSink(Protocol):
    """A place where messages can be posted and edited: a channel, a thread, an interaction's response."""

    limit: int
    """Characters that one message holds."""
    typing_seconds: float
    """How often `typing` must be called for the sign to stay."""

    async def post(self, text: str) -> str:
        """Post a new message; the platform's id of it."""
        ...

    async def edit(self, message_id: str, text: str) -> None: ...

    async def typing(self) -> None:
        """Show that an answer is being written."""
        ...
