"""The settings that were chosen in the chat, bundles of them, and the rules of who may do what.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from storage import tables
from storage.statements import add_unless_there
from storage.tables import Need, Platform, Scope, Subject

Place = tuple[Scope, str]
"""A scope and the platform's id there: of the place or the person; empty for the workspace."""


@dataclass(frozen=True, slots=True)
class ChosenValue:
    """One setting, as it was typed."""

    scope: Scope
    scope_id: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class StoredRule:
    """Somebody may do something, or may not. `subject` is the platform's id; empty for everyone."""

    need: Need
    kind: Subject
    subject: str
    allow: bool


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """`owner` is the platform's id of the person whose preset it is; empty for the workspace's bundles."""

    owner: str
    name: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkspaceChoices:
    """All that was chosen in a workspace."""

    choices: Sequence[ChosenValue] = ()
    bundles: Sequence[StoredBundle] = ()
    rules: Sequence[StoredRule] = ()


def read_choices(session: Session, platform: Platform, external_id: str) -> WorkspaceChoices:
    """All that was chosen in the workspace with the platform's id; nothing when it is unknown."""
    workspace = select(tables.Workspace.id).where(
        tables.Workspace.platform == platform, tables.Workspace.external_id == external_id
    )
    workspace_id = session.scalar(workspace)
    if workspace_id is None:
        return WorkspaceChoices()
    choice, bundle, rule = tables.Choice, tables.Bundle, tables.AccessRule
    choices = session.execute(
        select(choice.scope, choice.scope_id, choice.name, choice.value)
        .where(choice.workspace_id == workspace_id)
        .order_by(choice.id)
    )
    bundles = session.execute(
        select(bundle.owner, bundle.name, bundle.values)
        .where(bundle.workspace_id == workspace_id)
        .order_by(bundle.name)
    )
    rules = session.execute(
        select(rule.need, rule.subject_kind, rule.subject, rule.allow)
        .where(rule.workspace_id == workspace_id)
        .order_by(rule.id)
    )
    return WorkspaceChoices(
        choices=[ChosenValue(*row) for row in choices],
        bundles=[StoredBundle(*row) for row in bundles],
        rules=[StoredRule(*row) for row in rules],
    )


def find_or_add_workspace(tx: Session, platform: Platform, external_id: str) -> int:
    """The id of the workspace, which is added when it is new."""
    row = {"platform": platform, "external_id": external_id, "added_at": datetime.now(UTC)}
    added = add_unless_there(tx, tables.Workspace, row)
    if added is not None:
        return added
    query = select(tables.Workspace.id).where(
        tables.Workspace.platform == platform, tables.Workspace.external_id == external_id
    )
    return tx.scalars(query).one()


def set_choice(
    tx: Session, workspace_id: int, place: Place, name: str, value: str, *, set_by: int | None
) -> None:
    """Choose a value, in place of the one before. A person's own is set by that person's account."""
    clear_choices(tx, workspace_id, place, [name])
    scope, scope_id = place
    tx.add(
        tables.Choice(
            workspace_id=workspace_id,
            scope=scope,
            scope_id=scope_id,
            account_id=set_by if scope == "person" else None,
            name=name,
            value=value,
            set_by=set_by,
        )
    )
    tx.flush()


def clear_choices(tx: Session, workspace_id: int, place: Place, names: Sequence[str]) -> int:
    """Take settings back; how many there were."""
    cleared = tx.execute(
        delete(tables.Choice).where(
            tables.Choice.workspace_id == workspace_id,
            tables.Choice.scope == place[0],
            tables.Choice.scope_id == place[1],
            tables.Choice.name.in_(names),
        )
    )
    return int(getattr(cleared, "rowcount", 0))


def save_bundle(
    tx: Session,
    workspace_id: int,
    name: str,
    values: Mapping[str, str],
    *,
    owner: str = "",
    account_id: int | None = None,
) -> None:
    """Add a bundle or preset, or give one its new values. A preset names its owner and the owner's account."""
    now = datetime.now(UTC)
    row: dict[str, Any] = {
        "workspace_id": workspace_id,
        "owner": owner,
        "account_id": account_id,
        "name": name,
        "values": dict(values),
        "changed_at": now,
    }
    if add_unless_there(tx, tables.Bundle, row) is None:
        tx.execute(
            update(tables.Bundle)
            .where(*_bundle(workspace_id, name, owner))
            .values({"values": dict(values), "changed_at": now})
        )


def delete_bundle(tx: Session, workspace_id: int, name: str) -> bool:
    """Delete a workspace's bundle, wherever it is bound. False when there was none."""
    gone = tx.execute(delete(tables.Bundle).where(*_bundle(workspace_id, name, "")))
    tx.execute(
        delete(tables.Choice).where(
            tables.Choice.workspace_id == workspace_id,
            tables.Choice.name == "bundle",
            tables.Choice.value == name,
        )
    )
    return int(getattr(gone, "rowcount", 0)) > 0


def set_rule(tx: Session, workspace_id: int, rule: StoredRule, *, set_by: int | None) -> None:
    """Record a rule, in place of the one before for the same need and subject."""
    clear_rule(tx, workspace_id, rule.need, rule.kind, rule.subject)
    tx.add(
        tables.AccessRule(
            workspace_id=workspace_id,
            need=rule.need,
            subject_kind=rule.kind,
            subject=rule.subject,
            allow=rule.allow,
            set_by=set_by,
        )
    )
    tx.flush()


def clear_rule(tx: Session, workspace_id: int, need: Need, kind: Subject, subject: str) -> bool:
    """Take a rule back. False when there was none."""
    cleared = tx.execute(
        delete(tables.AccessRule).where(
            tables.AccessRule.workspace_id == workspace_id,
            tables.AccessRule.need == need,
            tables.AccessRule.subject_kind == kind,
            tables.AccessRule.subject == subject,
        )
    )
    return int(getattr(cleared, "rowcount", 0)) > 0


def _bundle(workspace_id: int, name: str, owner: str) -> tuple[Any, ...]:
    return (
        tables.Bundle.workspace_id == workspace_id,
        tables.Bundle.owner == owner,
        tables.Bundle.name == name,
    )
