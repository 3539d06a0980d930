"""Where people talk: workspaces, their channels, and the conversations in them."""

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import AddedAt, Base, Id, Platform, Prose, refers_to, word


class Workspace(Base):
    """A Discord guild, a Slack workspace, or what stands for them where there is none."""

    __tablename__ = "workspaces"
    __table_args__ = (UniqueConstraint("platform", "external_id"),)

    id: Mapped[Id]
    platform: Mapped[Platform] = mapped_column(word("platform", Platform))
    external_id: Mapped[str]
    added_at: Mapped[AddedAt]


class Channel(Base):
    """A channel or direct message, as the platform numbers it. Message ids are unique in it."""

    __tablename__ = "channels"
    __table_args__ = (UniqueConstraint("workspace_id", "external_id"),)

    id: Mapped[Id]
    workspace_id: Mapped[int] = refers_to("workspaces.id", "CASCADE", indexed=False)
    external_id: Mapped[str]
    added_at: Mapped[AddedAt]


class Conversation(Base):
    """The run of messages that the model sees together: a channel, or one thread of it."""

    __tablename__ = "conversations"
    __table_args__ = (UniqueConstraint("channel_id", "thread"),)

    id: Mapped[Id]
    channel_id: Mapped[int] = refers_to("channels.id", "CASCADE", indexed=False)
    thread: Mapped[str]
    """Empty outside threads."""
    private: Mapped[bool]
    """One person and the bot."""
    history_starts_after: Mapped[int | None]
    """The newest message at the last reset. No foreign key: it must outlive that message."""
    history_started_after: Mapped[int | None]
    """What the last reset replaced, for its undo."""
    summary: Mapped[str | None] = mapped_column(Prose)
    """Of the messages up to `summary_upto`, for when they no longer fit a prompt."""
    summary_upto: Mapped[int | None]
    added_at: Mapped[AddedAt]
