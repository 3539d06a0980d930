"""What came in and is to be answered: stored before it is acknowledged, claimed by one process, decided once.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
The statements that every message takes are built once, above their functions; `storage.statements` tells why.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    CursorResult,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from storage.errors import ClaimLost
from storage.statements import add_unless_there
from storage.tables import Action, Decision, Inbox, Outbox, Platform, Via

CLAIM_LOCK = 0x436C61696D
"""PostgreSQL's advisory lock that makes processes claim one after the other."""

OPEN = ("answered", "claimed", "new")
"""States of a row that something is still to be done for, the most urgent first."""

FORGOTTEN: dict[str, Any] = {
    "text": "",
    "token": None,
    "author_id": "",
    "author_name": "",
    "author_roles": [],
    "attachments": [],
}
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
    category: str = ""
    author_roles: Sequence[str] = ()
    author_manages: bool = False
    author_moderates: bool = False
    attachments: Sequence[Mapping[str, Any]] = ()
    action: Action | None = None
    target_id: int | None = None
    candidate_id: int | None = None
    reason: str | None = None


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
    answer_id: int | None = None


def add_received(
    tx: Session, received: Received, now: datetime, *, rest_until: datetime | None = None
) -> bool:
    """Store a message. False when it is there already, by its id or by its `client_msg_id`."""
    first = {"received_at": now, "state": "new", "lease_until": rest_until, "fence": 0, "attempts": 0}
    return add_unless_there(tx, Inbox, asdict(received) | first) is not None


def edit_received(
    tx: Session, platform: Platform, workspace: str, channel: str, message_id: str, text: str
) -> bool:
    """Take over what somebody changed in a message. False when its answer has begun or it is unknown."""
    return _change_unanswered(tx, platform, workspace, channel, message_id, text=text)


def wake_received(tx: Session, platform: Platform, workspace: str, channel: str, message_id: str) -> bool:
    """It need not rest any longer. False when its answer has begun or it is unknown."""
    return _change_unanswered(tx, platform, workspace, channel, message_id, lease_until=None)


def cancel_received(tx: Session, platform: Platform, workspace: str, channel: str, message_id: str) -> bool:
    """Somebody deleted a message: it is not answered. False when its answer has begun or it is unknown."""
    return _change_unanswered(tx, platform, workspace, channel, message_id, state="cancelled", **FORGOTTEN)


