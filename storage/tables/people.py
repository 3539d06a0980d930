"""Who talks, and what they agreed to."""

from typing import Literal

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Platform, Prose, refers_to, word

Purpose = Literal["store", "train"]
ConsentDecision = Literal["grant", "withdraw"]


class Account(Base):
    """One identity on one platform. Deleting it deletes what it wrote, what was answered, and what it decided."""

    __tablename__ = "accounts"
    __table_args__ = (UniqueConstraint("platform", "scope", "external_id"),)

    id: Mapped[Id]
    platform: Mapped[Platform] = mapped_column(word("platform", Platform))
    scope: Mapped[str]
    """Slack's workspace, within which its ids are unique; empty for platforms whose ids are unique everywhere."""
    external_id: Mapped[str]
    name: Mapped[str] = mapped_column(Prose)
    """The name that people saw last."""
    is_bot: Mapped[bool]
    added_at: Mapped[AddedAt]


class Consent(Base):
    """Somebody granted or withdrew something. The newest row for a purpose holds; no row means no."""

    __tablename__ = "consents"

    id: Mapped[Id]
    account_id: Mapped[int] = refers_to("accounts.id", "CASCADE")
    workspace_id: Mapped[int | None] = refers_to("workspaces.id", "CASCADE")
    """Where it holds; NULL for everywhere."""
    purpose: Mapped[Purpose] = mapped_column(word("purpose", Purpose))
    decision: Mapped[ConsentDecision] = mapped_column(word("decision", ConsentDecision))
    decided_at: Mapped[AddedAt]
