"""What the answering path remembers: who spoke where, what was said, and how each answer came to be.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
Small frozen values go in and out, rows do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from storage import tables
from storage.statements import add_unless_there
from storage.tables import Platform, Role


@dataclass(frozen=True, slots=True)
class Conversation:
    """A stored conversation, and the platform that it is on."""

    id: int
    channel_id: int
    platform: Platform
    private: bool


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """A message as the model may see it. `author_name` is None for the assistant."""

    id: int
    role: Role
    author_name: str | None
    text: str
    created_at: datetime
    attachments: str | None = None
    """What its files say."""


_CONVERSATION = (
    select(
        tables.Conversation.id,
        tables.Conversation.channel_id,
        tables.Workspace.platform,
        tables.Conversation.private,
    )
    .join(tables.Channel, tables.Conversation.channel_id == tables.Channel.id)
    .join(tables.Workspace, tables.Channel.workspace_id == tables.Workspace.id)
    .where(
        tables.Workspace.platform == bindparam("platform"),
        tables.Workspace.external_id == bindparam("workspace"),
        tables.Channel.external_id == bindparam("channel"),
        tables.Conversation.thread == bindparam("thread"),
    )
)


def find_conversation(
    session: Session, *, platform: Platform, workspace: str, channel: str, thread: str
) -> Conversation | None:
    """The conversation at a place named by the platform's ids; `thread` is empty outside threads."""
    where = {"platform": platform, "workspace": workspace, "channel": channel, "thread": thread}
    row = session.execute(_CONVERSATION, where).one_or_none()
    return None if row is None else Conversation(*row)


def find_or_add_conversation(
    tx: Session, *, platform: Platform, workspace: str, channel: str, thread: str, private: bool
) -> Conversation:
    """The conversation at that place, which is added with its workspace and channel when it is new."""
    found = find_conversation(tx, platform=platform, workspace=workspace, channel=channel, thread=thread)
    if found is not None:
        return found
    workspace_id = _find_or_add(tx, tables.Workspace, {"platform": platform, "external_id": workspace})
    channel_id = _find_or_add(tx, tables.Channel, {"workspace_id": workspace_id, "external_id": channel})
    key = {"channel_id": channel_id, "thread": thread}
    conversation_id = _find_or_add(tx, tables.Conversation, key, private=private)
    return Conversation(conversation_id, channel_id, platform, private)


_ACCOUNT = select(tables.Account.id, tables.Account.name, tables.Account.is_bot).where(
    tables.Account.platform == bindparam("platform"),
    tables.Account.scope == bindparam("scope"),
    tables.Account.external_id == bindparam("external_id"),
)


def find_or_add_account(
    tx: Session, *, platform: Platform, workspace: str, external_id: str, name: str, is_bot: bool
) -> int:
    """The id of the account, which is added when it is new and takes the name that it has now."""
    # Discord's ids are unique everywhere, Slack's within a workspace: one person is one account, also in messages
    # that are in no workspace, so that what they agreed to and what they want forgotten reach all of it.
    scope = workspace if platform == "slack" else ""
    key = {"platform": platform, "scope": scope, "external_id": external_id}
    account = tx.execute(_ACCOUNT, key).one_or_none()
    if account is None:
        return _find_or_add(tx, tables.Account, key, name=name, is_bot=is_bot)
    if (account.name, account.is_bot) != (name, is_bot):
        changed = update(tables.Account).where(tables.Account.id == account.id)
        tx.execute(changed.values(name=name, is_bot=is_bot))
    return int(account.id)


def record_message(
    tx: Session,
    *,
    conversation: Conversation,
    account_id: int,
    external_id: str,
    text: str,
    source: Platform,
    created_at: datetime,
    reply_to: str | None,
) -> int | None:
    """Record what a person said. None when the channel's message `external_id` is recorded already."""
    values = {
        "conversation_id": conversation.id,
        "channel_id": conversation.channel_id,
        "role": "user",
        "account_id": account_id,
        "external_id": external_id,
        "reply_to": reply_to,
        "text": text,
        "shown": True,
        "source": source,
        "created_at": created_at,
    }
    return add_unless_there(tx, tables.Message, values)


_NEWEST = (
    select(
        tables.Message.id,
        tables.Message.role,
        tables.Account.name,
        tables.Message.text,
        tables.Message.created_at,
        tables.Message.attachments,
    )
    .join(tables.Conversation, tables.Message.conversation_id == tables.Conversation.id)
    .outerjoin(tables.Account, tables.Message.account_id == tables.Account.id)
    .where(
        tables.Message.conversation_id == bindparam("conversation"),
        tables.Message.shown,
        # An answer goes with its question: one that was being written during a reset stays outside, too.
        or_(
            func.coalesce(tables.Message.question_id, tables.Message.id)
            > func.coalesce(tables.Conversation.history_starts_after, 0),
            tables.Message.id == bindparam("question"),
        ),
    )
    .order_by(tables.Message.id.desc())
    .limit(bindparam("most"))
)
_UPTO = _NEWEST.where(tables.Message.id <= bindparam("question"))
_asked = tables.Message.__table__.alias("asked").c
_ASKER = select(tables.Message.account_id).where(tables.Message.id == bindparam("question")).scalar_subquery()
_BETWEEN_TWO = _UPTO.where(
    or_(
        tables.Message.account_id == _ASKER,
        tables.Message.question_id.in_(select(_asked.id).where(_asked.account_id == _ASKER)),
    )
)


