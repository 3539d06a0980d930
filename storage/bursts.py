"""What one person says in a row: it waits for what follows, and is answered as a whole.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.orm import Session

from storage.inbox import FORGOTTEN, OPEN, Claim, Received, as_received
from storage.tables import Inbox

_mine = Inbox.__table__.c
_AT_PLACE = and_(
    _mine.platform == bindparam("its_platform"),
    _mine.workspace == bindparam("its_workspace"),
    _mine.channel == bindparam("its_channel"),
    _mine.thread == bindparam("its_thread"),
)
_RESTING = select(_mine.id, _mine.received_at).where(
    _AT_PLACE,
    _mine.author_id == bindparam("its_author"),
    _mine.state == "new",
    _mine.lease_until.is_not(None),
    _mine.attempts == 0,
)
_DELAY = update(Inbox.__table__).where(_mine.id == bindparam("row"))
_LATER = (
    select(Inbox.__table__)
    .where(_AT_PLACE, _mine.id != bindparam("claimed"), _mine.state.in_(OPEN))
    .order_by(_mine.created_at, _mine.id)
)


def _place_of(received: Received) -> dict[str, Any]:
    return {f"its_{name}": getattr(received, name) for name in ("platform", "workspace", "channel", "thread")}


def delay_earlier(tx: Session, received: Received, until: datetime, *, at_most: timedelta) -> None:
    """What the same person has just said at the same place waits, too: it is answered with this message.

    Nothing waits for longer than `at_most` since it was received.
    """
    rows = tx.execute(_RESTING, _place_of(received) | {"its_author": received.author_id}).all()
    for row in rows:
        tx.execute(_DELAY, {"row": row.id, "lease_until": min(until, row.received_at + at_most)})


def list_following(tx: Session, claim: Claim) -> list[tuple[int, Received]]:
    """What the same person said next at the same place, before anybody else said something there: rows that nobody
    has claimed, in order."""
    rows = tx.execute(_LATER, _place_of(claim.received) | {"claimed": claim.inbox_id}).all()
    following: list[tuple[int, Received]] = []
    for row in rows:
        received = as_received(row)
        unclaimed = row.state == "new" and row.question_id is None and received.action is None
        if not unclaimed or received.author_id != claim.received.author_id:
            break
        following.append((row.id, received))
    return following


def close_joined(tx: Session, row_id: int, question_id: int) -> None:
    """It is a part of a question that another row answers."""
    closed: dict[str, Any] = {
        "state": "done",
        "decision": "joined",
        "question_id": question_id,
        "reason": "you said it in one go with what you said before",
        "lease_until": None,
    }
    tx.execute(update(Inbox).where(Inbox.id == row_id).values(**closed, **FORGOTTEN))
