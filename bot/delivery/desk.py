"""Delivery as the platforms see it: hand in what was said, say when you are connected, and the rest is done."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.delivery.courier import Courier
from bot.delivery.scan import Scanner
from bot.delivery.worker import Worker
from storage.database import Database, Session
from storage.errors import StorageError
from storage.inbox import Received, add_received, cancel_received, edit_received, wake_received
from storage.scans import add_scan

log = structlog.get_logger()

THREAD_DAYS = 3
"""How long a thread is looked at after the last word to the bot in it."""
CHANNEL_DAYS = 365


class Delivery:
    """The inbox's door, the scans, and the worker behind them."""

    def __init__(self, database: Database, worker: Worker, *, scan_seconds: float) -> None:
        self._database = database
        self._worker = worker
        self._scan_seconds = scan_seconds
        self._scanner = Scanner(database, self._add)
        self._couriers: dict[PlatformName, Courier] = {}
        self._connections: Counter[PlatformName] = Counter()
        self._watched: dict[ConversationKey, datetime] = {}
        self._missed = asyncio.Event()

    async def receive(self, message: IncomingMessage, *, rest_seconds: float = 0.0) -> None:
        """Store it; when this returns, it may be acknowledged. Raises `StorageError`: then it must not be.

        `rest_seconds` keeps the answer back where the acknowledgement must come first; see `acknowledged`.
        """
        try:
            async with self._database.transaction() as tx:
                await self._add(tx, message, rest_seconds)
        except StorageError:
            self._watched.clear()  # what was to be looked at was not stored either
            self._missed.set()
            raise
        self._worker.something_new.set()

    async def acknowledged(self, message: IncomingMessage) -> None:
        """Its answer need not be kept back any longer."""
        place = message.conversation
        async with self._database.transaction() as tx:
            await wake_received(tx, place.platform, place.workspace, place.channel, message.message_id)
        self._worker.something_new.set()

    async def edited(self, place: ConversationKey, message_id: str, text: str) -> None:
        """Somebody changed a message: if its answer has not begun, the new words count."""
        async with self._database.transaction() as tx:
            await edit_received(tx, place.platform, place.workspace, place.channel, message_id, text)

    async def deleted(self, place: ConversationKey, message_id: str) -> None:
        """Somebody deleted a message: if its answer has not begun, there will be none."""
        async with self._database.transaction() as tx:
            await cancel_received(tx, place.platform, place.workspace, place.channel, message_id)

    async def watch(self, places: Iterable[tuple[ConversationKey, bool, str]]) -> None:
        """Look at these places from now on: each with whether it is private, and the id to begin after."""
        new = [place for place in places if self._is_due(place[0])]
        if not new:
            return
        try:
            async with self._database.transaction() as tx:
                for key, private, begin_after in new:
                    await self._watch(tx, key, private, begin_after)
        except StorageError:
            self._watched.clear()  # nothing was stored
            raise

    def connecting(self, name: PlatformName) -> None:
        """Its events come in, and what was missed before them is not known yet: nothing is answered meanwhile."""
        self._connections[name] += 1
        self._worker.pause(name)

    async def connected(self, courier: Courier) -> None:
        """A platform's events come in from now on: read what was missed before, then answer, in order.

        Where a newer connection is made meanwhile, its own scan decides when.
        """
        self.connecting(courier.name)
        connection = self._connections[courier.name]
        self._couriers[courier.name] = courier
        try:
            await self._scanner.scan(courier)
        except Exception:  # whatever it is: what is known can be answered, and the rest is read again
            log.exception("what was missed could not be read", platform=courier.name)
            self._missed.set()
        if connection == self._connections[courier.name]:
            self._worker.serve(courier)

    async def run(self) -> None:
        """Answer, and look again for what no event told, until cancelled."""
        looking = asyncio.create_task(self._keep_scanning())
        try:
            await self._worker.run()
        finally:
            looking.cancel()

    async def _keep_scanning(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._missed.wait(), self._scan_seconds)
                await asyncio.sleep(1)  # the database may be back then
            except TimeoutError:
                pass
            self._missed.clear()
            for courier in list(self._couriers.values()):
                try:
                    if await self._scanner.scan(courier):
                        self._worker.something_new.set()
                except StorageError as error:
                    log.error("a history was not stored", platform=courier.name, reason=str(error))
                    self._missed.set()

    async def _add(self, tx: Session, message: IncomingMessage, rest_seconds: float = 0.0) -> bool:
        place = message.conversation
        if self._is_due(place):
            await self._watch(tx, place, message.private, just_before(message))
            if place.thread:
                channel = ConversationKey(place.platform, place.workspace, place.channel)
                await self._watch(tx, channel, False, just_before(message))
        now = datetime.now(UTC)
        rest_until = now + timedelta(seconds=rest_seconds) if rest_seconds else None
        return await add_received(tx, _received(message), now, rest_until=rest_until)

    def _is_due(self, place: ConversationKey) -> bool:
        """Whether a place is new here, or its time is to be prolonged."""
        return self._watched.get(place, datetime.min.replace(tzinfo=UTC)) < datetime.now(UTC)

    async def _watch(self, tx: Session, place: ConversationKey, private: bool, begin_after: str) -> None:
        now = datetime.now(UTC)
        days = THREAD_DAYS if place.thread else CHANNEL_DAYS
        await add_scan(
            tx,
            platform=place.platform,
            workspace=place.workspace,
            channel=place.channel,
            thread=place.thread,
            private=private,
            begin_after=begin_after,
            active_until=now + timedelta(days=days),
        )
        self._watched[place] = now + timedelta(days=days / 3)


def just_before(message: IncomingMessage) -> str:
    """The place in a history before which everything is taken as known: right before the message."""
    if message.conversation.platform == "slack":
        commanded = message.via == "command"
        moment = message.created_at.timestamp() if commanded else message.message_id
        return f"{Decimal(moment) - Decimal('0.000001'):.6f}"
    return str(int(message.message_id) - 1)


def _received(message: IncomingMessage) -> Received:
    return Received(
        platform=message.conversation.platform,
        workspace=message.conversation.workspace,
        channel=message.conversation.channel,
        thread=message.conversation.thread,
        message_id=message.message_id,
        client_msg_id=message.client_msg_id,
        author_id=message.author.id,
        author_name=message.author.name,
        author_is_bot=message.author.is_bot,
        text=message.text,
        via=message.via,
        private=message.private,
        reply_to=message.reply_to,
        created_at=message.created_at,
        token=message.token,
    )
