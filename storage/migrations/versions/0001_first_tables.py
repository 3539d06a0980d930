"""The first tables: places, people, dialogue, moderation."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_places_and_people()
    create_dialogue()
    create_moderation()


def create_places_and_people() -> None:
    op.create_table(
        "workspaces",
        own_id(),
        one_word("platform", "discord", "slack", "terminal"),
        column("external_id", sa.String()),
        column("added_at", MOMENT),
        sa.UniqueConstraint("platform", "external_id"),
    )
    op.create_table(
        "channels",
        own_id(),
        reference("workspace_id", "workspaces.id", "CASCADE", index=False),
        column("external_id", sa.String()),
        column("added_at", MOMENT),
        sa.UniqueConstraint("workspace_id", "external_id"),
    )
    op.create_table(
        "conversations",
        own_id(),
        reference("channel_id", "channels.id", "CASCADE", index=False),
        column("thread", sa.String()),
        column("private", sa.Boolean()),
        column("history_starts_after", NUMBER, nullable=True),
        column("added_at", MOMENT),
        sa.UniqueConstraint("channel_id", "thread"),
    )
    op.create_table(
        "accounts",
        own_id(),
        one_word("platform", "discord", "slack", "terminal"),
        column("scope", sa.String()),
        column("external_id", sa.String()),
        column("name", sa.Text()),
        column("is_bot", sa.Boolean()),
        column("added_at", MOMENT),
        sa.UniqueConstraint("platform", "scope", "external_id"),
    )
    op.create_table(
        "consents",
        own_id(),
        reference("account_id", "accounts.id", "CASCADE"),
        reference("workspace_id", "workspaces.id", "CASCADE", nullable=True),
        one_word("purpose", "store", "train"),
        one_word("decision", "grant", "withdraw"),
        column("decided_at", MOMENT),
    )


def create_dialogue() -> None:
    op.create_table(
        "messages",
        own_id(),
        reference("conversation_id", "conversations.id", "CASCADE", index=False),
        reference("channel_id", "channels.id", "CASCADE", index=False),
        one_word("role", "user", "assistant"),
        reference("account_id", "accounts.id", "CASCADE", nullable=True),
        reference("question_id", "messages.id", "CASCADE", nullable=True),
        column("external_id", sa.String(), nullable=True),
        column("reply_to", sa.String(), nullable=True),
        column("text", sa.Text()),
        one_word("source", "discord", "slack", "terminal"),
        column("created_at", MOMENT),
        column("recorded_at", MOMENT),
        sa.UniqueConstraint("channel_id", "external_id"),
        sa.CheckConstraint("(role = 'assistant') = (account_id IS NULL)", name="author"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_conversation_id_id", "messages", ["conversation_id", "id"])
    op.create_table(
        "message_parts",
        sa.Column("message_id", NUMBER, sa.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("part", NUMBER, primary_key=True),
        reference("channel_id", "channels.id", "CASCADE", index=False),
        column("external_id", sa.String()),
        sa.UniqueConstraint("channel_id", "external_id"),
    )
    op.create_table(
        "turns",
        own_id(),
        reference("conversation_id", "conversations.id", "CASCADE"),
        reference("question_id", "messages.id", "CASCADE"),
        reference("answer_id", "messages.id", "SET NULL", nullable=True),
        column("version", sa.String()),
        column("model", sa.String()),
        column("sampling", sa.JSON()),
        column("seed", NUMBER, nullable=True),
        column("prompt_message_ids", sa.JSON()),
        column("prompt_tokens", NUMBER, nullable=True),
        column("completion_tokens", NUMBER, nullable=True),
        column("cached_tokens", NUMBER, nullable=True),
        column("queue_seconds", sa.Double(), nullable=True),
        column("first_token_seconds", sa.Double(), nullable=True),
        column("total_seconds", sa.Double()),
        one_word("finish_reason", "stop", "length", "cancelled", "failed"),
        column("error", sa.Text(), nullable=True),
        column("started_at", MOMENT),
    )
    op.create_table(
        "feedback",
        own_id(),
        reference("message_id", "messages.id", "CASCADE"),
        reference("account_id", "accounts.id", "CASCADE"),
        one_word("rating", "up", "down"),
        column("reason", sa.Text(), nullable=True),
        column("given_at", MOMENT),
    )


def create_moderation() -> None:
    op.create_table(
        "flags",
        own_id(),
        reference("message_id", "messages.id", "CASCADE"),
        one_word("source", "rules", "classifier", "person"),
        reference("reporter_id", "accounts.id", "SET NULL", nullable=True),
        column("category", sa.String()),
        column("score", sa.Double(), nullable=True),
        column("evidence", sa.Text(), nullable=True),
        column("version", sa.String(), nullable=True),
        column("raised_at", MOMENT),
    )
    op.create_table(
        "reviews",
        own_id(),
        reference("flag_id", "flags.id", "CASCADE"),
        reference("reviewer_id", "accounts.id", "SET NULL", nullable=True),
        one_word("decision", "uphold", "dismiss"),
        column("why", sa.Text(), nullable=True),
        column("decided_at", MOMENT),
    )


def own_id() -> sa.Column[Any]:
    return sa.Column("id", NUMBER, primary_key=True)


def column(name: str, type_: sa.types.TypeEngine[Any], *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable)


def one_word(name: str, *words: str) -> sa.Column[Any]:
    type_ = sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=16)
    return sa.Column(name, type_, nullable=False)


def reference(
    name: str,
    to: str,
    on_delete: Literal["CASCADE", "SET NULL"],
    *,
    nullable: bool = False,
    index: bool = True,
) -> sa.Column[Any]:
    return sa.Column(name, NUMBER, sa.ForeignKey(to, ondelete=on_delete), nullable=nullable, index=index)
