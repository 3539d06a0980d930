"""Sends the parts of a committed answer, one after another, and finds out what became of those in doubt."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from bot.chat import IncomingMessage
from bot.controls import Controls
from bot.delivery.courier import Courier, InDoubt, NotApplied, Post, Refused
from bot.errors import DeliveryFailed
from storage.answers import find_question, list_candidates
from storage.database import Database
from storage.inbox import Claim
from storage.outbox import (
    Committed,
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
        self._controls: Controls | None = None
        self.concluded = False

    async def send(self, stopping: asyncio.Event, committed: Committed | None = None) -> bool:
        """Send what is not sent yet and close the message; False when `stopping` came first. Raises `Later`.

        `committed` is the answer when it was committed just now: then its first part may be marked already.
        """
        answer_id = self._claim.answer_id if committed is None else committed.answer_id
        self._controls = await self._find_controls(answer_id)
        if committed is not None and committed.marked is not None:
            await self._try(committed.marked, committed.parts, marked=True)
        while not self.concluded:
            if stopping.is_set():
                return False
            parts = await self.parts()
            todo = next((part for part in parts if _is_open(part)), None)
            if todo is None:
                await self._database.write(conclude_answer, self._claim)
                return True
            await self._try(todo, parts)
        return True

    async def parts(self) -> list[Part]:
        return await self._database.read(list_parts, self._claim)

    async def resolve(self) -> list[Part]:
        """Before the answer is written again: which of the early posts stand there? Raises `Later`."""
        while True:
            parts = await self.parts()
            doubtful = next((part for part in parts if _in_doubt(part)), None)
            if doubtful is None:
                return parts
            await self._try(doubtful, parts)

    async def _try(self, part: Part, parts: Sequence[Part], *, marked: bool = False) -> None:
        try:
            await self._step(part, parts, marked)
            self._tries = 0
        except Refused as error:
            log.warning("a part of an answer was refused", part=part.part, reason=str(error))
            await self._database.write(mark_failed, self._claim, part, str(error))
        except NotApplied as error:
            pause = max(error.retry_after, self._pause())
            if part.op == "post" and (marked or not _in_doubt(part)):  # a search that failed leaves the doubt
                await self._database.write(mark_pending, self._claim, part, str(error))
            await _rest(pause, error)
        except InDoubt as error:
            await _rest(self._pause(), error)

    async def _step(self, part: Part, parts: Sequence[Part], marked: bool) -> None:
        if marked:
            await self._post(part, parts)
        elif _in_doubt(part):
            await self._resolve(part, parts)
        elif part.op == "post":
            await self._database.write(mark_sending, self._claim, part, datetime.now(UTC))
            await self._post(part, parts)
        else:
            await self._change(part, parts)

    async def _post(self, part: Part, parts: Sequence[Part]) -> None:
        external_id = await self._courier.post(self._as_post(part, parts))
        await self._note_sent(part, parts, external_id)

    async def _note_sent(self, part: Part, parts: Sequence[Part], external_id: str | None) -> None:
        """With the last part, the message is closed."""
        last = not any(_is_open(other) for other in parts if other.id != part.id)
        await self._database.write(mark_sent, self._claim, part, external_id, last=last)
        self.concluded = last

    async def _change(self, part: Part, parts: Sequence[Part]) -> None:
        """An edit or a removal of what stands there; it may be repeated, so it is never in doubt."""
        if part.external_id is not None:
            if part.op == "edit":
                await self._courier.edit(
                    self._question, part.external_id, part.body, part.part, self._controls_of(part, parts)
                )
            else:
                await self._courier.delete(self._question, part.external_id)
        await self._note_sent(part, parts, part.external_id)

    async def _resolve(self, part: Part, parts: Sequence[Part]) -> None:
        found = await self._courier.find(self._as_post(part, parts))
        if found is None:
            await self._database.write(mark_not_posted, self._claim, part)
        else:
            await self._database.write(mark_posted, self._claim, part, found)

    def _as_post(self, part: Part, parts: Sequence[Part]) -> Post:
        before = [other.external_id for other in parts if other.part < part.part and other.external_id]
        return Post(
            question=self._question,
            part=part.part,
            text=part.body,
            nonce=part.nonce,
            first_try_at=part.first_try_at or datetime.now(UTC),
            previous=before[-1] if before else None,
            last=part.id == parts[-1].id,
            controls=self._controls_of(part, parts),
        )

    async def _find_controls(self, answer_id: int | None) -> Controls | None:
        """Under what a model wrote. Most answers are the only one to their question, and nothing is to be looked up."""
        if answer_id is None or not self._courier.has_controls:
            return None
        if self._claim.received.action is None:
            return Controls(self._claim.inbox_id, candidates=(answer_id,), shown=answer_id)
        question_id = await self._database.read(find_question, self._claim.inbox_id)
        candidates = await self._database.read(list_candidates, question_id)
        ids = tuple(candidate.id for candidate in candidates)
        return Controls(self._claim.inbox_id, candidates=ids, shown=answer_id)

    def _controls_of(self, part: Part, parts: Sequence[Part]) -> Controls | None:
        """The last message that stays has them."""
        staying = [other for other in parts if other.op != "delete"]
        return self._controls if staying and part.id == staying[-1].id else None

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
