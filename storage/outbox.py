"""The platform messages of an answer: written down before each is sent, and resolved when nobody knows what came of it.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
Those that take a `Claim` raise `ClaimLost` when another process has the message now.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from storage.answers import find_heir
from storage.inbox import OPEN, Claim, close_received, guard, record_answer
from storage.tables import Conversation, Decision, Inbox, Message, Outbox, PartOp, PartState
from storage.turns import record_parts, replace_parts


@dataclass(frozen=True, slots=True)
class Part:
    """One message of an answer. `sending` means that nobody knows whether the platform has it."""

    id: int
    part: int
    op: PartOp
    body: str
    nonce: str
    state: PartState
    first_try_at: datetime | None
    attempts: int
    external_id: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """An answer whose text is fixed. `marked` is the part that is marked as `sending`, and was not sent yet."""

    parts: Sequence[Part]
    marked: Part | None = None
    answer_id: int | None = None


_columns = Outbox.__table__.c
_PARTS = (
    select(*(_columns[name] for name in Part.__dataclass_fields__))
    .where(_columns.inbox_id == bindparam("its_inbox_id"))
    .order_by(_columns.part)
)
_ADD = insert(Outbox.__table__)
_CHANGE = update(Outbox.__table__).where(_columns.id == bindparam("its_id"))
_DELETE = delete(Outbox.__table__).where(_columns.id == bindparam("its_id"))


def list_parts(session: Session, claim: Claim) -> list[Part]:
    return [Part(*row) for row in session.execute(_PARTS, {"its_inbox_id": claim.inbox_id})]


def add_preview(tx: Session, claim: Claim, part: int, body: str, now: datetime) -> Part:
    """A part that is posted while the answer is still being written; in state `sending` at once."""
    guard(tx, claim)
    tx.execute(_ADD, _new(claim, part, body) | {"state": "sending", "first_try_at": now, "attempts": 1})
    return next(row for row in list_parts(tx, claim) if row.part == part)


def adopt_parts(tx: Session, claim: Claim, inbox_id: int) -> None:
    """What shows the answer to another row will show the answer to this one."""
    guard(tx, claim)
    for row in tx.execute(_PARTS, {"its_inbox_id": inbox_id}).all():
        if row.external_id is not None and row.op != "delete":
            adopted = _new(claim, row.part, "") | {"state": "sent", "external_id": row.external_id}
            tx.execute(_ADD, adopted)


def commit_answer(
    tx: Session,
    claim: Claim,
    bodies: Sequence[str],
    *,
    decision: Decision,
    answer_id: int | None,
    shown: Mapping[int, str],
    now: datetime | None = None,
) -> Committed:
    """Fix the text of an answer: from here on nothing else can be sent. `shown` is what previews show, by part.

    What was posted early becomes an edit, or nothing if it shows the same; what is too many is deleted. With `now`,
    a post that comes first is marked as `sending` in the same transaction, and is sent next.
    """
    record_answer(tx, claim, decision, answer_id)
    there = {row.part: row for row in list_parts(tx, claim)}
    new = [_new(claim, part, body) for part, body in enumerate(bodies) if part not in there]
    for row in there.values():
        body = bodies[row.part] if row.part < len(bodies) else None
        if row.external_id is None and row.state != "sending":
            if body is None:
                tx.execute(_DELETE, {"its_id": row.id})
            else:
                _change(tx, row, body=body, state="pending")
        elif body is None:
            _change(tx, row, op="delete", state=_state_of_edit(row, same=False))
        else:
            same = shown.get(row.part) == body
            _change(tx, row, op="edit", body=body, state=_state_of_edit(row, same=same))
    if new:
        tx.execute(_ADD, new)
    parts = list_parts(tx, claim)
    committed = Committed(parts) if now is None else _mark_first(tx, parts, now)
    return replace(committed, answer_id=answer_id)


def _mark_first(tx: Session, parts: list[Part], now: datetime) -> Committed:
    first = next((part for part in parts if part.state in ("pending", "sending")), None)
    if first is None or first.op != "post" or first.state == "sending":
        return Committed(parts)
    marked = _mark_sending(tx, first, now)
    return Committed([marked if part.id == marked.id else part for part in parts], marked)


def mark_sending(tx: Session, claim: Claim, part: Part, now: datetime) -> None:
    """Before the call: whatever happens from here, it may have been applied."""
    guard(tx, claim)
    _mark_sending(tx, part, now)


def mark_sent(tx: Session, claim: Claim, part: Part, external_id: str | None, *, last: bool = False) -> None:
    """It stands there. With the `last` one, the message is closed."""
    guard(tx, claim)
    _change(tx, part, state="sent", external_id=external_id, last_error=None)
    if last:
        conclude_answer(tx, claim)


def mark_posted(tx: Session, claim: Claim, part: Part, external_id: str) -> None:
    """A post in doubt stands there after all; what was to be done with it is still to be done."""
    guard(tx, claim)
    state: PartState = "sent" if part.op == "post" else "pending"
    _change(tx, part, state=state, external_id=external_id)


def mark_pending(tx: Session, claim: Claim, part: Part, error: str) -> None:
    """It was surely not applied, and is tried again."""
    guard(tx, claim)
    _change(tx, part, state="pending", last_error=error)


def mark_not_posted(tx: Session, claim: Claim, part: Part) -> None:
    """A post in doubt does not stand there: it is to be posted with the text that it has now."""
    guard(tx, claim)
    if part.op == "delete":
        _change(tx, part, state="sent")
    else:
        _change(tx, part, op="post", state="pending")


def mark_failed(tx: Session, claim: Claim, part: Part, error: str) -> None:
    """The platform refused it for good."""
    guard(tx, claim)
    _change(tx, part, state="failed", last_error=error)


_REFUSED = (
    select(_columns.last_error)
    .where(_columns.inbox_id == bindparam("its_inbox_id"), _columns.state == "failed")
    .order_by(_columns.part)
    .limit(1)
)


def conclude_answer(tx: Session, claim: Claim) -> None:
    """Every part is sent or refused: the dialogue learns where the answer stands, and the message is closed."""
    decision, answer_id = guard(tx, claim)
    if answer_id is not None:
        parts = list_parts(tx, claim)
        if _is_retracted(parts):
            close_received(tx, claim, "done", "the question was deleted")
            forget_question(tx, claim.inbox_id)
            return
        shown = [part.external_id for part in parts if part.op != "delete" and part.external_id]
        record = record_parts if claim.received.action is None else replace_parts
        record(tx, answer_id, shown)
    refused = tx.scalar(_REFUSED, {"its_inbox_id": claim.inbox_id})
    close_received(tx, claim, "dead" if decision == "dead" else "done", refused)


def retract_answer(tx: Session, question_id: int) -> bool:
    """The question was deleted: what shows its answer is to be taken away, and then both leave the dialogue.

    False where an answer is still being written or sent: ask again when it has arrived.
    """
    inbox = Inbox.__table__.c
    rows = tx.execute(
        select(inbox.id, inbox.state).where(inbox.question_id == question_id).order_by(inbox.id)
    ).all()
    if any(row.state in OPEN for row in rows):
        return False
    if not rows:
        return True
    last = find_heir(tx, rows[0].id)
    standing = and_(_columns.inbox_id == last, _columns.external_id.is_not(None), _columns.op != "delete")
    if tx.scalar(select(func.count()).select_from(Outbox.__table__).where(standing)):
        tx.execute(update(Outbox.__table__).where(standing).values(op="delete", state="pending"))
        tx.execute(update(Outbox.__table__).where(_columns.inbox_id == last).values(op="delete"))
        reopened = update(Inbox.__table__).where(inbox.id == last)
        tx.execute(reopened.values(state="answered", lease_owner=None, lease_until=None))
    else:
        forget_question(tx, last)
    return True


def forget_question(tx: Session, inbox_id: int) -> None:
    """The question of a row, its answers and all that hangs on them; the row stays, so that it is not answered anew."""
    inbox = Inbox.__table__.c
    question_id = tx.scalar(select(inbox.question_id).where(inbox.id == inbox_id))
    if question_id is not None:
        place = select(Message.__table__.c.conversation_id).where(Message.__table__.c.id == question_id)
        told = update(Conversation.__table__).where(Conversation.__table__.c.id == place.scalar_subquery())
        tx.execute(told.values(summary=None, summary_upto=None))  # it may tell of the question
        rows = update(Inbox.__table__).where(inbox.question_id == question_id)
        tx.execute(rows.values(question_id=None, answer_id=None))
        tx.execute(delete(Message.__table__).where(Message.__table__.c.id == question_id))


def _is_retracted(parts: Sequence[Part]) -> bool:
    return bool(parts) and all(part.op == "delete" for part in parts)


def _state_of_edit(part: Part, *, same: bool) -> PartState:
    if part.state == "sending" and part.external_id is None:
        return "sending"
    return "sent" if same else "pending"


def _new(claim: Claim, part: int, body: str) -> dict[str, Any]:
    return {
        "inbox_id": claim.inbox_id,
        "part": part,
        "op": "post",
        "body": body,
        "nonce": secrets.token_hex(12),
        "state": "pending",
        "attempts": 0,
    }


def _mark_sending(tx: Session, part: Part, now: datetime) -> Part:
    first, attempts = part.first_try_at or now, part.attempts + 1
    _change(tx, part, state="sending", first_try_at=first, attempts=attempts)
    return replace(part, state="sending", first_try_at=first, attempts=attempts)


def _change(tx: Session, part: Part, **values: object) -> None:
    tx.execute(_CHANGE, {"its_id": part.id, **values})
