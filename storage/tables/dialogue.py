"""What was said, and how each answer came to be."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Platform, Prose, refers_to, word

Role = Literal["user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "failed"]
Rating = Literal["up", "down"]


class Message(Base):
    """One thing that was said, by a person or by the assistant. Its id gives the order within a conversation."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("channel_id", "external_id"),
        Index(None, "conversation_id", "id"),
        CheckConstraint("(role = 'assistant') = (account_id IS NULL)", name="author"),
        {
            "sqlite_autoincrement": True
        },  # an id is never given twice, so a turn's prompt never names a stranger
    )

    id: Mapped[Id]
    conversation_id: Mapped[int] = refers_to("conversations.id", "CASCADE", indexed=False)
    channel_id: Mapped[int] = refers_to("channels.id", "CASCADE", indexed=False)
    role: Mapped[Role] = mapped_column(word("role", Role))
    account_id: Mapped[int | None] = refers_to("accounts.id", "CASCADE")
    """Who wrote it; NULL for the assistant."""
    question_id: Mapped[int | None] = refers_to("messages.id", "CASCADE")
    """The message that the assistant answers here; whoever deletes that one deletes the answer."""
    external_id: Mapped[str | None]
    """The platform's id; NULL for the assistant, whose messages may be several there."""
    reply_to: Mapped[str | None]
    """The platform's id of the message that this one replies to, which need not be stored."""
    text: Mapped[str] = mapped_column(Prose)
    attachments: Mapped[str | None] = mapped_column(Prose)
    """What its files say, as the model reads it."""
    shown: Mapped[bool]
    """False for an answer in whose place another one is shown."""
    source: Mapped[Platform] = mapped_column(word("source", Platform))
    created_at: Mapped[datetime]
    """On the platform."""
    recorded_at: Mapped[AddedAt]


class MessagePart(Base):
    """One of the platform's messages that together show an assistant's message, in order from 0."""

    __tablename__ = "message_parts"
    __table_args__ = (UniqueConstraint("channel_id", "external_id"),)

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    channel_id: Mapped[int] = refers_to("channels.id", "CASCADE", indexed=False)
    external_id: Mapped[str]


class Turn(Base):
    """One call of the model: what it was really given, what that cost, and how it ended."""

    __tablename__ = "turns"

    id: Mapped[Id]
    conversation_id: Mapped[int] = refers_to("conversations.id", "CASCADE")
    question_id: Mapped[int] = refers_to("messages.id", "CASCADE")
    answer_id: Mapped[int | None] = refers_to("messages.id", "SET NULL")
    version: Mapped[str]
    model: Mapped[str]
    sampling: Mapped[dict[str, Any]]
    seed: Mapped[int | None]
    prompt_message_ids: Mapped[list[int]]
    prompt: Mapped[list[dict[str, Any]] | None]
    """Exactly what the model saw, message by message."""
    prompt_tokens: Mapped[int | None]
    """These and the seconds below are NULL when the call ended before they were known."""
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    queue_seconds: Mapped[float | None]
    first_token_seconds: Mapped[float | None]
    total_seconds: Mapped[float]
    finish_reason: Mapped[FinishReason] = mapped_column(word("finish_reason", FinishReason))
    error: Mapped[str | None] = mapped_column(Prose)
    started_at: Mapped[datetime]


class Feedback(Base):
    """What somebody thought of an answer. A second thought is a second row."""

    __tablename__ = "feedback"

    id: Mapped[Id]
    message_id: Mapped[int] = refers_to("messages.id", "CASCADE")
    account_id: Mapped[int] = refers_to("accounts.id", "CASCADE")
    rating: Mapped[Rating] = mapped_column(word("rating", Rating))
    reason: Mapped[str | None] = mapped_column(Prose)
    given_at: Mapped[AddedAt]
