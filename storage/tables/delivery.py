"""What came in and what goes out, so that nothing is lost and nothing answered twice. See docs/delivery.md."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Platform, Prose, refers_to, word

Via = Literal["mention", "reply", "dm", "thread", "command", "wake", "lively", "button"]
Action = Literal["regenerate", "show"]
Decision = Literal["answer", "joined", "ignore", "expired", "blocked", "over_quota", "dead"]
InboxState = Literal["new", "claimed", "answered", "done", "dead", "cancelled"]
PartOp = Literal["post", "edit", "delete"]
PartState = Literal["pending", "sending", "sent", "failed"]


class Inbox(Base):
    """A message that addresses the bot, stored before it is acknowledged. Open until it is done, dead or cancelled."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("platform", "workspace", "channel", "message_id"),
        UniqueConstraint("platform", "workspace", "client_msg_id"),
        Index("ix_inbox_conversation", "platform", "workspace", "channel", "thread", "state"),
        Index("ix_inbox_state", "state"),
    )

    id: Mapped[Id]
    platform: Mapped[Platform] = mapped_column(word("platform", Platform))
    workspace: Mapped[str]
    channel: Mapped[str]
    thread: Mapped[str]
    message_id: Mapped[str]
    client_msg_id: Mapped[str | None]
    """Slack's second id of a message; equal in the twins of one mention."""
    author_id: Mapped[str]
    author_name: Mapped[str] = mapped_column(Prose)
    author_is_bot: Mapped[bool]
    text: Mapped[str] = mapped_column(Prose)
    """As it came; empty once the row is closed, for the dialogue holds it."""
    via: Mapped[Via] = mapped_column(word("via", Via))
    private: Mapped[bool]
    reply_to: Mapped[str | None]
    category: Mapped[str]
    author_roles: Mapped[list[str]]
    author_manages: Mapped[bool]
    author_moderates: Mapped[bool]
    attachments: Mapped[list[dict[str, Any]]]
    """The files that came with it, as `bot.chat.Attachment` has them."""
    action: Mapped[Action | None] = mapped_column(word("action", Action))
    """What a button asks for, where it is more than a message: another answer, or to show an earlier one again."""
    target_id: Mapped[int | None]
    """The row whose answer the button is under; its posts become this row's. No foreign key: rows are never deleted
    but with their question."""
    candidate_id: Mapped[int | None]
    """The answer to show again."""
    token: Mapped[str | None]
    """What answers a slash command for a quarter of an hour: an interaction's token or a response_url."""
    created_at: Mapped[datetime]
    received_at: Mapped[AddedAt]
    decision: Mapped[Decision | None] = mapped_column(word("decision", Decision))
    reason: Mapped[str | None] = mapped_column(Prose)
    """Why there is an answer, or none: the rest of a sentence."""
    state: Mapped[InboxState] = mapped_column(word("state", InboxState))
    question_id: Mapped[int | None] = refers_to("messages.id", "CASCADE")
    answer_id: Mapped[int | None] = refers_to("messages.id", "SET NULL")
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    """While a claim holds, and also how long a released row rests before the next try."""
    fence: Mapped[int]
    """Rises with every claim: what an earlier holder writes is refused."""
    attempts: Mapped[int]
    last_error: Mapped[str | None] = mapped_column(Prose)


class Outbox(Base):
    """One platform message of an answer. `body` is fixed by the commit of the answer; before that it is a preview."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("inbox_id", "part"),)

    id: Mapped[Id]
    inbox_id: Mapped[int] = mapped_column(ForeignKey("inbox.id", ondelete="CASCADE"))
    part: Mapped[int]
    op: Mapped[PartOp] = mapped_column(word("op", PartOp))
    body: Mapped[str] = mapped_column(Prose)
    nonce: Mapped[str] = mapped_column(unique=True)
    """The marker that the post carries, the same in every try: 24 hexadecimal digits."""
    state: Mapped[PartState] = mapped_column(word("state", PartState))
    first_try_at: Mapped[datetime | None]
    attempts: Mapped[int]
    external_id: Mapped[str | None]
    """The platform's id once it is known to stand there."""
    last_error: Mapped[str | None] = mapped_column(Prose)


class Lease(Base):
    """Who may do what only one process may do at a time, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int]
    expires_at: Mapped[datetime]


class Scan(Base):
    """How far a channel's or thread's history is known to be in the inbox. Only a scan moves it, never an event."""

    __tablename__ = "scans"
    __table_args__ = (UniqueConstraint("platform", "workspace", "channel", "thread"),)

    id: Mapped[Id]
    platform: Mapped[Platform] = mapped_column(word("platform", Platform))
    workspace: Mapped[str]
    channel: Mapped[str]
    thread: Mapped[str]
    private: Mapped[bool]
    verified_upto: Mapped[str]
    """The platform's id of the newest message that a scan has read, or the place where the first one begins."""
    active_until: Mapped[datetime]
    """A thread that has been silent for long is no longer looked at."""


class Identify(Base):
    """A login at a gateway that counts against its daily budget."""

    __tablename__ = "identifies"

    id: Mapped[Id]
    platform: Mapped[Platform] = mapped_column(word("platform", Platform))
    at: Mapped[datetime] = mapped_column(index=True)
