"""What is chosen in the chat: settings of places and people, bundles of them, and who may do what."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_choices()
    create_bundles()
    create_access_rules()
    widen_inbox()
    widen_dialogue()


def create_choices() -> None:
    op.create_table(
        "choices",
        own_id(),
        reference("workspace_id", "workspaces.id", "CASCADE", index=False),
        one_word("scope", "workspace", "category", "channel", "thread", "person"),
        column("scope_id", sa.String()),
        reference("account_id", "accounts.id", "CASCADE", nullable=True),
        column("name", sa.String()),
        column("value", sa.Text()),
        reference("set_by", "accounts.id", "SET NULL", nullable=True),
        column("set_at", MOMENT),
        sa.UniqueConstraint("workspace_id", "scope", "scope_id", "name"),
    )


def create_bundles() -> None:
    op.create_table(
        "bundles",
        own_id(),
        reference("workspace_id", "workspaces.id", "CASCADE", index=False),
        column("owner", sa.String()),
        reference("account_id", "accounts.id", "CASCADE", nullable=True),
        column("name", sa.String()),
        column("values", sa.JSON()),
        column("changed_at", MOMENT),
        sa.UniqueConstraint("workspace_id", "owner", "name"),
    )


def create_access_rules() -> None:
    op.create_table(
        "access_rules",
        own_id(),
        reference("workspace_id", "workspaces.id", "CASCADE", index=False),
        one_word("need", "chat", "command", "moderate", "administer"),
        one_word("subject_kind", "everyone", "channel", "role", "person"),
        column("subject", sa.String()),
        column("allow", sa.Boolean()),
        reference("set_by", "accounts.id", "SET NULL", nullable=True),
        column("set_at", MOMENT),
        sa.UniqueConstraint("workspace_id", "need", "subject_kind", "subject"),
    )


def widen_inbox() -> None:
    ways = ("mention", "reply", "dm", "thread", "command", "wake", "lively", "button")
    decisions = ("answer", "joined", "ignore", "expired", "blocked", "over_quota", "dead")
    with op.batch_alter_table(
        "inbox", naming_convention={"ck": "ck_%(table_name)s_%(constraint_name)s"}
    ) as inbox:
        inbox.drop_constraint("via", type_="check")
        inbox.create_check_constraint("via", sa.column("via").in_(ways))
        inbox.drop_constraint("decision", type_="check")
        inbox.create_check_constraint("decision", sa.column("decision").in_(decisions))
        inbox.add_column(filled("category", sa.String(), "''"))
        inbox.add_column(filled("author_roles", sa.JSON(), "'[]'"))
        inbox.add_column(filled("author_manages", sa.Boolean(), sa.false()))
        inbox.add_column(filled("author_moderates", sa.Boolean(), sa.false()))
        inbox.add_column(filled("attachments", sa.JSON(), "'[]'"))
        inbox.add_column(one_word("action", "regenerate", "show", nullable=True))
        inbox.add_column(column("target_id", NUMBER, nullable=True))
        inbox.add_column(column("candidate_id", NUMBER, nullable=True))
        inbox.add_column(column("reason", sa.Text(), nullable=True))


def widen_dialogue() -> None:
    op.add_column("messages", column("attachments", sa.Text(), nullable=True))
    op.add_column("messages", filled("shown", sa.Boolean(), sa.true()))
    op.add_column("turns", column("prompt", sa.JSON(), nullable=True))
    op.add_column("conversations", column("history_started_after", NUMBER, nullable=True))
    op.add_column("conversations", column("summary", sa.Text(), nullable=True))
    op.add_column("conversations", column("summary_upto", NUMBER, nullable=True))


def filled(name: str, type_: sa.types.TypeEngine[Any], value: Any) -> sa.Column[Any]:
    """For the rows that are there."""
    return sa.Column(
        name, type_, nullable=False, server_default=sa.text(value) if isinstance(value, str) else value
    )


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