def list_history(
    session: Session,
    conversation: Conversation,
    *,
    limit: int,
    question_id: int | None = None,
    personal: bool = False,
) -> list[HistoryMessage]:
    """The newest `limit` messages since the last reset, oldest first, in the order in which they were recorded.

    With `question_id` it ends with that one: when a question is tried again, another may have been recorded after it.
    With `personal` it is only what its author said, and what was answered to that.
    """
    query = _NEWEST if question_id is None else _BETWEEN_TWO if personal else _UPTO
    values = {"conversation": conversation.id, "most": limit, "question": question_id}
    rows = session.execute(query, values).all()
    return [HistoryMessage(*row) for row in reversed(rows)]


def record_attachments(tx: Session, message_id: int, text: str) -> None:
    """Keep what the files of a message say, so that later answers know it, too."""
    tx.execute(update(tables.Message).where(tables.Message.id == message_id).values(attachments=text))


def find_said(
    session: Session, platform: Platform, workspace: str, channel: str, external_id: str
) -> int | None:
    """What a person said, by the platform's ids."""
    return session.scalar(
        select(tables.Message.id)
        .join(tables.Channel, tables.Message.channel_id == tables.Channel.id)
        .join(tables.Workspace, tables.Channel.workspace_id == tables.Workspace.id)
        .where(
            tables.Workspace.platform == platform,
            tables.Workspace.external_id == workspace,
            tables.Channel.external_id == channel,
            tables.Message.external_id == external_id,
            tables.Message.role == "user",
        )
    )


def change_said(
    tx: Session, platform: Platform, workspace: str, channel: str, external_id: str, text: str
) -> bool:
    """Somebody edited a message that is in the dialogue. False where it is not."""
    message_id = find_said(tx, platform, workspace, channel, external_id)
    if message_id is not None:
        tx.execute(update(tables.Message).where(tables.Message.id == message_id).values(text=text))
    return message_id is not None


@dataclass(frozen=True, slots=True)
class Summary:
    """What was said in a conversation up to the message `upto`, in short."""

    text: str
    upto: int


def find_summary(session: Session, conversation: Conversation) -> Summary | None:
    """The summary of what a reset has not put aside."""
    place = tables.Conversation
    row = session.execute(
        select(place.summary, place.summary_upto).where(
            place.id == conversation.id,
            place.summary.is_not(None),
            place.summary_upto > func.coalesce(place.history_starts_after, 0),
        )
    ).one_or_none()
    return None if row is None else Summary(row.summary or "", row.summary_upto or 0)


def save_summary(tx: Session, conversation: Conversation, summary: Summary | None) -> None:
    """In place of the one before; None for none."""
    text, upto = (None, None) if summary is None else (summary.text, summary.upto)
    tx.execute(
        update(tables.Conversation)
        .where(tables.Conversation.id == conversation.id)
        .values(summary=text, summary_upto=upto)
    )


def find_referenced(session: Session, conversation: Conversation, external_id: str) -> HistoryMessage | None:
    """What a platform's message in the conversation's channel says, be it a person's or a part of an answer."""
    message, part = tables.Message, tables.MessagePart
    shown_by = select(part.message_id).where(
        part.channel_id == conversation.channel_id, part.external_id == external_id
    )
    row = session.execute(
        select(message.id, message.role, tables.Account.name, message.text, message.created_at)
        .outerjoin(tables.Account, message.account_id == tables.Account.id)
        .where(
            message.channel_id == conversation.channel_id,
            or_(message.external_id == external_id, message.id.in_(shown_by)),
        )
        .limit(1)
    ).one_or_none()
    return None if row is None else HistoryMessage(*row)


def count_bot_turns(session: Session, conversation: Conversation) -> int:
    """How many messages of bots were answered since a person spoke last."""
    spoken = (
        select(tables.Message.id)
        .join(tables.Account, tables.Message.account_id == tables.Account.id)
        .where(tables.Message.conversation_id == conversation.id)
    )
    last_person = spoken.where(~tables.Account.is_bot).order_by(tables.Message.id.desc()).limit(1)
    since = func.coalesce(last_person.scalar_subquery(), 0)
    bots = spoken.where(tables.Account.is_bot, tables.Message.id > since).subquery()
    return session.scalar(select(func.count()).select_from(bots)) or 0


def reset_conversation(tx: Session, conversation: Conversation) -> None:
    """Leave everything said so far out of later histories. Nothing is deleted."""
    newest = select(func.max(tables.Message.id)).where(tables.Message.conversation_id == conversation.id)
    tx.execute(
        update(tables.Conversation)
        .where(tables.Conversation.id == conversation.id)
        .values(
            history_started_after=func.coalesce(tables.Conversation.history_starts_after, 0),
            history_starts_after=newest.scalar_subquery(),
        )
    )


def undo_reset(tx: Session, conversation: Conversation) -> bool:
    """Let the history begin where it began before the last reset. False when there was none to take back."""
    undone = tx.execute(
        update(tables.Conversation)
        .where(
            tables.Conversation.id == conversation.id, tables.Conversation.history_started_after.is_not(None)
        )
        .values(history_starts_after=tables.Conversation.history_started_after, history_started_after=None)
    )
    return int(getattr(undone, "rowcount", 0)) > 0


_Identified = tables.Workspace | tables.Channel | tables.Conversation | tables.Account


def _find_or_add(tx: Session, table: type[_Identified], key: Mapping[str, Any], **others: object) -> int:
    added = add_unless_there(tx, table, {**key, **others})
    if added is not None:
        return added
    return tx.scalars(select(table.id).filter_by(**key)).one()
