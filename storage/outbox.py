"""The platform messages of an answer: written down before each is sent, and resolved when nobody knows what came of it.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
Those that take a `Claim` raise `ClaimLost` when another process has the message now.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Select, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storage.conversations import record_parts
from storage.inbox import Claim, close_received, guard
from storage.tables import Decision, Inbox, Outbox, PartOp, PartState


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


async def list_parts(session: AsyncSession, claim: Claim) -> list[Part]:
    rows = await session.scalars(
        select(Outbox).where(Outbox.inbox_id == claim.inbox_id).order_by(Outbox.part)
    )
    return [_to_part(row) for row in rows]


async def add_preview(tx: AsyncSession, claim: Claim, part: int, body: str, now: datetime) -> Part:
    """A part that is posted while the answer is still being written; in state `sending` at once."""
    await guard(tx, claim)
    row = _new(claim, part, body, "sending")
    row.first_try_at, row.attempts = now, 1
    tx.add(row)
    await tx.flush()
    return _to_part(row)


async def commit_answer(
    tx: AsyncSession,
    claim: Claim,
    bodies: Sequence[str],
    *,
    decision: Decision,
    answer_id: int | None,
    shown: Mapping[int, str],
    now: datetime | None = None,
) -> int | None:
    """Fix the text of an answer: from here on nothing else can be sent. `shown` is what previews show, by part.

    What was posted early becomes an edit, or nothing if it shows the same; what is too many is deleted. With `now`,
    a post that comes first is marked as `sending` in the same transaction: its number is returned, and it is sent next.
    """
    await guard(tx, claim)
    there = {row.part: row for row in await tx.scalars(_of(claim))}
    for part, body in enumerate(bodies):
        row = there.pop(part, None)
        if row is None:
            tx.add(_new(claim, part, body, "pending"))
        elif row.external_id is not None or row.state == "sending":
            row.op, row.body = "edit", body
            row.state = _state_of_edit(row, same=shown.get(part) == body)
        else:
            row.body, row.state = body, "pending"
    for row in there.values():
        if row.external_id is None and row.state != "sending":
            await tx.delete(row)
        else:
            row.op, row.state = "delete", _state_of_edit(row, same=False)
    await tx.execute(
        update(Inbox)
        .where(Inbox.id == claim.inbox_id)
        .values(state="answered", decision=decision, answer_id=answer_id)
    )
    return None if now is None else await _mark_first(tx, claim, now)


async def _mark_first(tx: AsyncSession, claim: Claim, now: datetime) -> int | None:
    await tx.flush()
    rows = list(await tx.scalars(_of(claim)))
    first = next((row for row in rows if row.state in ("pending", "sending")), None)
    if first is None or first.op != "post" or first.state == "sending":
        return None
    first.state, first.first_try_at, first.attempts = "sending", first.first_try_at or now, first.attempts + 1
    return first.part


async def mark_sending(tx: AsyncSession, claim: Claim, part: Part, now: datetime) -> None:
    """Before the call: whatever happens from here, it may have been applied."""
    await guard(tx, claim)
    first = part.first_try_at or now
    await _update(tx, part, state="sending", first_try_at=first, attempts=part.attempts + 1)


async def mark_sent(tx: AsyncSession, claim: Claim, part: Part, external_id: str | None) -> None:
    await guard(tx, claim)
    await _update(tx, part, state="sent", external_id=external_id, last_error=None)


async def mark_posted(tx: AsyncSession, claim: Claim, part: Part, external_id: str) -> None:
    """A post in doubt stands there after all; what was to be done with it is still to be done."""
    await guard(tx, claim)
    state: PartState = "sent" if part.op == "post" else "pending"
    await _update(tx, part, state=state, external_id=external_id)


async def mark_pending(tx: AsyncSession, claim: Claim, part: Part, error: str) -> None:
    """It was surely not applied, and is tried again."""
    await guard(tx, claim)
    await _update(tx, part, state="pending", last_error=error)


async def mark_not_posted(tx: AsyncSession, claim: Claim, part: Part) -> None:
    """A post in doubt does not stand there: it is to be posted with the text that it has now."""
    await guard(tx, claim)
    if part.op == "delete":
        await _update(tx, part, state="sent")
    else:
        await _update(tx, part, op="post", state="pending")


async def mark_failed(tx: AsyncSession, claim: Claim, part: Part, error: str) -> None:
    """The platform refused it for good."""
    await guard(tx, claim)
    await _update(tx, part, state="failed", last_error=error)


async def conclude_answer(tx: AsyncSession, claim: Claim) -> None:
    """Every part is sent or refused: the dialogue learns where the answer stands, and the message is closed."""
    await guard(tx, claim)
    row = await tx.get_one(Inbox, claim.inbox_id)
    parts = list(await tx.scalars(_of(claim)))
    if row.answer_id is not None:
        shown = [part.external_id for part in parts if part.op != "delete" and part.external_id]
        await record_parts(tx, row.answer_id, shown)
    refused = next((part.last_error for part in parts if part.state == "failed"), None)
    await close_received(tx, claim, "dead" if row.decision == "dead" else "done", refused)


def _state_of_edit(row: Outbox, *, same: bool) -> PartState:
    if row.state == "sending" and row.external_id is None:
        return "sending"
    return "sent" if same else "pending"


def _of(claim: Claim) -> Select[Outbox]:
    return select(Outbox).where(Outbox.inbox_id == claim.inbox_id).order_by(Outbox.part)


def _new(claim: Claim, part: int, body: str, state: Literal["pending", "sending"]) -> Outbox:
    return Outbox(
        inbox_id=claim.inbox_id,
        part=part,
        op="post",
        body=body,
        nonce=secrets.token_hex(12),
        state=state,
        attempts=0,
    )


async def _update(tx: AsyncSession, part: Part, **values: object) -> None:
    await tx.execute(update(Outbox).where(Outbox.id == part.id).values(**values))


def _to_part(row: Outbox) -> Part:
    return Part(**{name: getattr(row, name) for name in Part.__dataclass_fields__})
