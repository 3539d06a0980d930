"""How an answer comes to be: the prompt from what was said, the engine's text as it streams, the turn's record."""

import re
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog

from bot.chat import ConversationKey, IncomingMessage, Reply
from bot.errors import DeliveryFailed
from bot.prompt import Prompt, build_prompt
from model.errors import EngineError
from model.protocol import Engine
from model.request import Completion, EngineHealth, GenerationRequest, SamplingParams
from storage.conversations import (
    Conversation,
    TurnRecord,
    find_conversation,
    find_last_prompt,
    find_or_add_account,
    find_or_add_conversation,
    list_history,
    record_message,
)
from storage.database import Database, Session

log = structlog.get_logger()

HISTORY_MESSAGES = 200
"""Newest messages considered for a prompt; the token budget decides how many of them it holds."""
EMPTY_QUESTION = "Hi! Ask me something, for example: what can you do?"
HIDDEN_QUESTION = "I cannot read a reply that does not mention me. Please mention me in it."
EMPTY_ANSWER = "I found nothing to say to that. Please ask in other words."
LEFT_OUT = (
    "\n\n(This conversation is longer than I can read at once: I no longer see its {count} oldest messages.)"
)
LEFT_OUT_CHINESE = "\n\n（这段对话已超出我一次能读的长度，最早的 {count} 条消息我看不到了。）"
UNKNOWN = "unknown"
"""The version of a turn that the engine was not there for."""

_CHINESE = re.compile(r"[\u4e00-\u9fff]")

TurnFinish = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Question:
    """The stored message that is being answered."""

    conversation: Conversation
    message_id: int


