"""From a claimed message to a committed answer: decide, generate while people watch, commit."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from bot.answer import Answer, Answerer, Question, record_question, sentence_for
from bot.chat import (
    Attachment,
    Author,
    CommandCall,
    ConversationKey,
    IncomingMessage,
    Press,
    RunCommand,
)
from bot.choices.book import Book, Books, Spot
from bot.commands.parse import question_of, read_command
from bot.delivery.courier import Courier
from bot.delivery.early import EarlyParts
from bot.delivery.outgoing import Outgoing
from bot.edit_budget import EditBudgets
from bot.permissions import refusal
from bot.splitting import split_text
from bot.streaming import Preview
from bot.triggers import Heard, Judgement, habits_of, judge
from bot.writings import Writings
from model.errors import EngineDied
from storage.answers import find_answered, find_heir, list_candidates, show_candidate
from storage.conversations import (
    Conversation,
    TurnRecord,
    count_bot_turns,
    find_conversation,
    find_or_add_conversation,
    record_attachments,
    record_turn,
)
from storage.database import Database, Session
from storage.errors import StorageError
from storage.inbox import (
    Claim,
    Received,
    close_joined,
    close_received,
    list_following,
    record_decision,
)
from storage.outbox import Committed, adopt_parts, commit_answer
from storage.tables import Decision

log = structlog.get_logger()

LONGEST_BURST = timedelta(seconds=8)
"""How long a person may go on before what was said so far is answered."""
MOST_ATTEMPTS = 5
STOPPED = "(Stopped.)"
BLOCKED = "You may not talk with me here."
APOLOGY = (
    "I am sorry: I tried several times to answer this, and failed. The log of my machine has the details."
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to become of a message; `question` is the stored message that an answer belongs to."""

    decision: Decision
    question: Question | None = None
    refusal: str | None = None
    """The sentence for somebody who may not, and waits for an answer to a command."""


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
        self._answer_window = answer_window
        self._burst = timedelta(seconds=burst_seconds)

    async def answer(self, claim: Claim, question: IncomingMessage, courier: Courier) -> Committed | None:
        """What was committed; None when the message is closed without an answer. Raises for another attempt."""
        if claim.attempts > MOST_ATTEMPTS:
            log.error("a message is given up", message=question.message_id, attempts=claim.attempts)
            return await self._commit(claim, question, courier, APOLOGY, decision="dead")
        book = await self._books.of(question.conversation)
        decided = await self._database.write(self._decide, claim, question, book)
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

    def _decide(self, tx: Session, claim: Claim, question: IncomingMessage, book: Book) -> Decided:
        """From the stored rows alone, and once: it is recorded, and holds for later tries. All but an answer closes
        the message."""
        if question.press is not None:
            return self._decide_press(tx, claim, question.press)
        where = asdict(question.conversation)
        known = find_conversation(tx, **where)
        judged = self._judge(tx, question, known, book)
        decision = claim.decision or judged.decision
        stored: Question | None = None
        if decision == "answer" and claim.question_id is not None:
            conversation = known or find_or_add_conversation(tx, **where, private=question.private)
            stored = Question(conversation, claim.question_id)
        elif decision == "answer" and read_command(question) is None:
            stored = record_question(tx, replace(question, text=question_of(question)))
            decision = "ignore" if stored is None else decision
            if self._burst and stored is not None and question.via not in ("command", "button"):
                stored = self._join_following(tx, claim, question, stored)
        reason = judged.reason if claim.decision is None else claim.received.reason
        record_decision(tx, claim, decision, stored.message_id if stored else None, reason=reason)
        if decision == "blocked" and question.via == "command":
            return Decided(decision, refusal=judged.refusal or BLOCKED)
        if decision != "answer":
            close_received(tx, claim, "done")
        return Decided(decision, stored)

    def _join_following(
        self, tx: Session, claim: Claim, question: IncomingMessage, stored: Question
    ) -> Question:
        """What the same person went on to say belongs to the question; it is answered as a whole."""
        began = last = question.created_at
        for row_id, received in list_following(tx, claim):
            message = to_message(received)
            late = message.created_at - last > self._burst or message.created_at - began > LONGEST_BURST
            if late or read_command(message) is not None or not message.text.strip():
                break
            further = record_question(tx, message)
            if further is None:
                break
            close_joined(tx, row_id, further.message_id)
            stored, last = further, message.created_at
        return stored

    def _judge(
        self, tx: Session, question: IncomingMessage, known: Conversation | None, book: Book
    ) -> "_Judged":
        """Whether to answer, and why."""
        age = datetime.now(UTC) - question.created_at
        if age > self._answer_window:
            return _Judged("expired", f"it came {age.total_seconds() / 60:.0f} minutes before I could answer")
        spot = Spot(question.conversation, question.author, question.category, question.private)
        if question.reason is None:
            from_bot = question.author.is_bot
            turns = count_bot_turns(tx, known) if from_bot and known is not None else 0
            heard = Heard(
                message_id=question.message_id,
                text=question.text,
                via=question.via,
                from_bot=from_bot,
                takes_part=known is not None,
                bot_turns=turns,
            )
            judgement = judge(heard, habits_of(book.resolve({}, spot)))
            if not judgement.speak:
                return _Judged("ignore", judgement.reason)
        else:
            judgement = Judgement(True, question.reason)
        permission = book.permit("chat", spot)
        if not permission.allowed and read_command(question) is None:
            return _Judged("blocked", permission.because, refusal("chat", permission))
        return _Judged("answer", judgement.reason)

    def _decide_press(self, tx: Session, claim: Claim, press: Press) -> Decided:
        """Another answer belongs to the question of the one that the button is under, and takes over its messages."""
        heir = find_heir(tx, press.target)
        answered = find_answered(tx, heir)
        if answered is None or answered.question_id is None or answered.conversation is None:
            record_decision(tx, claim, "ignore", reason="what the button belongs to is gone")
            close_received(tx, claim, "done")
            return Decided("ignore")
        if claim.decision is None:
            adopt_parts(tx, claim, heir)
        record_decision(tx, claim, "answer", answered.question_id, reason="you pressed a button")
        return Decided("answer", Question(answered.conversation, answered.question_id))

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


@dataclass(frozen=True, slots=True)
class _Judged:
    decision: Decision
    reason: str
    refusal: str | None = None


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


def to_message(row: Received) -> IncomingMessage:
    """A stored row as the core sees it."""
    return IncomingMessage(
        conversation=ConversationKey(row.platform, row.workspace, row.channel, row.thread),
        message_id=row.message_id,
        author=Author(
            id=row.author_id,
            name=row.author_name,
            is_bot=row.author_is_bot,
            roles=tuple(row.author_roles),
            manages=row.author_manages,
            moderates=row.author_moderates,
        ),
        text=row.text,
        created_at=row.created_at,
        via=row.via,
        private=row.private,
        reply_to=row.reply_to,
        client_msg_id=row.client_msg_id,
        token=row.token,
        category=row.category,
        attachments=tuple(Attachment(**attachment) for attachment in row.attachments),
        press=_press(row),
        reason=row.reason,
    )


def _press(row: Received) -> Press | None:
    if row.action is None or row.target_id is None:
        return None
    return Press(row.action, row.target_id, row.candidate_id)
