"""Delivery as the platforms see it: hand in what was said, say when you are connected, and the rest is done."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.delivery.courier import Courier
from bot.delivery.deciding import LONGEST_BURST
from bot.delivery.scan import Scanner
from bot.delivery.worker import Worker
from storage.bursts import delay_earlier
from storage.conversations import change_said, find_said
from storage.database import Database, Session
from storage.errors import StorageError
from storage.inbox import Received, add_received, cancel_received, edit_received, wake_received
from storage.outbox import retract_answer
from storage.scans import add_scan

log = structlog.get_logger()

LONGEST_BEGINNING = 80
_ENDS = (".", "?", "!", "…", "。", "？", "！", "~", ")", "）", "```")
RETRACT_SECONDS, RETRACT_TRIES = 1.0, 600
"""How often, and how many times, to look whether the answer to a deleted message has arrived."""
THREAD_DAYS = 3
"""How long a thread is looked at after the last word to the bot in it."""
CHANNEL_DAYS = 365
MOST_WATCHED = 10_000
"""Places that are remembered as looked at. Of more, all are forgotten, and each is written again when it is seen."""
MOST_UNSTORED = 1000
"""Messages that wait in memory for the database. Of more, the scans find those in places that are known."""


class Delivery:
    """The inbox's door, the scans, and the worker behind them."""

    def __init__(
        self, database: Database, worker: Worker, *, scan_seconds: float, burst_seconds: float = 0.0
    ) -> None:
        """`burst_seconds`: what looks unfinished waits so long for what the person says next."""
        self._database = database
        self._worker = worker
        self._scan_seconds = scan_seconds
        self._burst = timedelta(seconds=burst_seconds)
        self._scanner = Scanner(database, self._add)
        self._couriers: dict[PlatformName, Courier] = {}
        self._connections: Counter[PlatformName] = Counter()
        self._watched: dict[ConversationKey, datetime] = {}
        self._missed = asyncio.Event()
        self._behind: set[PlatformName] = set()
        """Where something could not be stored: nothing is answered before it has been."""
        self._retracting: set[asyncio.Task[None]] = set()
        self._unstored: deque[IncomingMessage] = deque(maxlen=MOST_UNSTORED)

    async def receive(self, message: IncomingMessage, *, rest_seconds: float = 0.0) -> None:
        """Store it; when this returns, it may be acknowledged. Raises `StorageError`: then it must not be.

        `rest_seconds` keeps the answer back where the acknowledgement must come first; see `acknowledged`.
        """
        try:
            await self._database.write(self._add, message, rest_seconds)
        except StorageError:
            if message.via != "command":  # whoever gave it is told that it failed
                self._unstored.append(message)
            self._fall_behind(message.conversation.platform)
            raise
        self._note_watched(places_of(message))
        self._worker.something_new.set()

    async def acknowledged(self, message: IncomingMessage) -> None:
        """Its answer need not be kept back any longer."""
        place = message.conversation
        await self._database.write(
            wake_received, place.platform, place.workspace, place.channel, message.message_id
        )
        self._worker.something_new.set()

    async def edited(
        self, place: ConversationKey, message_id: str, text: str, *, readable: str | None = None
    ) -> None:
        """Somebody changed a message: an answer that has not begun, or comes later, reads the new words.

        `readable` is `text` as people see it, where `Courier.describe` would have to make it so.
        """
        await self._database.write(_edit, place, message_id, text, text if readable is None else readable)

    async def deleted(self, place: ConversationKey, message_id: str) -> None:
        """Somebody deleted a message: there will be no answer, and one that stands there is taken away."""
        if not await self._database.write(_delete, place, message_id):
            retracting = asyncio.create_task(self._retract_later(place, message_id))
            self._retracting.add(retracting)
            retracting.add_done_callback(self._retracting.discard)
        self._worker.something_new.set()

    async def _retract_later(self, place: ConversationKey, message_id: str) -> None:
        """Its answer is on its way: it is taken away when it has arrived."""
        for _ in range(RETRACT_TRIES):
            await asyncio.sleep(RETRACT_SECONDS)
            with suppress(StorageError):
                if await self._database.write(_delete, place, message_id):
                    self._worker.something_new.set()
                    return

    async def watch(self, places: Iterable[tuple[ConversationKey, bool, str]]) -> None:
        """Look at these places from now on: each with whether it is private, and the id to begin after."""
        new = [place for place in places if self._is_due(place[0])]
        if not new:
            return
        await self._database.write(self._watch_all, new)
        self._note_watched(key for key, _, _ in new)

    def connecting(self, name: PlatformName) -> None:
        """Its events come in, and what was missed before them is not known yet: nothing is answered meanwhile."""
        self._connections[name] += 1
        self._worker.pause(name)

    async def connected(self, courier: Courier) -> None:
        """A platform's events come in from now on: read what was missed before, then answer, in order.

        Where a newer connection is made meanwhile, its own scan decides when.
        """
        self.connecting(courier.name)
        self._couriers[courier.name] = courier
        await self._catch_up(courier, serve=True, all_places=False)

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
                async with asyncio.timeout(self._scan_seconds):
                    await self._missed.wait()
                await asyncio.sleep(1)  # the database may be back then
            except TimeoutError:
                pass
            self._missed.clear()
            for courier in list(self._couriers.values()):
                await self._catch_up(courier, serve=courier.name in self._behind, all_places=True)

    async def _catch_up(self, courier: Courier, *, serve: bool, all_places: bool) -> None:
        """Store what is missing. With `serve`, answers are kept back until that is done, and begin then."""
        name, connection = courier.name, self._connections[courier.name]
        self._behind.discard(name)
        try:
            await self._store_what_was_heard()
            if await self._scanner.scan(courier, all_places=all_places):
                self._worker.something_new.set()
        except StorageError as error:
            log.error("a history was not stored", platform=name, reason=str(error))
            self._behind |= {name} if serve else set()
            self._missed.set()
        except Exception:  # whatever it is: what is known can be answered, and the rest is read again
            log.exception("what was missed could not be read", platform=name)
            if serve:
                self._missed.set()
        if serve and name not in self._behind and connection == self._connections[name]:
            self._worker.serve(courier)

    async def _store_what_was_heard(self) -> None:
        """Not every place is one that a scan reads: a person's first direct message opens one."""
        while self._unstored:
            message = self._unstored[0]
            await self._database.write(self._add, message)
            with suppress(ValueError):
                self._unstored.remove(message)

    def _fall_behind(self, name: PlatformName) -> None:
        """Something is not stored. What comes later is kept back, for it would be answered first."""
        self._behind.add(name)
        self._worker.pause(name)
        self._missed.set()

    def _add(self, tx: Session, message: IncomingMessage, rest_seconds: float = 0.0) -> bool:
        if self._is_due(message.conversation):
            for place in places_of(message):
                private = message.private and place == message.conversation
                self._watch(tx, place, private, just_before(message))
        now, received = datetime.now(UTC), _received(message)
        rest = timedelta(seconds=rest_seconds)
        if self._burst and message.via not in ("command", "button"):
            delay_earlier(tx, received, now + self._burst, at_most=LONGEST_BURST)
            rest = self._burst if looks_unfinished(message.text) else rest
        return add_received(tx, received, now, rest_until=now + rest if rest else None)

    def _is_due(self, place: ConversationKey) -> bool:
        """Whether a place is new here, or its time is to be prolonged."""
        return self._watched.get(place, datetime.min.replace(tzinfo=UTC)) < datetime.now(UTC)

    def _watch_all(self, tx: Session, places: Iterable[tuple[ConversationKey, bool, str]]) -> None:
        for key, private, begin_after in places:
            self._watch(tx, key, private, begin_after)

    def _watch(self, tx: Session, place: ConversationKey, private: bool, begin_after: str) -> None:
        now = datetime.now(UTC)
        add_scan(
            tx,
            platform=place.platform,
            workspace=place.workspace,
            channel=place.channel,
            thread=place.thread,
            private=private,
            begin_after=begin_after,
            active_until=now + timedelta(days=_days(place)),
        )

    def _note_watched(self, places: Iterable[ConversationKey]) -> None:
        """Only when it is committed: another message of the place may be stored meanwhile, and this one may not."""
        now = datetime.now(UTC)
        for place in places:
            if len(self._watched) >= MOST_WATCHED:
                self._watched.clear()
            self._watched[place] = now + timedelta(days=_days(place) / 3)


