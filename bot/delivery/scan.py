"""Reads what was said while nobody listened, or what the platform never told, and stores it in the inbox."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import structlog

from bot.chat import ConversationKey, IncomingMessage
from bot.delivery.courier import Courier
from bot.errors import DeliveryFailed
from storage.database import Database
from storage.scans import Watermark, advance_scan, list_scans

log = structlog.get_logger()

Add = Callable[..., Awaitable[bool]]


class Scanner:
    """Reads each known place's history after its own watermark, which nothing else moves."""

    def __init__(self, database: Database, add: Add) -> None:
        """`add` stores one message in a transaction; False when it was there."""
        self._database = database
        self._add = add

    async def scan(self, courier: Courier) -> int:
        """The number of messages that had been missed. A place that cannot be read is read the next time."""
        async with self._database.reading() as session:
            places = await list_scans(session, courier.name, datetime.now(UTC))
        found = 0
        for place in places:
            try:
                found += await self._scan_place(courier, place)
            except DeliveryFailed as error:
                log.info("a history was not read", channel=place.channel, reason=str(error))
        if found:
            log.info("messages were found that no event had told", platform=courier.name, count=found)
        return found

    async def _scan_place(self, courier: Courier, place: Watermark) -> int:
        key = ConversationKey(courier.name, place.workspace, place.channel, place.thread)
        upto, found, more = place.verified_upto, 0, await courier.is_newer(key, place.verified_upto)
        while more:
            page = await courier.read_history(key, place.private, upto)
            found += await self._store(place.id, page.messages, page.verified_upto)
            more = page.more and page.verified_upto != upto
            upto = page.verified_upto
        return found

    async def _store(self, scan_id: int, messages: Sequence[IncomingMessage], verified_upto: str) -> int:
        async with self._database.transaction() as tx:
            added = [await self._add(tx, message) for message in messages]
            await advance_scan(tx, scan_id, verified_upto)
        return sum(added)
