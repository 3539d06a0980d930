"""How far each channel's and thread's history has been read. A live event never moves it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from storage.tables import Platform, Scan


@dataclass(frozen=True, slots=True)
class Watermark:
    """A place whose history is known up to a message: everything after `verified_upto` is still to be read."""

    id: int
    workspace: str
    channel: str
    thread: str
    private: bool
    verified_upto: str


def add_scan(
    tx: Session,
    *,
    platform: Platform,
    workspace: str,
    channel: str,
    thread: str,
    private: bool,
    begin_after: str,
    active_until: datetime,
) -> None:
    """Look at a place from now on; one that is known stays active for longer."""
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(Scan).values(
        platform=platform,
        workspace=workspace,
        channel=channel,
        thread=thread,
        private=private,
        verified_upto=begin_after,
        active_until=active_until,
    )
    key = ("platform", "workspace", "channel", "thread")
    tx.execute(statement.on_conflict_do_update(index_elements=key, set_={"active_until": active_until}))


def list_scans(session: Session, platform: Platform, now: datetime) -> list[Watermark]:
    """The places of a platform that are still active."""
    query = select(
        Scan.id, Scan.workspace, Scan.channel, Scan.thread, Scan.private, Scan.verified_upto
    ).where(Scan.platform == platform, Scan.active_until > now)
    return [Watermark(*row) for row in session.execute(query.order_by(Scan.id)).all()]


def advance_scan(tx: Session, scan_id: int, verified_upto: str) -> None:
    """The history was read up to there, and what it holds is in the inbox in this same transaction."""
    tx.execute(update(Scan).where(Scan.id == scan_id).values(verified_upto=verified_upto))
