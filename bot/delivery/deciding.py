"""What is to become of a claimed message, and why: from the stored rows alone, and once."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from bot.answer import Question, record_question
from bot.chat import Attachment, Author, ConversationKey, IncomingMessage, Press
from bot.choices.book import Book, Spot
from bot.commands.parse import question_of, read_command
from bot.permissions import refusal
from bot.triggers import Heard, Judgement, habits_of, judge
from storage.answers import find_answered, find_heir
from storage.bursts import close_joined, list_following
from storage.conversations import Conversation, count_bot_turns, find_conversation, find_or_add_conversation
from storage.database import Session
from storage.inbox import Claim, Received, close_received, record_decision
from storage.outbox import adopt_parts
from storage.tables import Decision

LONGEST_BURST = timedelta(seconds=8)
"""How long a person may go on before what was said so far is answered."""
BLOCKED = "You may not talk with me here."


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to become of a message; `question` is the stored message that an answer belongs to."""

    decision: Decision
    question: Question | None = None
    refusal: str | None = None
    """The sentence for somebody who may not, and waits for an answer to a command."""


class Decider:
    """Runs in the transaction that records what it decides."""

    def __init__(self, *, answer_window: timedelta, burst_seconds: float) -> None:
        """`burst_seconds`: what a person says within so long of what they said before belongs to it."""
        self._answer_window = answer_window
        self._burst = timedelta(seconds=burst_seconds)

    def decide(self, tx: Session, claim: Claim, question: IncomingMessage, book: Book) -> Decided:
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


@dataclass(frozen=True, slots=True)
class _Judged:
    decision: Decision
    reason: str
    refusal: str | None = None


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
