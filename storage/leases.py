"""What only one process may do at a time, and how often a gateway was logged in to."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from storage.tables import Identify, Lease, Platform


def take_lease(tx: Session, name: str, holder: str, now: datetime, seconds: float) -> int | None:
    """Take or renew a lease. Its fence, which rises when the holder changes; None while another holds it."""
    insert = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    first = {"name": name, "holder": "", "fence": 0, "expires_at": now}
    tx.execute(insert(Lease).values(**first).on_conflict_do_nothing())
    lease = tx.scalars(select(Lease).where(Lease.name == name).with_for_update()).one()
    if lease.holder != holder:
        if lease.holder and lease.expires_at > now:
            return None
        lease.holder, lease.fence = holder, lease.fence + 1
    lease.expires_at = now + timedelta(seconds=seconds)
    return lease.fence


def give_back_lease(tx: Session, name: str, holder: str) -> None:
    """Let another take it at once. Nothing happens unless `holder` has it."""
    lease = tx.scalar(select(Lease).where(Lease.name == name, Lease.holder == holder).with_for_update())
    if lease is not None:
        lease.holder = ""


def record_identify(tx: Session, platform: Platform, now: datetime) -> None:
    """Count a login; those of more than a day ago are dropped."""
    tx.execute(delete(Identify).where(Identify.at < now - timedelta(days=1)))
    tx.add(Identify(platform=platform, at=now))


def count_identifies(session: Session, platform: Platform, since: datetime) -> int:
    query = select(func.count()).where(Identify.platform == platform, Identify.at >= since)
    return session.scalar(query) or 0