def _edit(tx: Session, place: ConversationKey, message_id: str, text: str, readable: str) -> None:
    where = (place.platform, place.workspace, place.channel, message_id)
    if not edit_received(tx, *where, text):
        change_said(tx, *where, readable)


def _delete(tx: Session, place: ConversationKey, message_id: str) -> bool:
    """False where its answer is being written or sent just now."""
    where = (place.platform, place.workspace, place.channel, message_id)
    if cancel_received(tx, *where):
        return True
    question_id = find_said(tx, *where)
    return question_id is None or retract_answer(tx, question_id)


def places_of(message: IncomingMessage) -> list[ConversationKey]:
    """Where to look from now on: always the channel first, so that no two transactions wait for each other."""
    place = message.conversation
    return [replace(place, thread=""), place] if place.thread else [place]


def _days(place: ConversationKey) -> int:
    return THREAD_DAYS if place.thread else CHANNEL_DAYS


def looks_unfinished(text: str) -> bool:
    """Whether somebody may well go on: a few words without an end."""
    return len(text) <= LONGEST_BEGINNING and not text.rstrip().endswith(_ENDS)


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
        category=message.category,
        author_roles=message.author.roles,
        author_manages=message.author.manages,
        author_moderates=message.author.moderates,
        attachments=[asdict(attachment) for attachment in message.attachments],
        action=message.press.action if message.press else None,
        target_id=message.press.target if message.press else None,
        candidate_id=message.press.candidate if message.press else None,
        reason=message.reason,
    )