_mine = Inbox.__table__.c
_other = Inbox.__table__.alias("other").c
_SAME_PLACE = and_(
    _other.platform == _mine.platform,
    _other.workspace == _mine.workspace,
    _other.channel == _mine.channel,
    _other.thread == _mine.thread,
)
_COMES_BEFORE = or_(
    and_(_other.state == "answered", _mine.state != "answered"),
    and_(
        (_other.state == "answered") == (_mine.state == "answered"),
        or_(
            _other.created_at < _mine.created_at,
            and_(_other.created_at == _mine.created_at, _other.id < _mine.id),
        ),
    ),
)
_IS_HELD = and_(_other.lease_owner.is_not(None), _other.lease_until > bindparam("now"), _other.id != _mine.id)
_IS_FREE = and_(
    _mine.platform.in_(bindparam("platforms", expanding=True)),
    or_(_mine.lease_until.is_(None), _mine.lease_until <= bindparam("now")),
)
_ANY_DUE = select(_mine.id).where(_mine.state.in_(OPEN), _IS_FREE).limit(1)
# One state at a time, in the order of its index: else each claim would read and sort all that waits.
_NEXT = (
    select(Inbox.__table__)
    .where(
        _mine.state == bindparam("its_state"),
        _IS_FREE,
        ~exists().where(_SAME_PLACE, _other.state.in_(OPEN), or_(_COMES_BEFORE, _IS_HELD)),
    )
    .order_by(_mine.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE = update(Inbox.__table__).where(_mine.id == bindparam("claimed"))
_EXPIRE_OTHERS = (
    update(Inbox.__table__)
    .where(
        _mine.platform == bindparam("its_platform"),
        _mine.workspace == bindparam("its_workspace"),
        _mine.channel == bindparam("its_channel"),
        _mine.thread == bindparam("its_thread"),
        _mine.id != bindparam("claimed"),
        _mine.lease_owner.is_not(None),
        _mine.state.in_(OPEN),
    )
    .values(fence=_mine.fence + 1, lease_owner=None, lease_until=None)
)


def claim_next(
    tx: Session, *, owner: str, platforms: Collection[Platform], now: datetime, lease_seconds: float
) -> Claim | None:
    """Take a message of a conversation in which nothing earlier is open, or None when there is none.

    Of several conversations, the one whose message was stored first comes first. An answer that is being sent comes
    before what is not answered yet, for a scan may find an earlier message late.
    """
    # Under READ COMMITTED two processes could each see the other's message of a conversation unclaimed.
    if tx.get_bind().dialect.name == "postgresql":
        tx.execute(select(func.pg_advisory_xact_lock(CLAIM_LOCK)))
    due = {"platforms": list(platforms), "now": now}
    found = (tx.execute(_NEXT, {"its_state": state, **due}).one_or_none() for state in OPEN)
    row = next((row for row in found if row is not None), None)
    if row is None:
        return None
    answered = row.state == "answered"
    taken = {
        "state": "answered" if answered else "claimed",
        "attempts": row.attempts + (not answered),
        "fence": row.fence + 1,
        "lease_owner": owner,
        "lease_until": now + timedelta(seconds=lease_seconds),
    }
    tx.execute(_TAKE, {"claimed": row.id, **taken})
    place = {f"its_{name}": getattr(row, name) for name in ("platform", "workspace", "channel", "thread")}
    tx.execute(_EXPIRE_OTHERS, {"claimed": row.id, **place})
    return Claim(
        inbox_id=row.id,
        fence=row.fence + 1,
        attempts=row.attempts + (not answered),
        answered=answered,
        received=as_received(row),
        decision=row.decision,
        question_id=row.question_id,
        answer_id=row.answer_id,
    )


def as_received(row: Any) -> Received:
    """From a row of the table."""
    return Received(**{name: _frozen(getattr(row, name)) for name in Received.__dataclass_fields__})


def claim_several(
    tx: Session,
    most: int,
    *,
    owner: str,
    platforms: Collection[Platform],
    now: datetime,
    lease_seconds: float,
) -> list[Claim]:
    """What `claim_next` takes when it is asked up to `most` times: no two of one conversation."""
    claims: list[Claim] = []
    while len(claims) < most:
        claim = claim_next(tx, owner=owner, platforms=platforms, now=now, lease_seconds=lease_seconds)
        if claim is None:
            break
        claims.append(claim)
    return claims


def is_any_due(session: Session, platforms: Collection[Platform], now: datetime) -> bool:
    """Whether a claim may succeed: cheap, for it takes no lock."""
    return session.scalar(_ANY_DUE, {"platforms": list(platforms), "now": now}) is not None


def renew_claim(tx: Session, claim: Claim, until: datetime) -> None:
    """Hold on for longer. Raises `ClaimLost`."""
    _change(tx, claim, lease_until=until)


_CLAIMED = update(Inbox.__table__).where(
    _mine.id == bindparam("claimed"), _mine.fence == bindparam("its_fence"), _mine.state.in_(OPEN)
)
_RELEASE = _CLAIMED.values(state=case((_mine.state == "answered", "answered"), else_="new"))


def release_claim(
    tx: Session, claim: Claim, *, rest_until: datetime | None = None, error: str | None = None
) -> None:
    """Let go of a row unfinished; it is claimed again, after `rest_until`. Without an error it was no attempt."""
    _change(
        tx,
        claim,
        _RELEASE,
        fence=claim.fence + 1,
        attempts=claim.attempts - (0 if error or claim.answered else 1),
        lease_owner=None,
        lease_until=rest_until,
        last_error=error,
    )


def release_all_claims(tx: Session) -> None:
    """Nobody holds anything any more: for the start of the only process that uses the database."""
    tx.execute(update(Inbox).where(Inbox.state.in_(OPEN)).values(lease_owner=None, lease_until=None))


def record_decision(
    tx: Session,
    claim: Claim,
    decision: Decision,
    question_id: int | None = None,
    *,
    reason: str | None = None,
) -> None:
    """Keep what is to become of a message and why, and which message of the dialogue it is. Raises `ClaimLost`."""
    _change(tx, claim, decision=decision, question_id=question_id, reason=reason or claim.received.reason)


_EMPTY_PARTS = update(Outbox.__table__).where(Outbox.__table__.c.inbox_id == bindparam("its_inbox_id"))


def close_received(
    tx: Session, claim: Claim, state: Literal["done", "dead"], error: str | None = None
) -> None:
    """Nothing remains to be done, and what was said is forgotten here. Raises `ClaimLost`."""
    _change(tx, claim, state=state, lease_owner=None, lease_until=None, last_error=error, **FORGOTTEN)
    tx.execute(_EMPTY_PARTS, {"its_inbox_id": claim.inbox_id, "body": ""})


def count_received(session: Session) -> dict[str, int]:
    """How many messages came to which decision; "undecided" for those that wait."""
    query = select(Inbox.decision, func.count()).group_by(Inbox.decision)
    return {decision or "undecided": count for decision, count in (session.execute(query)).all()}


def record_answer(tx: Session, claim: Claim, decision: Decision, answer_id: int | None) -> None:
    """From here only sending remains. Raises `ClaimLost`."""
    _change(tx, claim, state="answered", decision=decision, answer_id=answer_id)


_GUARD = (
    select(_mine.decision, _mine.answer_id)
    .where(_mine.id == bindparam("claimed"), _mine.fence == bindparam("its_fence"))
    .with_for_update()
)


def guard(tx: Session, claim: Claim) -> tuple[Decision | None, int | None]:
    """Raise `ClaimLost` unless the claim holds, and keep it so until the end of the transaction.

    What was decided, and the answer's message in the dialogue.
    """
    row = tx.execute(_GUARD, {"claimed": claim.inbox_id, "its_fence": claim.fence}).one_or_none()
    if row is None:
        raise _lost(claim)
    return row.decision, row.answer_id


def _change(tx: Session, claim: Claim, statement: Update = _CLAIMED, **values: object) -> None:
    result = tx.execute(statement, {"claimed": claim.inbox_id, "its_fence": claim.fence, **values})
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise _lost(claim)


def _frozen(value: Any) -> Any:
    """JSON gives lists."""
    return tuple(value) if isinstance(value, list) else value


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(f"Message {claim.received.message_id} is answered by another process now.")


def _change_unanswered(
    tx: Session, platform: Platform, workspace: str, channel: str, message_id: str, **values: object
) -> bool:
    unanswered = update(Inbox).where(
        Inbox.platform == platform,
        Inbox.workspace == workspace,
        Inbox.channel == channel,
        Inbox.message_id == message_id,
        Inbox.state == "new",
        Inbox.question_id.is_(None),  # else the dialogue has it, and a part of its answer may stand there
    )
    result = tx.execute(unanswered.values(**values))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
