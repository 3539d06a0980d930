"""Doubts about messages, kept for those who moderate."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import tables
from storage.tables import FlagSource


def add_flag(
    tx: Session,
    message_id: int,
    *,
    source: FlagSource,
    category: str,
    reporter_id: int | None = None,
    evidence: str | None = None,
    score: float | None = None,
) -> int:
    """The flag's id. With an answer, the version that wrote it is kept, too."""
    version = select(tables.Turn.version).where(tables.Turn.answer_id == message_id)
    flag = tables.Flag(
        message_id=message_id,
        source=source,
        reporter_id=reporter_id,
        category=category,
        score=score,
        evidence=evidence,
        version=tx.scalar(version.order_by(tables.Turn.id.desc()).limit(1)),
    )
    tx.add(flag)
    tx.flush()
    return flag.id
