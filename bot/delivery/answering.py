"""From a claimed message to a committed answer: decide, generate while people watch, commit."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import structlog

from bot.answer import Answer, Answerer, Question, record_question, sentence_for
from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage, RunCommand, read_command
from bot.delivery.courier import Courier
from bot.delivery.early import EarlyParts
from bot.delivery.outgoing import Outgoing
from bot.splitting import split_text
from bot.streaming import Preview
from model.errors import EngineDied
from storage.conversations import find_conversation, find_or_add_conversation, record_turn
from storage.database import Database
from storage.errors import StorageError
from storage.inbox import Claim, close_received, record_decision
from storage.outbox import commit_answer
from storage.tables import Decision

log = structlog.get_logger()

MOST_ATTEMPTS = 5
APOLOGY = (
    "I am sorry: I tried several times to answer this, and failed. The log of my machine has the details."
)


@dataclass(frozen=True, slots=True)
class Committed:
    """An answer whose text is fixed. `marked` is the part that is marked as `sending` already."""

    marked: int | None


class Answering:
    """What is done with a claim before its answer is sent."""

    def __init__(
        self,
        database: Database,
        answerer: Answerer,
        run_command: RunCommand,
        *,
        edit_seconds: float,
        answer_window: timedelta,
    ) -> None:
        self._database = database
        self._answerer = answerer
        self._run_command = run_command
        self._edit_seconds = edit_seconds
        self._answer_window = answer_window

    async def answer(self, claim: Claim, question: IncomingMessage, courier: Courier) -> Committed | None:
        """What was committed; None when the message is closed without an answer. Raises for another attempt."""
        if claim.attempts > MOST_ATTEMPTS:
            log.error("a message is given up", message=question.message_id, attempts=claim.attempts)
            return await self._commit(claim, question, courier, APOLOGY, decision="dead")
        decision, stored = await self._decide(claim, question)
        if decision != "answer":
            return None
        command = read_command(question)
        if command is not None:
            outcome = await self._outcome(command)
            return await self._commit(claim, question, courier, outcome, decision="answer")
        assert stored is not None
        return await self._generate(claim, question, stored, courier)

    async def _decide(self, claim: Claim, question: IncomingMessage) -> tuple[Decision, Question | None]:
        """From the stored row alone, and once: it is recorded, and holds for later tries. All but an answer closes
        the message."""
        async with self._database.transaction() as tx:
            where = asdict(question.conversation)
            known = await find_conversation(tx, **where)
            decision = claim.decision or self._decision(question, takes_part=known is not None)
            stored: Question | None = None
            if decision == "answer" and claim.question_id is not None:
                conversation = await find_or_add_conversation(tx, **where, private=question.private)
                stored = Question(conversation, claim.question_id)
            elif decision == "answer" and read_command(question) is None:
                stored = await record_question(tx, question)
                decision = "ignore" if stored is None else decision
            await record_decision(tx, claim, decision, stored.message_id if stored else None)
            if decision != "answer":
                await close_received(tx, claim, "done")
        return decision, stored

    def _decision(self, question: IncomingMessage, *, takes_part: bool) -> Decision:
        """In a thread that Parley takes no part in, nobody spoke to it."""
        if question.author.is_bot or (question.via == "thread" and not takes_part):
            return "ignore"
        if datetime.now(UTC) - question.created_at > self._answer_window:
            return "expired"
        return "answer"

    async def _generate(
        self, claim: Claim, question: IncomingMessage, stored: Question, courier: Courier
    ) -> Committed:
        parts = await Outgoing(self._database, courier, claim, question).resolve()
        early = EarlyParts(self._database, courier, claim, question, parts)
        preview = Preview(early, edit_seconds=self._edit_seconds)
        answer = Answer()
        await preview.start()
        try:
            await self._answerer.answer(question, stored, answer, preview)
        except (EngineDied, StorageError):
            raise
        except Exception as error:
            answer.error = sentence_for(error)
            await preview.fail(answer.error)
        finally:
            bodies = await preview.finish()
        async with self._database.transaction() as tx:
            record = self._answerer.turn_of(stored, answer)
            answer_id = await record_turn(tx, record, answer.text.strip() or None, ())
            marked = await commit_answer(
                tx,
                claim,
                bodies,
                decision="answer",
                answer_id=answer_id,
                shown=early.shown,
                now=datetime.now(UTC),
            )
        return Committed(marked)

    async def _commit(
        self, claim: Claim, question: IncomingMessage, courier: Courier, text: str, *, decision: Decision
    ) -> Committed:
        """An answer that no model wrote."""
        bodies: Sequence[str] = split_text(text, courier.limit(question))
        async with self._database.transaction() as tx:
            now = datetime.now(UTC)
            marked = await commit_answer(
                tx, claim, bodies, decision=decision, answer_id=None, shown={}, now=now
            )
        return Committed(marked)

    async def _outcome(self, command: CommandCall) -> str:
        try:
            return await self._run_command(command)
        except StorageError:
            raise
        except Exception as error:
            return sentence_for(error)


def to_message(claim: Claim) -> IncomingMessage:
    """A stored row as the core sees it."""
    row = claim.received
    return IncomingMessage(
        conversation=ConversationKey(row.platform, row.workspace, row.channel, row.thread),
        message_id=row.message_id,
        author=Author(row.author_id, row.author_name, row.author_is_bot),
        text=row.text,
        created_at=row.created_at,
        via=row.via,
        private=row.private,
        reply_to=row.reply_to,
        client_msg_id=row.client_msg_id,
        token=row.token,
    )
