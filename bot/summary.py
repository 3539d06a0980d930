"""What no longer fits a prompt is remembered in short: the model itself writes it, when an answer is through."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import structlog

from model.errors import EngineError
from model.protocol import Engine
from model.request import ChatMessage, GenerationRequest, SamplingParams
from storage.conversations import (
    Conversation,
    HistoryMessage,
    Summary,
    find_summary,
    list_history,
    save_summary,
)
from storage.database import Database, Session

log = structlog.get_logger()

Summaries = Literal["auto", "on", "off"]

ABLE = 300_000_000
"""Parameters below which a model's summaries do more harm than good."""
FEWEST = 6
"""Messages that are worth a summary."""
LONGEST = 220
"""Tokens of a summary."""
TASK = (
    "Write a short summary of the conversation below, in its own language: who the people are, what they want, what "
    "was settled. Facts only, at most five sentences, no introduction."
)


@dataclass(frozen=True, slots=True)
class Summariser:
    engine: Engine
    database: Database
    mode: Summaries = "auto"

    async def summarise(self, conversation: Conversation, first_seen: int) -> Summary | None:
        """Take in what was said before the message `first_seen`, if that is worth it. What fails is tried again with a
        later answer."""
        if self.mode == "off":
            return None
        health = await self.engine.health()
        if self.mode == "auto" and health.parameters < ABLE:
            return None

        def read(session: Session) -> tuple[Summary | None, list[HistoryMessage]]:
            history = list_history(session, conversation, limit=200)
            return find_summary(session, conversation), [said for said in history if said.id < first_seen]

        known, past = await self.database.read(read)
        new = [said for said in past if known is None or said.id > known.upto]
        if len(new) < FEWEST:
            return None
        try:
            text = await self._write(conversation, known, new, health.context_tokens)
        except EngineError as error:
            log.info("a summary was not written", reason=str(error))
            return None
        if not text:
            return None
        summary = Summary(text, new[-1].id)
        await self.database.write(save_summary, conversation, summary)
        return summary

    async def _write(
        self,
        conversation: Conversation,
        known: Summary | None,
        new: Sequence[HistoryMessage],
        context_tokens: int,
    ) -> str:
        lines = [f"{said.author_name or 'You'}: {' '.join(said.text.split())}" for said in new]
        before = [f"So far: {known.text}"] if known is not None else []
        while True:
            task = ChatMessage("user", "\n\n".join([TASK, *before, "\n".join(lines)]))
            if len(lines) == 1 or await self.engine.count_tokens((task,)) <= context_tokens - LONGEST:
                break
            lines = lines[len(lines) // 4 + 1 :]
        request = GenerationRequest(
            messages=(task,),
            sampling=SamplingParams(temperature=0.3, max_tokens=LONGEST, seed=0),
            conversation=f"summary/{conversation.id}",
        )
        text = ""
        async with aclosing(self.engine.generate(request)) as deltas:
            async for delta in deltas:
                text += delta.text
        return text.strip()
