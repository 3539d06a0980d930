"""An engine without a model: it streams the answers that a test has queued, and remembers what it was asked."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from model.errors import BadRequest, DeadlineExceeded, EngineDied, EngineError
from model.request import (
    AdapterRef,
    ChatMessage,
    Completion,
    Delta,
    EngineHealth,
    FinishReason,
    GenerationRequest,
)

Piece = str | asyncio.Event | EngineError
"""Text to stream, an event to wait for, or an error to raise."""

PIECE_LENGTH = 5
HEALTH = EngineHealth(
    model="fake",
    version="fake@00000000",
    device="cpu",
    dtype="float32",
    parameters=1_000_000,
    context_tokens=1000,
)


class Answer:
    """What the engine does for one request: its pieces in order, then the finish."""

    def __init__(self, *pieces: Piece, reason: FinishReason = "stop") -> None:
        self.pieces = pieces
        self.reason = reason


class FakeEngine:
    """Satisfies `Engine`. A queued text streams in small pieces; with nothing queued, `default` is the answer.

    A token is a word: `count_tokens` counts the words of all messages, and one more for each message.
    """

    def __init__(
        self, *answers: str | Answer, default: str | None = None, health: EngineHealth = HEALTH
    ) -> None:
        self.requests: list[GenerationRequest] = []
        self.prefetched: list[GenerationRequest] = []
        self.cancelled: list[GenerationRequest] = []
        """Requests whose iterator was closed before its end."""
        self._answers = deque(answers)
        self._default = default
        self._health = health
        self._running = 0
        self._closed = False

    def queue(self, *answers: str | Answer) -> None:
        self._answers.extend(answers)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        return self._generate(request, called_at=time.monotonic())

    async def prefetch(self, request: GenerationRequest) -> None:
        self._check_open()
        self.prefetched.append(request)

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return sum(len(message.content.split()) + 1 for message in messages)

    async def load_adapter(self, ref: AdapterRef) -> None:
        raise BadRequest(f"The fake engine cannot load the adapter {ref.name!r}.")

    async def health(self) -> EngineHealth:
        self._check_open()
        return replace(self._health, running=self._running)

    async def close(self) -> None:
        self._closed = True

    async def _generate(self, request: GenerationRequest, *, called_at: float) -> AsyncGenerator[Delta, None]:
        self._check_open()
        if request.adapter is not None:
            await self.load_adapter(request.adapter)
        self.requests.append(request)
        answer = self._next_answer()
        words = 0
        self._running += 1
        try:
            for piece in answer.pieces:
                for text in _cut(piece) if isinstance(piece, str) else ():
                    await self._pause(None, request, called_at)
                    yield Delta(text)
                if isinstance(piece, asyncio.Event):
                    await self._pause(piece, request, called_at)
                if isinstance(piece, EngineError):
                    raise piece
                words += len(piece.split()) if isinstance(piece, str) else 0
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled.append(request)
            raise
        finally:
            self._running -= 1
        yield Delta("", await self._complete(request, answer.reason, words, called_at))

    def _next_answer(self) -> Answer:
        if not self._answers:
            assert self._default is not None, "The test has queued no answer for this request."
            return Answer(self._default)
        answer = self._answers.popleft()
        return Answer(answer) if isinstance(answer, str) else answer

    async def _pause(self, event: asyncio.Event | None, request: GenerationRequest, called_at: float) -> None:
        """Let others run, or wait for the event; closing and the deadline are noticed here."""
        seconds = request.deadline_seconds
        try:
            async with asyncio.timeout(None if seconds is None else seconds - (time.monotonic() - called_at)):
                await (asyncio.sleep(0) if event is None else event.wait())
        except TimeoutError as error:
            raise DeadlineExceeded(f"The reply was not finished within {seconds:g} seconds.") from error
        self._check_open()

    async def _complete(
        self, request: GenerationRequest, reason: FinishReason, words: int, called_at: float
    ) -> Completion:
        seed = request.sampling.seed
        return Completion(
            reason=reason,
            prompt_tokens=await self.count_tokens(request.messages),
            completion_tokens=words,
            cached_tokens=0,
            seed=0 if seed is None else seed,
            queue_seconds=0.0,
            first_token_seconds=0.0,
            total_seconds=time.monotonic() - called_at,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise EngineDied("The engine was closed.")


def _cut(text: str) -> list[str]:
    return [text[start : start + PIECE_LENGTH] for start in range(0, len(text), PIECE_LENGTH)]
