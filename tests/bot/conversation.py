"""Messages to answer, and what the database remembers of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from bot.answer import Answerer
from bot.chat import Author, ConversationKey, IncomingMessage, Via
from bot.respond import Responder
from model.protocol import Engine
from model.request import SamplingParams
from storage import tables
from storage.database import Database

CHANNEL = ConversationKey("discord", "guild", "general")
ADA, BO = Author("1", "Ada"), Author("2", "Bo")
_numbers = itertools.count(1)


def message(
    text: str,
    *,
    author: Author = ADA,
    conversation: ConversationKey = CHANNEL,
    message_id: str = "",
    via: Via = "mention",
    private: bool = False,
) -> IncomingMessage:
    return IncomingMessage(
        conversation=conversation,
        message_id=message_id or f"x{next(_numbers)}",
        author=author,
        text=text,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        via=via,
        private=private,
    )


def answerer(engine: Engine, database: Database, **changes: Any) -> Answerer:
    settings: dict[str, Any] = {
        "persona": "Be kind.",
        "build_sampling": lambda health: SamplingParams(seed=1),
        "reply_seconds": 60.0,
    }
    return Answerer(engine, database, **(settings | changes))


def responder(engine: Engine, database: Database, **changes: Any) -> Responder:
    return Responder(answerer(engine, database, **changes), database)


@dataclass(frozen=True)
class Stored:
    role: str
    text: str


async def stored_messages(database: Database) -> list[Stored]:
    async with database.reading() as session:
        rows = await session.execute(
            select(tables.Message.role, tables.Message.text).order_by(tables.Message.id)
        )
        return [Stored(*row) for row in rows]


async def stored_turns(database: Database) -> Sequence[tables.Turn]:
    async with database.reading() as session:
        return (await session.scalars(select(tables.Turn).order_by(tables.Turn.id))).all()