@dataclass(slots=True)
class Answer:
    """What became of one question; filled while it happens, so that an early end leaves what there was."""

    served_by: EngineHealth | None = None
    sampling: SamplingParams | None = None
    prompt: Prompt | None = None
    text: str = ""
    completion: Completion | None = None
    shown_as: tuple[str, ...] = ()
    error: str | None = None
    cancelled: bool = False
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Answerer:
    """Turns stored questions into streamed answers. Knows no platform, and writes nothing."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        *,
        persona: str,
        build_sampling: Callable[[EngineHealth], SamplingParams],
        reply_seconds: float,
    ) -> None:
        self._engine = engine
        self._database = database
        self._persona = persona
        self._build_sampling = build_sampling
        self._reply_seconds = reply_seconds

    async def answer(
        self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
    ) -> None:
        """Fill `answer` and stream it to `reply`, which is neither started nor finished here."""
        health = await self._engine.health()
        answer.served_by, answer.sampling = health, self._build_sampling(health)
        if not message.text.strip():
            answer.text = HIDDEN_QUESTION if message.via == "reply" else EMPTY_QUESTION
            await reply.append(answer.text)
            return
        answer.prompt = await self._build_prompt(question.conversation, health, named=not message.private)
        await self._generate(answer, self._request(answer.prompt, message.conversation, health), reply)
        if answer.prompt.left_out and await self._is_first_cut(question.conversation, answer.prompt):
            note = LEFT_OUT_CHINESE if _CHINESE.search(message.text) else LEFT_OUT
            await reply.append(note.format(count=answer.prompt.left_out))

    async def prepare(self, key: ConversationKey) -> None:
        """Somebody types in a conversation that goes on: the engine may read what was said meanwhile."""
        try:
            async with self._database.reading() as session:
                conversation = await find_conversation(session, **asdict(key))
            if conversation is not None:
                health = await self._engine.health()
                prompt = await self._build_prompt(conversation, health, named=not conversation.private)
                await self._engine.prefetch(self._request(prompt, key, health))
        except EngineError as error:
            log.debug("nothing was computed ahead", reason=str(error))

    def turn_of(self, question: Question, answer: Answer) -> TurnRecord:
        """What is remembered of a call of the model."""
        completion = answer.completion
        return TurnRecord(
            conversation=question.conversation,
            question_id=question.message_id,
            version=answer.served_by.version if answer.served_by else UNKNOWN,
            model=answer.served_by.model if answer.served_by else UNKNOWN,
            sampling=asdict(answer.sampling) if answer.sampling else {},
            seed=completion.seed if completion else None,
            prompt_message_ids=answer.prompt.message_ids if answer.prompt else (),
            prompt_tokens=completion.prompt_tokens if completion else None,
            completion_tokens=completion.completion_tokens if completion else None,
            cached_tokens=completion.cached_tokens if completion else None,
            queue_seconds=completion.queue_seconds if completion else None,
            first_token_seconds=completion.first_token_seconds if completion else None,
            total_seconds=(datetime.now(UTC) - answer.started_at).total_seconds(),
            finish_reason=_finish_reason(answer),
            error=answer.error,
            started_at=answer.started_at,
        )

    async def _is_first_cut(self, conversation: Conversation, prompt: Prompt) -> bool:
        """Whether the answer before this one still saw everything: what is told once is not told again."""
        async with self._database.reading() as session:
            last = await find_last_prompt(session, conversation)
        return not last or last[0] <= prompt.oldest_id

    async def _build_prompt(self, conversation: Conversation, health: EngineHealth, *, named: bool) -> Prompt:
        async with self._database.reading() as session:
            history = await list_history(session, conversation, limit=HISTORY_MESSAGES)
        max_tokens = self._build_sampling(health).max_tokens
        reserved_for_the_answer = min(max_tokens, health.context_tokens // 3)
        return await build_prompt(
            self._engine,
            persona=self._persona,
            history=history,
            token_budget=health.context_tokens - reserved_for_the_answer,
            named=named,
        )

    async def _generate(self, answer: Answer, request: GenerationRequest, reply: Reply) -> None:
        async with aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                answer.text += delta.text
                answer.completion = delta.finish
                if delta.text:
                    await reply.append(delta.text)
        if not answer.text.strip():
            await reply.append(EMPTY_ANSWER)
        elif answer.completion is not None and answer.completion.reason == "length":
            tokens = answer.completion.completion_tokens
            await reply.append(f"\n\n(I stopped at my limit of {tokens} tokens. Ask me to go on.)")

    def _request(
        self, prompt: Prompt, conversation: ConversationKey, health: EngineHealth
    ) -> GenerationRequest:
        return GenerationRequest(
            messages=prompt.messages,
            sampling=self._build_sampling(health),
            conversation=str(conversation),
            deadline_seconds=self._reply_seconds,
        )


async def record_question(tx: Session, message: IncomingMessage) -> Question | None:
    """Store the message. None when it was stored before (an event that came twice)."""
    where = asdict(message.conversation)
    conversation = await find_or_add_conversation(tx, **where, private=message.private)
    account = await find_or_add_account(
        tx,
        platform=message.conversation.platform,
        workspace=message.conversation.workspace,
        external_id=message.author.id,
        name=message.author.name,
        is_bot=message.author.is_bot,
    )
    message_id = await record_message(
        tx,
        conversation=conversation,
        account_id=account,
        external_id=message.message_id,
        text=message.text,
        source=message.conversation.platform,
        created_at=message.created_at,
        reply_to=message.reply_to,
    )
    return None if message_id is None else Question(conversation, message_id)


def sentence_for(error: BaseException) -> str:
    """What a person reads. An error that nobody foresaw gets a reference that the log has, too."""
    if isinstance(error, EngineError | DeliveryFailed):
        log.warning("no answer", error=type(error).__name__, reason=str(error))
        return str(error)
    reference = uuid.uuid4().hex[:8]
    log.error("no answer", reference=reference, exc_info=error)
    return f"Something went wrong on my side. The log has the details under {reference}."


def _finish_reason(answer: Answer) -> TurnFinish:
    if answer.error is not None:
        return "cancelled" if answer.cancelled else "failed"
    return answer.completion.reason if answer.completion else "stop"
