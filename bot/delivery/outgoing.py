"""Sends the parts of a committed answer, one after another, and finds out what became of those in doubt."""

import asyncio
from datetime import UTC, datetime

import structlog

from bot.chat import IncomingMessage
from bot.delivery.courier import Courier, InDoubt, NotApplied, Post, Refused
from bot.errors import DeliveryFailed
from storage.database import Database
from storage.inbox import Claim
from storage.outbox import (
    Part,
    conclude_answer,
    list_parts,
    mark_failed,
    mark_not_posted,
    mark_pending,
    mark_posted,
    mark_sending,
    mark_sent,
)

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
PATIENCE = 5.0
"""A longer wait is not waited for here: the message rests, and its place serves another conversation."""


class Later(Exception):
    """The next try comes after `seconds`; nothing is lost meanwhile."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Outgoing:
    """The way of one answer from the outbox to people."""

    def __init__(self, database: Database, courier: Courier, claim: Claim, question: IncomingMessage) -> None:
        self._database = database
        self._courier = courier
        self._claim = claim
        self._question = question
        self._tries = 0
        self.concluded = False

    async def send(self, stopping: asyncio.Event, *, marked: int | None = None) -> bool:
        """Send what is not sent yet and close the message; False when `stopping` came first. Raises `Later`.

        `marked` is the part that was marked as `sending` with the commit of the answer, and not sent yet.
        """
        if marked is not None:
            parts = await self.parts()
            first = next(part for part in parts if part.part == marked)
            await self._try(first, parts, marked=True)
        while not self.concluded:
            if stopping.is_set():
                return False
            parts = await self.parts()
            todo = next((part for part in parts if _is_open(part)), None)
            if todo is None:
                async with self._database.transaction() as tx:
                    await conclude_answer(tx, self._claim)
                return True
            await self._try(todo, parts)
        return True

    async def parts(self) -> list[Part]:
        async with self._database.reading() as session:
            return await list_parts(session, self._claim)

    async def resolve(self) -> list[Part]:
        """Before the answer is written again: which of the early posts stand there? Raises `Later`."""
        while doubtful := [part for part in await self.parts() if _in_doubt(part)]:
            await self._try(doubtful[0], await self.parts())
        return await self.parts()

    async def _try(self, part: Part, parts: list[Part], *, marked: bool = False) -> None:
        try:
            await self._step(part, parts, marked)
            self._tries = 0
        except Refused as error:
            log.warning("a part of an answer was refused", part=part.part, reason=str(error))
            async with self._database.transaction() as tx:
                await mark_failed(tx, self._claim, part, str(error))
        except NotApplied as error:
            pause = max(error.retry_after, self._pause())
            if part.op == "post" and (marked or not _in_doubt(part)):  # a search that failed leaves the doubt
                async with self._database.transaction() as tx:
                    await mark_pending(tx, self._claim, part, str(error))
            await _rest(pause, error)
        except InDoubt as error:
            await _rest(self._pause(), error)

    async def _step(self, part: Part, parts: list[Part], marked: bool) -> None:
        if marked:
            await self._post(part, parts)
        elif _in_doubt(part):
            await self._resolve(part, parts)
        elif part.op == "post":
            async with self._database.transaction() as tx:
                await mark_sending(tx, self._claim, part, datetime.now(UTC))
            await self._post(part, parts)
        else:
            await self._change(part, parts)

    async def _post(self, part: Part, parts: list[Part]) -> None:
        external_id = await self._courier.post(self._as_post(part, parts))
        await self._note_sent(part, parts, external_id)

    async def _note_sent(self, part: Part, parts: list[Part], external_id: str | None) -> None:
        """With the last part, the message is closed."""
        last = not any(_is_open(other) for other in parts if other.id != part.id)
        async with self._database.transaction() as tx:
            await mark_sent(tx, self._claim, part, external_id)
            if last:
                await conclude_answer(tx, self._claim)
        self.concluded = last

    async def _change(self, part: Part, parts: list[Part]) -> None:
        """An edit or a removal of what stands there; it may be repeated, so it is never in doubt."""
        if part.external_id is not None:
            if part.op == "edit":
                await self._courier.edit(self._question, part.external_id, part.body, part.part)
            else:
                await self._courier.delete(self._question, part.external_id)
        await self._note_sent(part, parts, part.external_id)

    async def _resolve(self, part: Part, parts: list[Part]) -> None:
        found = await self._courier.find(self._as_post(part, parts))
        async with self._database.transaction() as tx:
            if found is None:
                await mark_not_posted(tx, self._claim, part)
            else:
                await mark_posted(tx, self._claim, part, found)

    def _as_post(self, part: Part, parts: list[Part]) -> Post:
        before = [other.external_id for other in parts if other.part < part.part and other.external_id]
        return Post(
            question=self._question,
            part=part.part,
            text=part.body,
            nonce=part.nonce,
            first_try_at=part.first_try_at or datetime.now(UTC),
            previous=before[-1] if before else None,
            last=part.id == parts[-1].id,
        )

    def _pause(self) -> float:
        self._tries += 1
        return float(min(FIRST_PAUSE * 2 ** (self._tries - 1), LONGEST_PAUSE))


def _is_open(part: Part) -> bool:
    return part.state in ("pending", "sending")


def _in_doubt(part: Part) -> bool:
    return part.state == "sending" and part.external_id is None


async def _rest(seconds: float, error: DeliveryFailed) -> None:
    log.info("a part of an answer is tried again", reason=str(error), seconds=seconds)
    if seconds > PATIENCE:
        raise Later(seconds, str(error)) from error
    await asyncio.sleep(seconds)
