"""What the answering path remembers: who spoke where, what was said, and how each answer came to be.

Every function takes an open session first; those that call it `tx` write, and the caller's transaction commits.
Small frozen values go in and out, rows do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from storage import tables
from storage.tables import FinishReason, Platform, Role


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


async def find_conversation(
    session: AsyncSession, *, platform: Platform, workspace: str, channel: str, thread: str
) -> Conversation | None:
    """The conversation at a place named by the platform's ids; `thread` is empty outside threads."""
    query = (
        select(
            tables.Conversation.id,
            tables.Conversation.channel_id,
            tables.Workspace.platform,
            tables.Conversation.private,
        )
        .join(tables.Channel, tables.Conversation.channel_id == tables.Channel.id)
        .join(tables.Workspace, tables.Channel.workspace_id == tables.Workspace.id)
        .where(
            tables.Workspace.platform == platform,
            tables.Workspace.external_id == workspace,
            tables.Channel.external_id == channel,
            tables.Conversation.thread == thread,
        )
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else Conversation(*row)


async def find_or_add_conversation(
    tx: AsyncSession, *, platform: Platform, workspace: str, channel: str, thread: str, private: bool
) -> Conversation:
    """The conversation at that place, which is added with its workspace and channel when it is new."""
    found = await find_conversation(
        tx, platform=platform, workspace=workspace, channel=channel, thread=thread
    )
    if found is not None:
        return found
    workspace_id = await _find_or_add(tx, tables.Workspace, {"platform": platform, "external_id": workspace})
    channel_id = await _find_or_add(
        tx, tables.Channel, {"workspace_id": workspace_id, "external_id": channel}
    )
    key = {"channel_id": channel_id, "thread": thread}
    conversation_id = await _find_or_add(tx, tables.Conversation, key, private=private)
    return Conversation(conversation_id, channel_id, platform, private)


async def find_or_add_account(
    tx: AsyncSession, *, platform: Platform, workspace: str, external_id: str, name: str, is_bot: bool
) -> int:
    """The id of the account, which is added when it is new and takes the name that it has now."""
    # Discord's ids are unique everywhere, Slack's within a workspace: one person is one account, also in messages
    # that are in no workspace, so that what they agreed to and what they want forgotten reach all of it.
    scope = workspace if platform == "slack" else ""
    key = {"platform": platform, "scope": scope, "external_id": external_id}
    account = await tx.scalar(select(tables.Account).filter_by(**key))
    if account is None:
        return await _find_or_add(tx, tables.Account, key, name=name, is_bot=is_bot)
    account.name, account.is_bot = name, is_bot
    return account.id


async def record_message(
    tx: AsyncSession,
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
    return await _add_unless_there(
        tx,
        tables.Message,
        conversation_id=conversation.id,
        channel_id=conversation.channel_id,
        role="user",
        account_id=account_id,
        external_id=external_id,
        reply_to=reply_to,
        text=text,
        source=source,
        created_at=created_at,
    )


async def list_history(
    session: AsyncSession, conversation: Conversation, *, limit: int
) -> list[HistoryMessage]:
    """The newest `limit` messages since the last reset, oldest first, in the order in which they were recorded."""
    # An answer goes with its question: one that was being written during a reset stays outside, too.
    asked = func.coalesce(tables.Message.question_id, tables.Message.id)
    newest = (
        select(
            tables.Message.id,
            tables.Message.role,
            tables.Account.name,
            tables.Message.text,
            tables.Message.created_at,
        )
        .join(tables.Conversation, tables.Message.conversation_id == tables.Conversation.id)
        .outerjoin(tables.Account, tables.Message.account_id == tables.Account.id)
        .where(
            tables.Message.conversation_id == conversation.id,
            asked > func.coalesce(tables.Conversation.history_starts_after, 0),
        )
        .order_by(tables.Message.id.desc())
        .limit(limit)
    )
    rows = (await session.execute(newest)).all()
    return [HistoryMessage(*row) for row in reversed(rows)]


async def find_last_prompt(session: AsyncSession, conversation: Conversation) -> list[int] | None:
    """The ids of the messages that the model saw for its newest answer; None where it has not answered yet."""
    return await session.scalar(
        select(tables.Turn.prompt_message_ids)
        .where(
            tables.Turn.conversation_id == conversation.id,
            tables.Turn.finish_reason.in_(("stop", "length")),
        )
        .order_by(tables.Turn.id.desc())
        .limit(1)
    )


async def record_turn(
    tx: AsyncSession, turn: TurnRecord, answer_text: str | None, external_ids: Sequence[str]
) -> int | None:
    """Record a call of the model and the answer that people see, if they see one; the id of the answer.

    `external_ids` are the platform's ids of the messages that show the answer, in order.
    """
    answer_id = None
    if answer_text is not None:
        answer_id = await _record_answer(tx, turn, answer_text, external_ids)
    row = tables.Turn(
        conversation_id=turn.conversation.id,
        question_id=turn.question_id,
        answer_id=answer_id,
        version=turn.version,
        model=turn.model,
        sampling=dict(turn.sampling),
        seed=turn.seed,
        prompt_message_ids=list(turn.prompt_message_ids),
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        cached_tokens=turn.cached_tokens,
        queue_seconds=turn.queue_seconds,
        first_token_seconds=turn.first_token_seconds,
        total_seconds=turn.total_seconds,
        finish_reason=turn.finish_reason,
        error=turn.error,
        started_at=turn.started_at,
    )
    tx.add(row)
    return answer_id


async def record_parts(tx: AsyncSession, answer_id: int, external_ids: Sequence[str]) -> None:
    """Record the platform's ids of the messages that show an answer, in order."""
    answer = await tx.get_one(tables.Message, answer_id)
    tx.add_all(
        tables.MessagePart(
            message_id=answer_id, part=part, channel_id=answer.channel_id, external_id=external_id
        )
        for part, external_id in enumerate(external_ids)
    )


async def reset_conversation(tx: AsyncSession, conversation: Conversation) -> None:
    """Leave everything said so far out of later histories. Nothing is deleted."""
    newest = select(func.max(tables.Message.id)).where(tables.Message.conversation_id == conversation.id)
    await tx.execute(
        update(tables.Conversation)
        .where(tables.Conversation.id == conversation.id)
        .values(history_starts_after=newest.scalar_subquery())
    )


async def _record_answer(tx: AsyncSession, turn: TurnRecord, text: str, external_ids: Sequence[str]) -> int:
    answer = tables.Message(
        conversation_id=turn.conversation.id,
        channel_id=turn.conversation.channel_id,
        role="assistant",
        question_id=turn.question_id,
        text=text,
        source=turn.conversation.platform,
        created_at=turn.started_at + timedelta(seconds=turn.total_seconds),
    )
    tx.add(answer)
    await tx.flush()
    await record_parts(tx, answer.id, external_ids)
    return answer.id


_Identified = tables.Workspace | tables.Channel | tables.Conversation | tables.Account | tables.Message


async def _find_or_add(
    tx: AsyncSession, table: type[_Identified], key: Mapping[str, Any], **others: object
) -> int:
    added = await _add_unless_there(tx, table, **key, **others)
    if added is not None:
        return added
    return (await tx.scalars(select(table.id).filter_by(**key))).one()


async def _add_unless_there(tx: AsyncSession, table: type[_Identified], **values: object) -> int | None:
    """Insert a row and return its id; None when a unique constraint says that it is there, also just now."""
    if tx.get_bind().dialect.name == "postgresql":
        return await tx.scalar(
            postgresql.insert(table).values(**values).on_conflict_do_nothing().returning(table.id)
        )
    return await tx.scalar(sqlite.insert(table).values(**values).on_conflict_do_nothing().returning(table.id))
