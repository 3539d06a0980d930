"""Answers at once, without an inbox: for a terminal, where nobody writes while Parley is away."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

import structlog

from bot.answer import Answer, Answerer, Question, record_question, sentence_for
from bot.chat import IncomingMessage, Reply
from bot.errors import DeliveryFailed
from storage.database import Database
from storage.turns import record_turn

log = structlog.get_logger()

STOPPED = "(This answer was stopped before its end.)"
LAST_SECONDS = 10.0
"""How long the end of an answer may take while Parley is being stopped."""


class Responder:
    """Answers messages one after another, as they are typed."""

    def __init__(self, answerer: Answerer, database: Database) -> None:
        self._answerer = answerer
        self._database = database

    async def respond(self, message: IncomingMessage, reply: Reply) -> None:
        """Answer `message` through `reply`; a message that was answered before is not answered again."""
        question = await self._database.write(record_question, message)
        if question is None:
            return
        answer = Answer()
        try:
            await reply.start()
            await self._answerer.answer(message, question, answer, reply)
        except BaseException as error:
            answer.cancelled = isinstance(error, asyncio.CancelledError)
            answer.error = STOPPED if answer.cancelled else sentence_for(error)
            if not isinstance(error, Exception):
                raise
        finally:
            await _to_the_end(self._conclude(question, answer, reply))

    async def _conclude(self, question: Question, answer: Answer, reply: Reply) -> None:
        """Show the end of the answer, or the sentence in its place, and record the turn in any case."""
        try:
            if answer.error is None:
                answer.shown_as = await reply.finish()
            else:
                await reply.fail(answer.error)
        except DeliveryFailed as error:
            log.warning("an answer could not be shown", reason=str(error))
            answer.error = answer.error or str(error)
        finally:
            record = self._answerer.turn_of(question, answer)
            await self._database.write(record_turn, record, answer.text.strip() or None, answer.shown_as)


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Finish `work` even if we are cancelled meanwhile, within `LAST_SECONDS`: what is on its way arrives."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(TimeoutError):
            await asyncio.wait_for(task, LAST_SECONDS)
        raise
