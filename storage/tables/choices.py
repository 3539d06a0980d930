"""What workspaces, places and people chose, and who may do what there."""

from typing import Literal

from sqlalchemy import JSON, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Prose, refers_to, word

Scope = Literal["workspace", "category", "channel", "thread", "person"]
Need = Literal["chat", "command", "moderate", "administer"]
Subject = Literal["everyone", "channel", "role", "person"]


class Choice(Base):
    """The value of one setting at one place, or of one person. A bundle that is bound there is the setting `bundle`."""

    __tablename__ = "choices"
    __table_args__ = (UniqueConstraint("workspace_id", "scope", "scope_id", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[int] = refers_to("workspaces.id", "CASCADE", indexed=False)
    scope: Mapped[Scope] = mapped_column(word("scope", Scope))
    scope_id: Mapped[str]
    """The platform's id of the place or person; empty for the workspace."""
    account_id: Mapped[int | None] = refers_to("accounts.id", "CASCADE")
    """The person whose choice it is; NULL for a place's."""
    name: Mapped[str]
    value: Mapped[str] = mapped_column(Prose)
    """As it was typed."""
    set_by: Mapped[int | None] = refers_to("accounts.id", "SET NULL")
    set_at: Mapped[AddedAt]


class Bundle(Base):
    """Settings under one name, to be bound to places; or somebody's own preset, which nobody else sees."""

    __tablename__ = "bundles"
    __table_args__ = (UniqueConstraint("workspace_id", "owner", "name"),)

    id: Mapped[Id]
    workspace_id: Mapped[int] = refers_to("workspaces.id", "CASCADE", indexed=False)
    owner: Mapped[str]
    """The platform's id of the person whose preset it is; empty for the workspace's."""
    account_id: Mapped[int | None] = refers_to("accounts.id", "CASCADE")
    name: Mapped[str]
    values: Mapped[dict[str, str]] = mapped_column(JSON)
    changed_at: Mapped[AddedAt]


class AccessRule(Base):
    """Somebody may do something, or may not."""

    __tablename__ = "access_rules"
    __table_args__ = (UniqueConstraint("workspace_id", "need", "subject_kind", "subject"),)

    id: Mapped[Id]
    workspace_id: Mapped[int] = refers_to("workspaces.id", "CASCADE", indexed=False)
    need: Mapped[Need] = mapped_column(word("need", Need))
    subject_kind: Mapped[Subject] = mapped_column(word("subject_kind", Subject))
    subject: Mapped[str]
    """The platform's id; empty for everyone."""
    allow: Mapped[bool]
    set_by: Mapped[int | None] = refers_to("accounts.id", "SET NULL")
    set_at: Mapped[AddedAt]
