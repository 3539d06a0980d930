"""From a claimed message to a committed answer: decide, generate while people watch, commit."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from bot.answer import Answer, Answerer, Question, sentence_for
from bot.chat import (
    CommandCall,
    IncomingMessage,
    RunCommand,
)
from bot.choices.book import Books
from bot.commands.parse import read_command
from bot.delivery.courier import Courier
from bot.delivery.deciding import Decider
from bot.delivery.early import EarlyParts
from bot.delivery.outgoing import Outgoing
from bot.edit_budget import EditBudgets
from bot.splitting import split_text
from bot.streaming import Preview
from bot.writings import Writings
from model.errors import EngineDied
from storage.answers import list_candidates, show_candidate
from storage.conversations import record_attachments
from storage.database import Database, Session
from storage.errors import StorageError
from storage.inbox import Claim
from storage.outbox import Committed, commit_answer
from storage.tables import Decision
from storage.turns import TurnRecord, record_turn

log = structlog.get_logger()

MOST_ATTEMPTS = 5
STOPPED = "(Stopped.)"
APOLOGY = (
    "I am sorry: I tried several times to answer this, and failed. The log of my machine has the details."
)


class Answering:
    """What is done with a claim before its answer is sent."""

    def __init__(
        self,
        database: Database,
        answerer: Answerer,
        run_command: RunCommand,
        books: Books,
        writings: Writings,
        *,
        edit_seconds: float,
        answer_window: timedelta,
        burst_seconds: float = 0.0,
    ) -> None:
        """`burst_seconds`: what a person says within so long of what they said before belongs to it."""
        self._database = database
        self._answerer = answerer
        self._run_command = run_command
        self._books = books
        self._writings = writings
        self._remembering: set[asyncio.Task[None]] = set()
        self._budgets = EditBudgets(edit_seconds)
        self._decider = Decider(answer_window=answer_window, burst_seconds=burst_seconds)

    async def answer(self, claim: Claim, question: IncomingMessage, courier: Courier) -> Committed | None:
        """What was committed; None when the message is closed without an answer. Raises for another attempt."""
        if claim.attempts > MOST_ATTEMPTS:
            log.error("a message is given up", message=question.message_id, attempts=claim.attempts)
            return await self._commit(claim, question, courier, APOLOGY, decision="dead")
        book = await self._books.of(question.conversation)
        decided = await self._database.write(self._decider.decide, claim, question, book)
        if decided.refusal is not None:
            return await self._commit(claim, question, courier, decided.refusal, decision=decided.decision)
        if decided.decision != "answer":
            return None
        command = read_command(question)
        if command is not None:
            outcome = await self._outcome(command)
            return await self._commit(claim, question, courier, outcome, decision="answer")
        assert decided.question is not None
        if question.press is not None and question.press.action == "show":
            return await self._show_again(claim, question, decided.question, courier)
        return await self._generate(claim, question, decided.question, courier)

    async def _generate(
        self, claim: Claim, question: IncomingMessage, stored: Question, courier: Courier
    ) -> Committed:
        parts = await Outgoing(self._database, courier, claim, question).resolve()
        early = EarlyParts(self._database, courier, claim, question, parts)
        preview = Preview(early, self._budgets.of(str(question.conversation)))
        answer = Answer()
        await preview.start()
        try:
            await self._write(claim, question, stored, answer, preview)
        except (EngineDied, StorageError):
            raise
        except Exception as error:
            answer.error = sentence_for(error)
            await preview.fail(answer.error)
        finally:
            finished = await preview.finish()
        bodies: Sequence[str] = finished
        if answer.error is not None and question.press is not None:
            bodies = await self._keep_what_stood(stored, courier, question, answer.error)
        turn = self._answerer.turn_of(stored, answer)
        shown = early.shown
        if (
            courier.has_controls
        ):  # the first message loses the button that stops, and the last one gets its own
            shown = {part: text for part, text in shown.items() if 0 < part < len(bodies) - 1}
        committed = await self._database.write(_commit_generated, claim, bodies, shown, turn, answer)
        self._later(self._answerer.remember(stored, answer))
        return committed

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._remembering.add(task)
        task.add_done_callback(self._remembering.discard)

    async def _write(
        self, claim: Claim, question: IncomingMessage, stored: Question, answer: Answer, preview: Preview
    ) -> None:
        """Until its end, or until somebody stops it."""
        writing = asyncio.ensure_future(self._answerer.answer(question, stored, answer, preview))

        def stop() -> None:
            answer.cancelled = True
            writing.cancel()

        with self._writings.begin(claim.inbox_id, question.conversation, question.author.id, stop):
            try:
                await writing
            except asyncio.CancelledError:
                if not answer.cancelled:
                    raise
                await preview.fail(STOPPED)

    async def _keep_what_stood(
        self, stored: Question, courier: Courier, question: IncomingMessage, error: str
    ) -> Sequence[str]:
        """Another answer could not be written: the one before stays, and the error is said under it."""
        candidates = await self._database.read(list_candidates, stored.message_id)
        text = next((candidate.text for candidate in candidates if candidate.shown), "")
        return split_text(f"{text}\n\n({error})".lstrip(), courier.limit(question))

    async def _show_again(
        self, claim: Claim, question: IncomingMessage, stored: Question, courier: Courier
    ) -> Committed:
        """An earlier answer, in place of the one that stands there."""
        candidates = await self._database.read(list_candidates, stored.message_id)
        wanted = question.press.candidate if question.press else None
        found = next((candidate for candidate in candidates if candidate.id == wanted), candidates[-1])
        bodies = split_text(found.text, courier.limit(question))

        def commit(tx: Session) -> Committed:
            show_candidate(tx, stored.message_id, found.id)
            now = datetime.now(UTC)
            return commit_answer(tx, claim, bodies, decision="answer", answer_id=found.id, shown={}, now=now)

        return await self._database.write(commit)

    async def _commit(
        self, claim: Claim, question: IncomingMessage, courier: Courier, text: str, *, decision: Decision
    ) -> Committed:
        """An answer that no model wrote."""
        bodies: Sequence[str] = split_text(text, courier.limit(question))
        return await self._database.write(
            commit_answer, claim, bodies, decision=decision, answer_id=None, shown={}, now=datetime.now(UTC)
        )

    async def _outcome(self, command: CommandCall) -> str:
        try:
            return await self._run_command(command)
        except StorageError:
            raise
        except Exception as error:
            return sentence_for(error)


def _commit_generated(
    tx: Session,
    claim: Claim,
    bodies: Sequence[str],
    shown: Mapping[int, str],
    turn: TurnRecord,
    answer: Answer,
) -> Committed:
    answer_id = record_turn(tx, turn, answer.text.strip() or None, ())
    if answer.attachments:
        record_attachments(tx, turn.question_id, answer.attachments)
    if claim.received.action is not None and answer_id is not None:
        if answer.error is None:
            show_candidate(tx, turn.question_id, answer_id)
        else:
            answer_id = None
    now = datetime.now(UTC)
    return commit_answer(tx, claim, bodies, decision="answer", answer_id=answer_id, shown=shown, now=now)
