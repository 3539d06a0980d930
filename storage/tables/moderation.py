"""What was flagged, and what moderators decided about it."""

from typing import Literal

from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Prose, refers_to, word

FlagSource = Literal["rules", "classifier", "person"]
ReviewDecision = Literal["uphold", "dismiss"]


class Flag(Base):
    """A doubt about a message, raised by a rule, by the classifier or by a person."""

    __tablename__ = "flags"

    id: Mapped[Id]
    message_id: Mapped[int] = refers_to("messages.id", "CASCADE")
    source: Mapped[FlagSource] = mapped_column(word("source", FlagSource))
    reporter_id: Mapped[int | None] = refers_to("accounts.id", "SET NULL")
    """The person, when it was one; the flag outlives their leaving."""
    category: Mapped[str]
    score: Mapped[float | None]
    """From 0 to 1; NULL when nothing was measured."""
    evidence: Mapped[str | None] = mapped_column(Prose)
    version: Mapped[str | None]
    """The version in service that wrote the message."""
    raised_at: Mapped[AddedAt]


class Review(Base):
    """A moderator's decision about a flag. The flag itself never changes."""

    __tablename__ = "reviews"

    id: Mapped[Id]
    flag_id: Mapped[int] = refers_to("flags.id", "CASCADE")
    reviewer_id: Mapped[int | None] = refers_to("accounts.id", "SET NULL")
    decision: Mapped[ReviewDecision] = mapped_column(word("decision", ReviewDecision))
    why: Mapped[str | None] = mapped_column(Prose)
    decided_at: Mapped[AddedAt]
