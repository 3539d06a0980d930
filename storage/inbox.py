"""What came in and is to be answered: stored before it is acknowledged, claimed by one process, decided once.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import CursorResult, and_, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from storage.errors import ClaimLost
from storage.tables import Decision, Inbox, Platform, Via

OPEN = ("new", "claimed", "answered")
"""States of a row that something is still to be done for."""


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


async def add_received(tx: AsyncSession, received: Received, now: datetime) -> bool:
    """Store a message. False when it is there already, by its id or by its `client_msg_id`."""
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = asdict(received) | {"received_at": now, "state": "new", "fence": 0, "attempts": 0}
    statement = insert(Inbox).values(**values).on_conflict_do_nothing().returning(Inbox.id)
    return await tx.scalar(statement) is not None


async def edit_received(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str, text: str
) -> bool:
    """Take over what somebody changed in a message. False when its answer has begun or it is unknown."""
    return await _change_unanswered(tx, platform, workspace, channel, message_id, text=text)


async def cancel_received(
    tx: AsyncSession, platform: Platform, workspace: str, channel: str, message_id: str
) -> bool:
    """Somebody deleted a message: it is not answered. False when its answer has begun or it is unknown."""
    return await _change_unanswered(tx, platform, workspace, channel, message_id, state="cancelled", text="")


async def claim_next(
    tx: AsyncSession, *, owner: str, platforms: Collection[Platform], now: datetime, lease_seconds: float
) -> Claim | None:
    """Take the oldest message of a conversation in which nothing earlier is open, or None when there is none."""
    earlier = aliased(Inbox)
    same_place = and_(
        earlier.platform == Inbox.platform,
        earlier.workspace == Inbox.workspace,
        earlier.channel == Inbox.channel,
        earlier.thread == Inbox.thread,
    )
    came_before = or_(
        earlier.created_at < Inbox.created_at,
        and_(earlier.created_at == Inbox.created_at, earlier.id < Inbox.id),
    )
    candidate = (
        select(Inbox)
        .where(
            Inbox.state.in_(OPEN),
            Inbox.platform.in_(platforms),
            or_(Inbox.lease_until.is_(None), Inbox.lease_until <= now),
            ~exists().where(same_place, came_before, earlier.state.in_(OPEN)),
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
    return _to_claim(row, answered=answered)


async def find_next_due(session: AsyncSession, platforms: Collection[Platform]) -> datetime | None:
    """When the next row that rests, or that somebody holds, may be claimed; None when none is open."""
    query = select(func.min(Inbox.lease_until)).where(Inbox.state.in_(OPEN), Inbox.platform.in_(platforms))
    return await session.scalar(query)


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
        state="answered" if claim.answered else "new",
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
    """Nothing remains to be done. Raises `ClaimLost`."""
    await _update(
        tx, claim, state=state, text="", token=None, lease_owner=None, lease_until=None, last_error=error
    )


async def forget_token(tx: AsyncSession, claim: Claim) -> None:
    """The platform no longer takes answers by this token. Raises `ClaimLost`."""
    await _update(tx, claim, token=None)


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
    )
    result = await tx.execute(unanswered.values(**values))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)


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
