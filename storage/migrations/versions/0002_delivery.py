"""What comes in and what goes out: inbox, outbox, leases, scans, identifies."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_inbox()
    create_outbox()
    create_leases()
    create_scans()


def create_inbox() -> None:
    op.create_table(
        "inbox",
        own_id(),
        one_word("platform", "discord", "slack", "terminal"),
        *place(),
        column("message_id", sa.String()),
        column("client_msg_id", sa.String(), nullable=True),
        column("author_id", sa.String()),
        column("author_name", sa.Text()),
        column("author_is_bot", sa.Boolean()),
        column("text", sa.Text()),
        one_word("via", "mention", "reply", "dm", "thread", "command"),
        column("private", sa.Boolean()),
        column("reply_to", sa.String(), nullable=True),
        column("token", sa.String(), nullable=True),
        column("created_at", MOMENT),
        column("received_at", MOMENT),
        one_word("decision", "answer", "ignore", "expired", "blocked", "over_quota", "dead", nullable=True),
        one_word("state", "new", "claimed", "answered", "done", "dead", "cancelled"),
        reference("question_id", "messages.id", "CASCADE", nullable=True),
        reference("answer_id", "messages.id", "SET NULL", nullable=True),
        column("lease_owner", sa.String(), nullable=True),
        column("lease_until", MOMENT, nullable=True),
        column("fence", NUMBER),
        column("attempts", NUMBER),
        column("last_error", sa.Text(), nullable=True),
        sa.UniqueConstraint("platform", "workspace", "channel", "message_id"),
        sa.UniqueConstraint("platform", "workspace", "client_msg_id"),
    )
    conversation = ["platform", "workspace", "channel", "thread", "state"]
    op.create_index("ix_inbox_conversation", "inbox", conversation)
    op.create_index("ix_inbox_state", "inbox", ["state"])


def create_outbox() -> None:
    op.create_table(
        "outbox",
        own_id(),
        reference("inbox_id", "inbox.id", "CASCADE", index=False),
        column("part", NUMBER),
        one_word("op", "post", "edit", "delete"),
        column("body", sa.Text()),
        sa.Column("nonce", sa.String(), nullable=False, unique=True),
        one_word("state", "pending", "sending", "sent", "failed"),
        column("first_try_at", MOMENT, nullable=True),
        column("attempts", NUMBER),
        column("external_id", sa.String(), nullable=True),
        column("last_error", sa.Text(), nullable=True),
        sa.UniqueConstraint("inbox_id", "part"),
    )


def create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), primary_key=True),
        column("holder", sa.String()),
        column("fence", NUMBER),
        column("expires_at", MOMENT),
    )
    op.create_table(
        "identifies",
        own_id(),
        one_word("platform", "discord", "slack", "terminal"),
        sa.Column("at", MOMENT, nullable=False, index=True),
    )


def create_scans() -> None:
    op.create_table(
        "scans",
        own_id(),
        one_word("platform", "discord", "slack", "terminal"),
        *place(),
        column("private", sa.Boolean()),
        column("verified_upto", sa.String()),
        column("active_until", MOMENT),
        sa.UniqueConstraint("platform", "workspace", "channel", "thread"),
    )


def place() -> list[sa.Column[Any]]:
    return [column(name, sa.String()) for name in ("workspace", "channel", "thread")]


def own_id() -> sa.Column[Any]:
    return sa.Column("id", NUMBER, primary_key=True)


def column(name: str, type_: sa.types.TypeEngine[Any], *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable)


def one_word(name: str, *words: str, nullable: bool = False) -> sa.Column[Any]:
    type_ = sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=16)
    return sa.Column(name, type_, nullable=nullable)


def reference(
    name: str,
    to: str,
    on_delete: Literal["CASCADE", "SET NULL"],
    *,
    nullable: bool = False,
    index: bool = True,
) -> sa.Column[Any]:
    return sa.Column(name, NUMBER, sa.ForeignKey(to, ondelete=on_delete), nullable=nullable, index=index)
