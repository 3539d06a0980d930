"""What came in and is to be answered: stored before it is acknowledged, claimed by one process, decided once.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, CursorResult, and_, case, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from storage.errors import ClaimLost
from storage.tables import Decision, Inbox, Outbox, Platform, Via

CLAIM_LOCK = 0x436C61696D
"""PostgreSQL's advisory lock that makes processes claim one after the other."""

OPEN = ("new", "claimed", "answered")
"""States of a row that something is still to be done for."""

FORGOTTEN: dict[str, Any] = {"text": "", "token": None, "author_id": "", "author_name": ""}
"""What a row that is closed no longer tells: who said what is in the dialogue, or in no place at all."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that addresses the bot, as its event or the history tells it."""

    platform: Platform
    workspace: str
    channel: str
    thread: str
    message_id: str
    author_id: str
    author_name: str
    text: str
    via: Via
    created_at: datetime
    private: bool = False
    author_is_bot: bool = False
    reply_to: str | None = None
    client_msg_id: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that this process works on until its lease ends. What it writes is guarded by `fence`."""

    inbox_id: int
    fence: int
    attempts: int
    """How often it was claimed for an answer, this time included."""
    answered: bool
    """Its answer is committed, and only remains to be sent."""
    received: Received
    decision: Decision | None
    question_id: int | None


async def add_received(
    tx: AsyncSession, received: Received, now: datetime, *, rest_until: datetime | None = None
) -> bool:
    """Store a message. False when it is there already, by its id or by its `client_msg_id`."""
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = asdict(received) | {"received_at": now, "state": "new", "lease_until": rest_until}
    statement = (
        insert(Inbox).values(**values, fence=0, attempts=0).on_conflict_do_nothing().returning(Inbox.id)
    )
    return await tx.scalar(statement) is not None


async def edit_received(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str, text: str
) -> bool:
    """Take over what somebody changed in a message. False when its answer has begun or it is unknown."""
    return await _change_unanswered(tx, platform, workspace, channel, message_id, text=text)


async def wake_received(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str
) -> bool:
    """It need not rest any longer. False when its answer has begun or it is unknown."""
    return await _change_unanswered(tx, platform, workspace, channel, message_id, lease_until=None)


async def cancel_received(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str
) -> bool:
    """Somebody deleted a message: it is not answered. False when its answer has begun or it is unknown."""
    return await _change_unanswered(
        tx, platform, workspace, channel, message_id, state="cancelled", **FORGOTTEN
    )


async def claim_next(
    tx: AsyncSession, *, owner: str, platforms: Collection[Platform], now: datetime, lease_seconds: float
) -> Claim | None:
    """Take the oldest message of a conversation in which nothing earlier is open, or None when there is none.

    An answer that is being sent comes before what is not answered yet, for a scan may find an earlier message late.
    """
    # Under READ COMMITTED two processes could each see the other's message of a conversation unclaimed.
    if tx.get_bind().dialect.name == "postgresql":
        await tx.execute(select(func.pg_advisory_xact_lock(CLAIM_LOCK)))
    other = aliased(Inbox)
    comes_before = or_(
        and_(other.state == "answered", Inbox.state != "answered"),
        and_(
            (other.state == "answered") == (Inbox.state == "answered"),
            or_(
                other.created_at < Inbox.created_at,
                and_(other.created_at == Inbox.created_at, other.id < Inbox.id),
            ),
        ),
    )
    is_held = and_(other.lease_owner.is_not(None), other.lease_until > now, other.id != Inbox.id)
    candidate = (
        select(Inbox)
        .where(
            Inbox.state.in_(OPEN),
            Inbox.platform.in_(platforms),
            or_(Inbox.lease_until.is_(None), Inbox.lease_until <= now),
            ~exists().where(_same_place(other, Inbox), other.state.in_(OPEN), or_(comes_before, is_held)),
        )
        .order_by(Inbox.created_at, Inbox.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = await tx.scalar(candidate)
    if row is None:
        return None
    answered = row.state == "answered"
    row.state = "answered" if answered else "claimed"
    row.attempts += not answered
    row.fence += 1
    row.lease_owner, row.lease_until = owner, now + timedelta(seconds=lease_seconds)
    await tx.flush()
    expired = update(Inbox).where(
        _same_place(Inbox, row), Inbox.id != row.id, Inbox.lease_owner.is_not(None), Inbox.state.in_(OPEN)
    )
    await tx.execute(expired.values(fence=Inbox.fence + 1, lease_owner=None, lease_until=None))
    return _to_claim(row, answered=answered)


async def is_any_due(session: AsyncSession, platforms: Collection[Platform], now: datetime) -> bool:
    """Whether a claim may succeed: cheap, for it takes no lock."""
    due = select(Inbox.id).where(
        Inbox.state.in_(OPEN),
        Inbox.platform.in_(platforms),
        or_(Inbox.lease_until.is_(None), Inbox.lease_until <= now),
    )
    return await session.scalar(due.limit(1)) is not None


async def renew_claim(tx: AsyncSession, claim: Claim, until: datetime) -> None:
    """Hold on for longer. Raises `ClaimLost`."""
    await _update(tx, claim, lease_until=until)


async def release_claim(
    tx: AsyncSession, claim: Claim, *, rest_until: datetime | None = None, error: str | None = None
) -> None:
    """Let go of a row unfinished; it is claimed again, after `rest_until`. Without an error it was no attempt."""
    await _update(
        tx,
        claim,
        state=case((Inbox.state == "answered", "answered"), else_="new"),
        fence=claim.fence + 1,
        attempts=claim.attempts - (0 if error or claim.answered else 1),
        lease_owner=None,
        lease_until=rest_until,
        last_error=error,
    )


async def release_all_claims(tx: AsyncSession) -> None:
    """Nobody holds anything any more: for the start of the only process that uses the database."""
    await tx.execute(update(Inbox).where(Inbox.state.in_(OPEN)).values(lease_owner=None, lease_until=None))


async def record_decision(
    tx: AsyncSession, claim: Claim, decision: Decision, question_id: int | None = None
) -> None:
    """Keep what is to become of a message, and which message of the dialogue it is. Raises `ClaimLost`."""
    await _update(tx, claim, decision=decision, question_id=question_id)


async def close_received(
    tx: AsyncSession, claim: Claim, state: Literal["done", "dead"], error: str | None = None
) -> None:
    """Nothing remains to be done, and what was said is forgotten here. Raises `ClaimLost`."""
    await _update(tx, claim, state=state, lease_owner=None, lease_until=None, last_error=error, **FORGOTTEN)
    await tx.execute(update(Outbox).where(Outbox.inbox_id == claim.inbox_id).values(body=""))


async def count_received(session: AsyncSession) -> dict[str, int]:
    """How many messages came to which decision; "undecided" for those that wait."""
    query = select(Inbox.decision, func.count()).group_by(Inbox.decision)
    return {decision or "undecided": count for decision, count in (await session.execute(query)).all()}


async def guard(tx: AsyncSession, claim: Claim) -> None:
    """Raise `ClaimLost` unless the claim holds, and keep it so until the end of the transaction."""
    held = select(Inbox.id).where(Inbox.id == claim.inbox_id, Inbox.fence == claim.fence).with_for_update()
    if await tx.scalar(held) is None:
        raise ClaimLost(f"Message {claim.received.message_id} is answered by another process now.")


async def _update(tx: AsyncSession, claim: Claim, **values: object) -> None:
    mine = update(Inbox).where(Inbox.id == claim.inbox_id, Inbox.fence == claim.fence, Inbox.state.in_(OPEN))
    result = await tx.execute(mine.values(**values))
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise ClaimLost(f"Message {claim.received.message_id} is answered by another process now.")


async def _change_unanswered(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str, **values: object
) -> bool:
    unanswered = update(Inbox).where(
        Inbox.platform == platform,
        Inbox.workspace == workspace,
        Inbox.channel == channel,
        Inbox.message_id == message_id,
        Inbox.state == "new",
        Inbox.question_id.is_(None),  # else the dialogue has it, and a part of its answer may stand there
    )
    result = await tx.execute(unanswered.values(**values))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)


def _same_place(row: type[Inbox], other: type[Inbox] | Inbox) -> ColumnElement[bool]:
    return and_(
        row.platform == other.platform,
        row.workspace == other.workspace,
        row.channel == other.channel,
        row.thread == other.thread,
    )


def _to_claim(row: Inbox, *, answered: bool) -> Claim:
    names = Received.__dataclass_fields__
    return Claim(
        inbox_id=row.id,
        fence=row.fence,
        attempts=row.attempts,
        answered=answered,
        received=Received(**{name: getattr(row, name) for name in names}),
        decision=row.decision,
        question_id=row.question_id,
    )
