"""The stored message that somebody points at, by the platform's id of what says it or shows a part of it."""

from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from storage import tables
from storage.tables import Platform, Role


@dataclass(frozen=True, slots=True)
class Pointed:
    message_id: int
    role: Role
    inbox_id: int | None
    """The newest row of the inbox that led to this answer, or to an answer to this question."""


def find_pointed(
    session: Session, platform: Platform, workspace: str, channel: str, external_id: str
) -> Pointed | None:
    message, part, inbox = tables.Message, tables.MessagePart, tables.Inbox
    channel_id = session.scalar(
        select(tables.Channel.id)
        .join(tables.Workspace, tables.Channel.workspace_id == tables.Workspace.id)
        .where(
            tables.Workspace.platform == platform,
            tables.Workspace.external_id == workspace,
            tables.Channel.external_id == channel,
        )
    )
    shown_by = select(part.message_id).where(part.channel_id == channel_id, part.external_id == external_id)
    found = session.execute(
        select(message.id, message.role, message.question_id)
        .where(
            message.channel_id == channel_id,
            or_(message.external_id == external_id, message.id.in_(shown_by)),
        )
        .limit(1)
    ).one_or_none()
    if found is None:
        return None
    question_id = found.question_id if found.role == "assistant" else found.id
    rows = select(inbox.id).where(inbox.question_id == question_id, inbox.answer_id.is_not(None))
    if found.role == "assistant":
        rows = rows.where(inbox.answer_id == found.id)
    return Pointed(found.id, found.role, session.scalar(rows.order_by(inbox.id.desc()).limit(1)))


def find_last_shown(session: Session, conversation_id: int) -> str | None:
    """The platform's id of the message that shows the end of the newest answer in a conversation."""
    message, part = tables.Message, tables.MessagePart
    return session.scalar(
        select(part.external_id)
        .join(message, part.message_id == message.id)
        .where(message.conversation_id == conversation_id, message.shown)
        .order_by(message.id.desc(), part.part.desc())
        .limit(1)
    )
