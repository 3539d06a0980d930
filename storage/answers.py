"""What is asked about answers afterwards: which row, turn and candidates belong to one, and what people thought of it.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from storage import tables
from storage.conversations import Conversation
from storage.tables import Decision, InboxState, Platform, Rating, Via


@dataclass(frozen=True, slots=True)
class Answered:
    """A row of the inbox, and what it led to. `asker` is the platform's id of who asked."""

    inbox_id: int
    state: InboxState
    via: Via
    decision: Decision | None
    reason: str | None
    conversation: Conversation | None
    question_id: int | None
    answer_id: int | None
    asker: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the answers to a question."""

    id: int
    text: str
    shown: bool


_ANSWERED = (
    select(
        tables.Inbox.id,
        tables.Inbox.state,
        tables.Inbox.via,
        tables.Inbox.decision,
        tables.Inbox.reason,
        tables.Conversation.id,
        tables.Conversation.channel_id,
        tables.Inbox.platform,
        tables.Conversation.private,
        tables.Inbox.question_id,
        tables.Inbox.answer_id,
        tables.Account.external_id,
    )
    .outerjoin(tables.Message, tables.Inbox.question_id == tables.Message.id)
    .outerjoin(tables.Conversation, tables.Message.conversation_id == tables.Conversation.id)
    .outerjoin(tables.Account, tables.Message.account_id == tables.Account.id)
)


def find_answered(session: Session, inbox_id: int) -> Answered | None:
    return _answered(session.execute(_ANSWERED.where(tables.Inbox.id == inbox_id)).one_or_none())


def find_question(session: Session, inbox_id: int) -> int:
    """The message of the dialogue that a row's answer belongs to; 0 where it is gone."""
    return session.scalar(select(tables.Inbox.question_id).where(tables.Inbox.id == inbox_id)) or 0


def find_answered_by(session: Session, answer_id: int) -> Answered | None:
    """The row that an answer was written for; None where there was none, as in a terminal."""
    newest = _ANSWERED.where(tables.Inbox.answer_id == answer_id)
    return _answered(session.execute(newest.order_by(tables.Inbox.id.desc()).limit(1)).one_or_none())


def find_heir(session: Session, inbox_id: int) -> int:
    """The row whose answer stands now where the answer of this one stood: itself, or the last that replaced it."""
    while True:
        heir = session.scalar(
            select(tables.Inbox.id)
            .where(tables.Inbox.target_id == inbox_id, tables.Inbox.state.in_(("answered", "done")))
            .where(tables.Inbox.answer_id.is_not(None))
            .order_by(tables.Inbox.id.desc())
            .limit(1)
        )
        if heir is None:
            return inbox_id
        inbox_id = heir


def list_candidates(session: Session, question_id: int) -> list[Candidate]:
    """The answers to a question, the oldest first."""
    rows = session.execute(
        select(tables.Message.id, tables.Message.text, tables.Message.shown)
        .where(tables.Message.question_id == question_id, tables.Message.role == "assistant")
        .order_by(tables.Message.id)
    )
    return [Candidate(*row) for row in rows]


def show_candidate(tx: Session, question_id: int, answer_id: int) -> None:
    """From now on this answer to the question is part of the conversation, and no other."""
    tx.execute(
        update(tables.Message)
        .where(tables.Message.question_id == question_id, tables.Message.role == "assistant")
        .values(shown=tables.Message.id == answer_id)
    )


def list_unasked(
    session: Session, platform: Platform, workspace: str, channel: str, since: datetime
) -> list[datetime]:
    """When the bot talked unasked in a channel and its threads."""
    inbox = tables.Inbox
    return list(
        session.scalars(
            select(inbox.created_at).where(
                inbox.platform == platform,
                inbox.workspace == workspace,
                inbox.channel == channel,
                inbox.via == "lively",
                inbox.created_at > since,
            )
        )
    )


def record_feedback(
    tx: Session, answer_id: int, account_id: int, rating: Rating, reason: str | None = None
) -> None:
    """What somebody thinks of an answer; the newest row of a person counts."""
    tx.add(tables.Feedback(message_id=answer_id, account_id=account_id, rating=rating, reason=reason))
    tx.flush()


def _answered(row: Any) -> Answered | None:
    if row is None:
        return None
    inbox_id, state, via, decision, reason, conversation_id, channel_id, platform, private, *others = row
    conversation = (
        None if conversation_id is None else Conversation(conversation_id, channel_id, platform, private)
    )
    return Answered(inbox_id, state, via, decision, reason, conversation, *others)
