"""Messages to answer, and what the database remembers of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from bot.answer import Answerer
from bot.chat import Author, ConversationKey, IncomingMessage, Via
from bot.choices.book import Books
from bot.respond import Responder
from bot.settings import Settings
from bot.summary import Summariser
from model.protocol import Engine
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


def books(database: Database, **settings: Any) -> Books:
    """What is chosen in the workspaces of a database, over an installation's settings."""
    return Books(database, Settings(_env_file=None, **settings))  # type: ignore[call-arg]


def answerer(engine: Engine, database: Database, **settings: Any) -> Answerer:
    chosen: dict[str, Any] = {"persona": "Be kind.", "seed": 1, "reply_seconds": 60.0} | settings
    return Answerer(
        engine,
        database,
        books(database, **chosen),
        reply_seconds=chosen["reply_seconds"],
        summariser=Summariser(engine, database),
    )


def responder(engine: Engine, database: Database, **settings: Any) -> Responder:
    return Responder(answerer(engine, database, **settings), database)


@dataclass(frozen=True)
class Stored:
    role: str
    text: str


async def stored_messages(database: Database) -> list[Stored]:
    with database.reading() as session:
        rows = session.execute(select(tables.Message.role, tables.Message.text).order_by(tables.Message.id))
        return [Stored(*row) for row in rows]


async def stored_turns(database: Database) -> Sequence[tables.Turn]:
    with database.reading() as session:
        return (session.scalars(select(tables.Turn).order_by(tables.Turn.id))).all()
