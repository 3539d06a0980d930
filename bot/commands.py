"""The commands that answer with one text, the same on every platform. A platform only says how they are called."""

from dataclasses import asdict

from bot.chat import CommandCall, PlatformName
from model.protocol import Engine
from storage.conversations import find_conversation, reset_conversation
from storage.database import Database

HOW_TO_TALK: dict[PlatformName, str] = {
    "discord": "Mention me, reply to me, write me a direct message, or use `/chat`.",
    "slack": "Mention me, write in a thread I am in, send me a direct message, or use `/parley your question`.",
    "terminal": "Type a message and press Enter. Ctrl-C stops an answer.",
}
COMMANDS: dict[PlatformName, dict[str, str]] = {
    "discord": {
        "/chat": "ask me something",
        "/reset": "forget what was said here and start afresh",
        "/help": "show this",
    },
    "slack": {
        "/parley …": "ask me something",
        "/parley reset": "forget what was said here and start afresh",
        "/parley help": "show this",
        "@Parley !reset, @Parley !help": "the same, also in a thread",
    },
    "terminal": {
        "/reset": "forget what was said here and start afresh",
        "/help": "show this",
        "/quit": "leave",
    },
}


class Commands:
    def __init__(self, engine: Engine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def run(self, call: CommandCall) -> str:
        match call.name:
            case "help":
                return await self._help(call)
            case "reset":
                return await self._reset(call)
        return f"There is no command {call.name}. Try help."

    async def _help(self, call: CommandCall) -> str:
        platform = call.conversation.platform
        health = await self._engine.health()
        lines = [f"{command} - {meaning}" for command, meaning in COMMANDS[platform].items()]
        return "\n".join(
            [
                f"I am Parley, a chatbot that runs on this community's own machine, now with {health.model}.",
                HOW_TO_TALK[platform],
                *lines,
            ]
        )

    async def _reset(self, call: CommandCall) -> str:
        async with self._database.transaction() as tx:
            conversation = await find_conversation(tx, **asdict(call.conversation))
            if conversation is None:
                return "There is nothing to forget: we have not talked here yet."
            await reset_conversation(tx, conversation)
        return "Done: I start afresh here. What was said before is no longer part of what I see."
