"""An engine that answers at once, in words that tell which question they answer and which generation they are."""

import asyncio
import random
import re
import secrets
import time
from collections.abc import AsyncGenerator, Sequence

from rich.console import Console

from bot.settings import Settings
from model.errors import BadRequest
from model.request import AdapterRef, ChatMessage, Completion, Delta, EngineHealth, GenerationRequest

LONG_EVERY = 6
"""One answer in so many is longer than one message of the platform."""
LONG_LINES, SHORT_LINES = 75, 3
SLOWEST = 0.3
QUESTION = re.compile(r"\bq(\d+)\b")
MARKER = re.compile(r"\[q(\d+) g([0-9a-f]{6}) (\d+)/(\d+)\]")
WORDS = "tea is warm & the tide is < the moon, so we wait for the morning > and then walk on slowly"


def compose(question: int, generation: str) -> str:
    """The whole answer. Each line says whose it is, which of how many, and of which generation."""
    lines = LONG_LINES if question % LONG_EVERY == 0 else SHORT_LINES
    return "\n".join(f"[q{question} g{generation} {line}/{lines}] {WORDS}." for line in range(1, lines + 1))


def new_generation() -> str:
    return secrets.token_hex(3)


def number_in(text: str) -> int | None:
    """The number of the question that `text` asks; what it replies to stands before it."""
    found = QUESTION.findall(text)
    return int(found[-1]) if found else None


class EchoEngine:
    """Satisfies `Engine`. Streams over at most `SLOWEST` seconds; no prompt is ever too long for it."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        return self._generate(request)

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        began = time.monotonic()
        asked = next(message.content for message in reversed(request.messages) if message.role == "user")
        text = compose(number_in(asked) or 0, new_generation())
        pieces = random.randint(2, 8)
        size, pause = -(-len(text) // pieces), random.uniform(0, SLOWEST) / pieces
        for start in range(0, len(text), size):
            await asyncio.sleep(pause)
            yield Delta(text[start : start + size])
        seconds = time.monotonic() - began
        yield Delta("", Completion("stop", 1, len(text.split()), 0, 0, 0.0, pause, seconds))

    async def prefetch(self, request: GenerationRequest) -> None:
        """Nothing to do."""

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return len(messages)

    async def load_adapter(self, ref: AdapterRef) -> None:
        raise BadRequest(f"The echo has no adapters, so {ref.name!r} cannot be loaded.")

    async def health(self) -> EngineHealth:
        return EngineHealth("echo", "echo@1", "cpu", "float32", 1, 1_000_000)

    async def close(self) -> None:
        """Nothing to do."""


async def open_echo(settings: Settings, console: Console) -> EchoEngine:
    """In place of `bot.app.open_engine`."""
    return EchoEngine()
