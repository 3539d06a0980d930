"""The path of one message: record it, build the prompt, generate, show, record the turn. Knows no platform."""

import asyncio
import re
import uuid
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog

from bot.chat import CommandCall, ConversationKey, IncomingMessage, Reply, RunCommand, read_command
from bot.errors import DeliveryFailed
from bot.prompt import Prompt, build_prompt
from bot.turn_order import TurnOrder
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
    record_turn,
)
from storage.database import Database

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
STOPPED = "(This answer was stopped before its end.)"
UNKNOWN = "unknown"
"""The version of a turn that the engine was not there for."""
LAST_SECONDS = 10.0
"""How long the end of an answer may take while Parley is being stopped."""


_CHINESE = re.compile(r"[\u4e00-\u9fff]")

TurnFinish = Literal["stop", "length", "cancelled", "failed"]


@dataclass(slots=True)
class Answer:
    """What became of one question; filled while it happens, so that an early end leaves what there was."""

    served_by: EngineHealth | None = None
    prompt: Prompt | None = None
    text: str = ""
    completion: Completion | None = None
    shown_as: tuple[str, ...] = ()
    error: str | None = None
    cancelled: bool = False
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Responder:
    """Answers messages: one at a time in a conversation, different conversations in parallel."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        *,
        persona: str,
        sampling: SamplingParams,
        reply_seconds: float,
        run_command: RunCommand | None = None,
    ) -> None:
        """`run_command` answers messages that are commands, such as `!reset`; None takes them for questions."""
        self._engine = engine
        self._database = database
        self._persona = persona
        self._sampling = sampling
        self._reply_seconds = reply_seconds
        self._run_command = run_command
        self._turn_order = TurnOrder()

    async def respond(self, message: IncomingMessage, reply: Reply) -> None:
        """Answer `message` through `reply`, or stay silent: other bots, strangers' threads, repeated events."""
        if message.author.is_bot:
            return
        async with self._turn_order.turn(str(message.conversation)):
            command = read_command(message) if self._run_command else None
            if command is not None:
                await self._answer_command(message, command, reply)
                return
            question = await self._record_question(message)
            if question is None:
                return
            answer = Answer()
            try:
                await reply.start()
                await self._answer(message, question, answer, reply)
            except BaseException as error:
                answer.error = _sentence_for(error)
                answer.cancelled = isinstance(error, asyncio.CancelledError)
                if not isinstance(error, Exception):
                    raise
            finally:
                await _to_the_end(self._conclude(question, answer, reply))

    async def prepare(self, key: ConversationKey) -> None:
        """Somebody types in a conversation that goes on: the engine may read what was said meanwhile."""
        try:
            async with self._database.reading() as session:
                conversation = await find_conversation(session, **asdict(key))
            if conversation is not None:
                health = await self._engine.health()
                prompt = await self._build_prompt(
                    conversation, health.context_tokens, named=not conversation.private
                )
                await self._engine.prefetch(self._request(prompt, key))
        except EngineError as error:
            log.debug("nothing was computed ahead", reason=str(error))

    async def _answer_command(self, message: IncomingMessage, command: CommandCall, reply: Reply) -> None:
        """In a thread that Parley takes no part in, a command is some other bot's."""
        assert self._run_command is not None
        if message.via == "thread":
            async with self._database.reading() as session:
                if await find_conversation(session, **asdict(message.conversation)) is None:
                    return
        try:
            await reply.start()
            await reply.append(await self._run_command(command))
            await reply.finish()
        except Exception as error:
            with suppress(DeliveryFailed):
                await reply.fail(_sentence_for(error))

    async def _record_question(self, message: IncomingMessage) -> "Question | None":
        """Store the message. None when it is not for the bot, or was stored before (an event that came twice)."""
        where = asdict(message.conversation)
        async with self._database.transaction() as tx:
            if message.via == "thread" and await find_conversation(tx, **where) is None:
                return None
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

    async def _answer(
        self, message: IncomingMessage, question: "Question", answer: Answer, reply: Reply
    ) -> None:
        answer.served_by = await self._engine.health()
        if not message.text.strip():
            answer.text = HIDDEN_QUESTION if message.via == "reply" else EMPTY_QUESTION
            await reply.append(answer.text)
        else:
            answer.prompt = await self._build_prompt(
                question.conversation, answer.served_by.context_tokens, named=not message.private
            )
            await self._generate(answer, message.conversation, reply)
            if answer.prompt.left_out and await self._is_first_cut(question.conversation, answer.prompt):
                note = LEFT_OUT_CHINESE if _CHINESE.search(message.text) else LEFT_OUT
                await reply.append(note.format(count=answer.prompt.left_out))

    async def _is_first_cut(self, conversation: Conversation, prompt: Prompt) -> bool:
        """Whether the answer before this one still saw everything: what is told once is not told again."""
        async with self._database.reading() as session:
            last = await find_last_prompt(session, conversation)
        return not last or last[0] <= prompt.oldest_id

    async def _build_prompt(self, conversation: Conversation, context_tokens: int, *, named: bool) -> Prompt:
        async with self._database.reading() as session:
            history = await list_history(session, conversation, limit=HISTORY_MESSAGES)
        reserved_for_the_answer = min(self._sampling.max_tokens, context_tokens // 3)
        return await build_prompt(
            self._engine,
            persona=self._persona,
            history=history,
            token_budget=context_tokens - reserved_for_the_answer,
            named=named,
        )

    async def _generate(self, answer: Answer, conversation: ConversationKey, reply: Reply) -> None:
        assert answer.prompt is not None
        request = self._request(answer.prompt, conversation)
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

    def _request(self, prompt: Prompt, conversation: ConversationKey) -> GenerationRequest:
        return GenerationRequest(
            messages=prompt.messages,
            sampling=self._sampling,
            conversation=str(conversation),
            deadline_seconds=self._reply_seconds,
        )

    async def _conclude(self, question: "Question", answer: Answer, reply: Reply) -> None:
        """Show the end of the answer, or the sentence in its place, and record the turn in any case."""
        try:
            if answer.error is None:
                answer.shown_as = await reply.finish()
            else:
                await reply.fail(answer.error)
        except DeliveryFailed as error:
            log.warning("an answer could not be shown", reason=str(error))
            answer.error = answer.error or str(error)
        finally:
            await self._record_turn(question, answer)

    async def _record_turn(self, question: "Question", answer: Answer) -> None:
        """Store what became of the question; the answer's text, too, as far as it was generated."""
        completion = answer.completion
        record = TurnRecord(
            conversation=question.conversation,
            question_id=question.message_id,
            version=answer.served_by.version if answer.served_by else UNKNOWN,
            model=answer.served_by.model if answer.served_by else UNKNOWN,
            sampling=asdict(self._sampling),
            seed=completion.seed if completion else self._sampling.seed,
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
        async with self._database.transaction() as tx:
            await record_turn(tx, record, answer.text.strip() or None, answer.shown_as)


@dataclass(frozen=True, slots=True)
class Question:
    """The stored message that is being answered."""

    conversation: Conversation
    message_id: int


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Finish `work` even if we are cancelled meanwhile, within `LAST_SECONDS`: what is on its way arrives."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(TimeoutError):
            await asyncio.wait_for(task, LAST_SECONDS)
        raise


def _finish_reason(answer: Answer) -> TurnFinish:
    if answer.error is not None:
        return "cancelled" if answer.cancelled else "failed"
    return answer.completion.reason if answer.completion else "stop"


def _sentence_for(error: BaseException) -> str:
    """What a person reads. An error that nobody foresaw gets a reference that the log has, too."""
    if isinstance(error, asyncio.CancelledError):
        return STOPPED
    if isinstance(error, EngineError | DeliveryFailed):
        log.warning("no answer", error=type(error).__name__, reason=str(error))
        return str(error)
    reference = uuid.uuid4().hex[:8]
    log.error("no answer", reference=reference, exc_info=error)
    return f"Something went wrong on my side. The log has the details under {reference}."
