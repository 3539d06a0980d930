"""How an answer comes to be: the prompt from what was said, the engine's text as it streams, the turn's record."""

import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog

from bot.attachments.reader import AttachmentReader
from bot.attachments.rendering import render_attachments, tell
from bot.attachments.values import Note
from bot.chat import Author, ConversationKey, IncomingMessage, Reply
from bot.choices.book import Books, Spot, sampling_of, text_of, thinking_of
from bot.choices.resolve import Chosen
from bot.errors import DeliveryFailed
from bot.prompt import Prompt, Said, Surroundings, build_prompt
from bot.summary import Summariser
from bot.thinking import Thoughts
from model.errors import EngineError
from model.protocol import Engine
from model.request import Completion, EngineHealth, GenerationRequest, SamplingParams
from storage.conversations import (
    Conversation,
    HistoryMessage,
    Summary,
    find_conversation,
    find_or_add_account,
    find_or_add_conversation,
    find_referenced,
    find_summary,
    list_history,
    record_message,
)
from storage.database import Database, Session
from storage.errors import StorageError
from storage.turns import TurnRecord, find_last_prompt

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
FILES_SHARE = 3
"""A question's files take at most the context divided by this."""
UNKNOWN = "unknown"
"""The version of a turn that the engine was not there for."""

