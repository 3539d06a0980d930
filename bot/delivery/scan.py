"""Reads what was said while nobody listened, or what the platform never told, and stores it in the inbox."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from bot.chat import ConversationKey, IncomingMessage
from bot.delivery.courier import Courier
from bot.errors import DeliveryFailed
from storage.database import Database, Session
from storage.scans import Watermark, advance_scan, list_scans

log = structlog.get_logger()

Add = Callable[[Session, IncomingMessage], bool]


class Scanner:
    """Reads each known place's history after its own watermark, which nothing else moves."""

    def __init__(self, database: Database, add: Add) -> None:
        """`add` stores one message in a transaction; False when it was there."""
        self._database = database
        self._add = add

    async def scan(self, courier: Courier, *, all_places: bool) -> int:
        """The number of messages that had been missed. A place that cannot be read is read the next time.

        Without `all_places`, those are left out in which nothing is newer as far as the platform's library knows: true
        at a new connection, but it hears nothing of what no event told later.
        """
        places = await self._database.read(list_scans, courier.name, datetime.now(UTC))
        found = 0
        for place in places:
            try:
                found += await self._scan_place(courier, place, all_places)
            except DeliveryFailed as error:
                log.info("a history was not read", channel=place.channel, reason=str(error))
        if found:
            log.info("messages were found that no event had told", platform=courier.name, count=found)
        return found

    async def _scan_place(self, courier: Courier, place: Watermark, always: bool) -> int:
        key = ConversationKey(courier.name, place.workspace, place.channel, place.thread)
        upto, found = place.verified_upto, 0
        more = always or await courier.is_newer(key, upto)
        while more:
            page = await courier.read_history(key, place.private, upto)
            found += await self._database.write(self._store, place.id, page.messages, page.verified_upto)
            more = page.more and page.verified_upto != upto
            upto = page.verified_upto
        return found

    def _store(
        self, tx: Session, scan_id: int, messages: Sequence[IncomingMessage], verified_upto: str
    ) -> int:
        added = [self._add(tx, message) for message in messages]
        advance_scan(tx, scan_id, verified_upto)
        return sum(added)
