"""Works through the inbox: claims what may be answered, and sees each message to its end."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from bot.chat import IncomingMessage, PlatformName
from bot.delivery.answering import Answering
from bot.delivery.courier import Courier
from bot.delivery.deciding import to_message
from bot.delivery.outgoing import Later, Outgoing
from storage.database import Database, Session
from storage.errors import ClaimLost, StorageError
from storage.inbox import (
    Claim,
    claim_several,
    close_received,
    is_any_due,
    record_decision,
    release_claim,
    renew_claim,
)

log = structlog.get_logger()

LAST_SECONDS = 10.0
"""How long a send that is on its way may take while Parley is being stopped."""
LONGEST_REST = 60.0
MOST_AT_ONCE = 8
"""Claims in one transaction: where many wait, the next one need not wait for the disk each time."""
POLL_SECONDS = 1.0
"""How often to look for what another process stored, where the database is shared."""


class Worker:
    """Answers in order within a conversation, and `parallel` conversations at once."""

    def __init__(
        self,
        database: Database,
        answering: Answering,
        *,
        owner: str,
        lease_seconds: float,
        parallel: int,
        restored: bool = False,
    ) -> None:
        """`restored`: the database is an old one, so what it takes for unanswered may have been answered since."""
        self._database = database
        self._answering = answering
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._restored = restored
        self._parallel = parallel
        self._couriers: dict[PlatformName, Courier] = {}
        self._serving: set[PlatformName] = set()
        self._work: dict[asyncio.Task[None], Claim] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.something_new = asyncio.Event()

    def serve(self, courier: Courier) -> None:
        """Answer on this platform from now on."""
        self._couriers[courier.name] = courier
        self._serving.add(courier.name)
        self.something_new.set()

    def pause(self, name: PlatformName) -> None:
        """Begin no further answers there. Those that are on their way go on."""
        self._serving.discard(name)

    async def run(self) -> None:
        """Until cancelled; then what is being sent is finished, and the rest is left for the next start."""
        renewing = asyncio.create_task(self._keep_claims())
        try:
            while True:
                for claim in await self._next_claims():
                    task = asyncio.create_task(self._handle(claim))
                    self._work[task] = claim
                    task.add_done_callback(self._ended)
        finally:
            await self._wind_down()
            renewing.cancel()

    async def _next_claims(self) -> list[Claim]:
        while True:
            self.something_new.clear()
            try:
                if claims := await self._claim(tuple(self._serving), self._parallel - len(self._work)):
                    return claims
            except StorageError as error:
                log.error("the inbox cannot be read", reason=str(error))
            with suppress(TimeoutError):
                # Python 3.11's `wait_for` may swallow a cancellation.
                async with asyncio.timeout(POLL_SECONDS):
                    await self.something_new.wait()

    async def _claim(self, platforms: tuple[PlatformName, ...], most: int) -> list[Claim]:
        now = datetime.now(UTC)
        if not platforms or most < 1 or not await self._database.read(is_any_due, platforms, now):
            return []
        claiming = asyncio.create_task(
            self._database.write(
                claim_several,
                min(most, MOST_AT_ONCE),
                owner=self._owner,
                platforms=platforms,
                now=now,
                lease_seconds=self._lease_seconds,
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:  # what was just being claimed is given back
            with suppress(StorageError):
                for claim in await claiming:
                    await self._release(claim, 0.0, None)
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.pop(task, None)
        self._sending.discard(task)
        self.something_new.set()  # what waited for this conversation may be next

    async def _handle(self, claim: Claim) -> None:
        try:
            await self._see_through(claim)
        except ClaimLost as error:
            log.warning("a message went to another process", reason=str(error))
        except asyncio.CancelledError:
            await self._release(claim, 0.0, None)
            raise
        except Later as later:
            await self._release(claim, later.seconds, str(later))
        except StorageError as error:
            message = claim.received.message_id
            log.error("an answer waits for the database", message=message, reason=str(error))
            await self._release(claim, 1.0, None)
        except Exception as error:
            log.exception("a message could not be answered yet", message=claim.received.message_id)
            await self._release(claim, min(2.0**claim.attempts, LONGEST_REST), repr(error))

    async def _see_through(self, claim: Claim) -> None:
        courier = self._couriers[claim.received.platform]
        question = await courier.describe(to_message(claim.received))
        if self._restored and await self._close_if_answered(claim, question, courier):
            return
        committed = None
        if not claim.answered:
            committed = await self._answering.answer(claim, question, courier)
            if committed is None:
                return
        if (task := asyncio.current_task()) is not None:
            self._sending.add(task)
        outgoing = Outgoing(self._database, courier, claim, question)
        if not await outgoing.send(self._stopping, committed):
            await self._release(claim, 0.0, None)

    async def _close_if_answered(self, claim: Claim, question: IncomingMessage, courier: Courier) -> bool:
        """Of an answer that has begun to be sent, its own marker tells; of another, the history."""
        parts = await Outgoing(self._database, courier, claim, question).parts()
        begun = any(part.external_id or part.state == "sending" for part in parts)
        if begun or not await courier.is_answered(question):
            return False
        log.info("a message was answered after the backup was made", message=question.message_id)

        def close(tx: Session) -> None:
            record_decision(tx, claim, "answer", claim.question_id)
            close_received(tx, claim, "done", "answered after the backup was made")

        await self._database.write(close)
        return True

    async def _release(self, claim: Claim, seconds: float, error: str | None) -> None:
        """Where the database does not take it, the claim ends with its lease. Nothing happens to one that has ended."""
        rest_until = datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None
        try:
            await self._database.write(release_claim, claim, rest_until=rest_until, error=error)
        except ClaimLost:
            pass  # its message was closed just before we were cancelled, or is another process's
        except StorageError as failure:
            log.warning("a message is taken up again when its lease ends", reason=str(failure))

    async def _keep_claims(self) -> None:
        """Renew the leases of all that is under way; work whose claim is lost ends."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            for task, claim in list(self._work.items()):
                until = datetime.now(UTC) + timedelta(seconds=self._lease_seconds)
                try:
                    await self._database.write(renew_claim, claim, until)
                except ClaimLost:
                    if task in self._work:
                        task.cancel()
                except StorageError as error:
                    log.warning("a claim could not be renewed", reason=str(error))

    async def _wind_down(self) -> None:
        self._stopping.set()
        for task in set(self._work) - self._sending:
            task.cancel()
        if self._work:
            await asyncio.wait(set(self._work), timeout=LAST_SECONDS)
        for task in set(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