_NOBODY = Author("", "")
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
    attachments: str = ""
    """What the question's files say, as the model read it."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Answerer:
    """Turns stored questions into streamed answers. Knows no platform, and writes nothing."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        books: Books,
        *,
        reply_seconds: float,
        attachments: AttachmentReader | None = None,
        summariser: Summariser | None = None,
    ) -> None:
        self._engine = engine
        self._database = database
        self._books = books
        self._reply_seconds = reply_seconds
        self._attachments = attachments
        self._summariser = summariser

    async def answer(
        self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
    ) -> None:
        """Fill `answer` and stream it to `reply`, which is neither started nor finished here."""
        health = await self._engine.health()
        spot = Spot(message.conversation, message.author, message.category, message.private)
        chosen = await self._books.resolve(spot, health)
        answer.served_by, answer.sampling = health, sampling_of(chosen)
        if not message.text.strip() and not message.attachments and message.press is None:
            answer.text = HIDDEN_QUESTION if message.via == "reply" else EMPTY_QUESTION
            await reply.append(answer.text)
            return
        chinese = bool(_CHINESE.search(message.text))
        files = await self._read_attachments(message, health, answer, chinese=chinese)
        answer.prompt = await self._build_prompt(
            question.conversation,
            health,
            chosen,
            question.message_id,
            reply_to=message.reply_to,
            attachments=answer.attachments,
        )
        request = self._request(answer.prompt, message.conversation, answer.sampling)
        await self._generate(answer, request, Thoughts(reply, thinking_of(chosen)), reply)
        await reply.append(tell(files, chinese=chinese))
        if answer.prompt.left_out and await self._is_first_cut(question.conversation, answer.prompt):
            note = LEFT_OUT_CHINESE if chinese else LEFT_OUT
            await reply.append(note.format(count=answer.prompt.left_out))

    async def _read_attachments(
        self, message: IncomingMessage, health: EngineHealth, answer: Answer, *, chinese: bool
    ) -> Sequence[Note]:
        """Fill in what the files say; the notes on what of them could not be read."""
        if self._attachments is None or not message.attachments:
            return ()
        texts = await self._attachments.read(message.conversation.platform, message.attachments)
        rendered = await render_attachments(
            self._engine, texts, token_budget=health.context_tokens // FILES_SHARE, chinese=chinese
        )
        answer.attachments = rendered.text
        return rendered.notes

    async def prepare(self, key: ConversationKey) -> None:
        """Somebody types in a conversation that goes on: the engine may read what was said meanwhile."""
        try:
            conversation = await self._database.read(find_conversation, **asdict(key))
            if conversation is not None:
                health = await self._engine.health()
                chosen = await self._books.resolve(Spot(key, _NOBODY), health)
                prompt = await self._build_prompt(conversation, health, chosen)
                await self._engine.prefetch(self._request(prompt, key, sampling_of(chosen)))
        except EngineError as error:
            log.debug("nothing was computed ahead", reason=str(error))

    async def remember(self, question: Question, answer: Answer) -> None:
        """When an answer is through: what did not fit its prompt is kept in short. Raises nothing that matters."""
        if self._summariser is None or answer.prompt is None or not answer.prompt.left_out:
            return
        try:
            await self._summariser.summarise(question.conversation, answer.prompt.message_ids[0])
        except (EngineError, StorageError) as error:
            log.info("nothing was summarised", reason=str(error))

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
            prompt=[asdict(message) for message in answer.prompt.messages] if answer.prompt else (),
        )

    async def _is_first_cut(self, conversation: Conversation, prompt: Prompt) -> bool:
        """Whether the answer before this one still saw everything: what is told once is not told again."""
        last = await self._database.read(find_last_prompt, conversation)
        return not last or last[0] <= prompt.oldest_id

    async def _build_prompt(
        self,
        conversation: Conversation,
        health: EngineHealth,
        chosen: Mapping[str, Chosen],
        question_id: int | None = None,
        *,
        reply_to: str | None = None,
        attachments: str = "",
    ) -> Prompt:
        personal = text_of(chosen, "conversation") == "personal"

        def read(session: Session) -> tuple[list[HistoryMessage], HistoryMessage | None, Summary | None]:
            history = list_history(
                session, conversation, limit=HISTORY_MESSAGES, question_id=question_id, personal=personal
            )
            referred = None if reply_to is None else find_referenced(session, conversation, reply_to)
            return history, referred, None if personal else find_summary(session, conversation)

        history, referred, summary = await self._database.read(read)
        reserved_for_the_answer = min(sampling_of(chosen).max_tokens, health.context_tokens // 3)
        persona, rules = text_of(chosen, "persona"), text_of(chosen, "rules")
        return await build_prompt(
            self._engine,
            surroundings=Surroundings(
                persona,
                rules=rules,
                summary=summary.text if summary is not None else "",
                reply_to=_reference(referred, history),
                attachments=attachments,
            ),
            history=history,
            token_budget=health.context_tokens - reserved_for_the_answer,
            named=not conversation.private,
        )

    async def _generate(
        self, answer: Answer, request: GenerationRequest, thoughts: Thoughts, reply: Reply
    ) -> None:
        async with aclosing(self._engine.generate(request)) as deltas:
            async for delta in deltas:
                answer.completion = delta.finish
                if delta.text:
                    answer.text = await thoughts.append(delta.text)
        answer.text = await thoughts.end(EMPTY_ANSWER)
        if answer.text.strip() and answer.completion is not None and answer.completion.reason == "length":
            tokens = answer.completion.completion_tokens
            await reply.append(f"\n\n(I stopped at my limit of {tokens} tokens. Ask me to go on.)")

    def _request(
        self, prompt: Prompt, conversation: ConversationKey, sampling: SamplingParams
    ) -> GenerationRequest:
        return GenerationRequest(
            messages=prompt.messages,
            sampling=sampling,
            conversation=str(conversation),
            deadline_seconds=self._reply_seconds,
        )


def record_question(tx: Session, message: IncomingMessage) -> Question | None:
    """Store the message. None when it was stored before (an event that came twice)."""
    where = asdict(message.conversation)
    conversation = find_or_add_conversation(tx, **where, private=message.private)
    account = find_or_add_account(
        tx,
        platform=message.conversation.platform,
        workspace=message.conversation.workspace,
        external_id=message.author.id,
        name=message.author.name,
        is_bot=message.author.is_bot,
    )
    message_id = record_message(
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


def _reference(referred: HistoryMessage | None, history: Sequence[HistoryMessage]) -> Said | None:
    """What the question replies to, where that is not just what was said before it."""
    before = history[-2].id if len(history) > 1 else None
    if referred is None or referred.id == before:
        return None
    return Said(referred.author_name or "you", referred.text)


def _finish_reason(answer: Answer) -> TurnFinish:
    if answer.cancelled:
        return "cancelled"
    if answer.error is not None:
        return "failed"
    return answer.completion.reason if answer.completion else "stop"
