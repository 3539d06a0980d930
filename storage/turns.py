"""Calls of the model: what each was given and what it cost, and the platform's messages that show what came of it.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, or_, select
from sqlalchemy.orm import Session

from storage import tables
from storage.conversations import Conversation
from storage.tables import FinishReason


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One call of the model. Counts and seconds are None when it ended before they were known."""

    conversation: Conversation
    question_id: int
    """The stored message that was answered."""
    version: str
    model: str
    sampling: Mapping[str, Any]
    """What JSON can hold; a tuple comes back as a list."""
    seed: int | None
    prompt_message_ids: Sequence[int]
    """The stored messages that the model saw, oldest first."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    queue_seconds: float | None
    first_token_seconds: float | None
    total_seconds: float
    finish_reason: FinishReason
    error: str | None
    """The sentence that the person read in place of an answer, or after a part of one."""
    started_at: datetime
    prompt: Sequence[Mapping[str, Any]] = ()
    """Exactly what it saw, message by message."""


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """How an answer came to be, as far as somebody asks afterwards."""

    id: int
    answer_id: int | None
    version: str
    model: str
    sampling: Mapping[str, Any]
    seed: int | None
    prompt_message_ids: Sequence[int]
    prompt: Sequence[Mapping[str, Any]] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    queue_seconds: float | None
    first_token_seconds: float | None
    total_seconds: float
    finish_reason: FinishReason


def find_last_prompt(session: Session, conversation: Conversation) -> list[int] | None:
    """The ids of the messages that the model saw for its newest answer; None where it has not answered yet."""
    return session.scalar(
        select(tables.Turn.prompt_message_ids)
        .where(
            tables.Turn.conversation_id == conversation.id,
            tables.Turn.finish_reason.in_(("stop", "length")),
        )
        .order_by(tables.Turn.id.desc())
        .limit(1)
    )


_ADD_TURN = insert(tables.Turn.__table__)
_ADD_ANSWER = insert(tables.Message.__table__).returning(tables.Message.__table__.c.id)
_ADD_PARTS = insert(tables.MessagePart.__table__)
_CHANNEL_OF = select(tables.Message.channel_id).where(tables.Message.id == bindparam("message"))


def record_turn(
    tx: Session, turn: TurnRecord, answer_text: str | None, external_ids: Sequence[str]
) -> int | None:
    """Record a call of the model and the answer that people see, if they see one; the id of the answer.

    `external_ids` are the platform's ids of the messages that show the answer, in order.
    """
    answer_id = None
    if answer_text is not None:
        answer_id = _record_answer(tx, turn, answer_text, external_ids)
    values = {
        "conversation_id": turn.conversation.id,
        "question_id": turn.question_id,
        "answer_id": answer_id,
        "version": turn.version,
        "model": turn.model,
        "sampling": dict(turn.sampling),
        "seed": turn.seed,
        "prompt_message_ids": list(turn.prompt_message_ids),
        "prompt": list(turn.prompt) or None,
        "prompt_tokens": turn.prompt_tokens,
        "completion_tokens": turn.completion_tokens,
        "cached_tokens": turn.cached_tokens,
        "queue_seconds": turn.queue_seconds,
        "first_token_seconds": turn.first_token_seconds,
        "total_seconds": turn.total_seconds,
        "finish_reason": turn.finish_reason,
        "error": turn.error,
        "started_at": turn.started_at,
    }
    tx.execute(_ADD_TURN, values)
    return answer_id


def record_parts(tx: Session, answer_id: int, external_ids: Sequence[str]) -> None:
    """Record the platform's ids of the messages that show an answer, in order."""
    channel_id = tx.scalar(_CHANNEL_OF, {"message": answer_id})
    parts = [
        {"message_id": answer_id, "part": part, "channel_id": channel_id, "external_id": external_id}
        for part, external_id in enumerate(external_ids)
    ]
    if parts:
        tx.execute(_ADD_PARTS, parts)


def replace_parts(tx: Session, answer_id: int, external_ids: Sequence[str]) -> None:
    """As `record_parts`, where these messages showed another answer before, or this one in other messages."""
    part = tables.MessagePart
    channel = select(tables.Message.channel_id).where(tables.Message.id == answer_id).scalar_subquery()
    there = and_(part.channel_id == channel, part.external_id.in_(external_ids))
    tx.execute(delete(part).where(or_(part.message_id == answer_id, there)))
    record_parts(tx, answer_id, external_ids)


def find_turn(
    session: Session, *, answer_id: int | None = None, conversation_id: int | None = None
) -> TurnFacts | None:
    """The turn that wrote an answer, or the newest one in a conversation that wrote any."""
    columns = [getattr(tables.Turn, name) for name in TurnFacts.__dataclass_fields__]
    if answer_id is not None:
        wanted = tables.Turn.answer_id == answer_id
    else:
        there = tables.Turn.conversation_id == conversation_id
        wanted = and_(there, tables.Turn.answer_id.is_not(None))
    row = session.execute(
        select(*columns).where(wanted).order_by(tables.Turn.id.desc()).limit(1)
    ).one_or_none()
    return None if row is None else TurnFacts(*row)


def _record_answer(tx: Session, turn: TurnRecord, text: str, external_ids: Sequence[str]) -> int:
    values = {
        "conversation_id": turn.conversation.id,
        "channel_id": turn.conversation.channel_id,
        "role": "assistant",
        "question_id": turn.question_id,
        "text": text,
        "shown": True,
        "source": turn.conversation.platform,
        "created_at": turn.started_at + timedelta(seconds=turn.total_seconds),
    }
    answer_id = int(tx.execute(_ADD_ANSWER, values).scalar_one())
    record_parts(tx, answer_id, external_ids)
    return answer_id
