"""What is to happen once, or once in a while, however often the process starts: kept among the leases."""

import secrets
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from storage.leases import take_lease

EVER = timedelta(days=100 * 365)


def is_first_time(tx: Session, name: str, now: datetime, within: timedelta = EVER) -> bool:
    """Whether `name` has not happened within that time; from now on it has. `name` holds no personal data."""
    return take_lease(tx, f"once: {name}", secrets.token_hex(8), now, within.total_seconds()) is not None
