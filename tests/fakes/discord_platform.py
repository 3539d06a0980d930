"""Parley's Discord platform on the fake Discord and a real delivery, with a core that remembers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from bot.answer import Answer, Question
from bot.chat import CommandCall, ConversationKey, IncomingMessage, Reply
from bot.delivery.desk import Delivery
from bot.platforms.discord_client import Client, DiscordPlatform
from storage.database import Database
from tests.bot.platforms.talker import Talker
from tests.fakes.discord_server import FakeDiscord

Say = Callable[[str], Awaitable[None]]
"""Adds to an answer."""


class FakeCore(Talker):
    """Answers every message with "an answer", unless `script` says otherwise; every command with its name."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, lambda message: ["an answer"])
        self.command_answer = "done: {name}"
        self.script: Callable[[IncomingMessage, Say], Awaitable[None]] | None = None
        self.prepared: asyncio.Queue[ConversationKey] = asyncio.Queue()

    async def answer(
        self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
    ) -> None:
        if self.script is None:
            await super().answer(message, question, answer, reply)
        else:
            self.asked.put_nowait(message)
            await self.script(message, partial(self.speak, answer=answer, reply=reply))

    async def run_command(self, call: CommandCall) -> str:
        self.commands.append(call)
        return self.command_answer.format(name=call.name)

    async def prepare(self, key: ConversationKey) -> None:
        self.prepared.put_nowait(key)

    async def next_asked(self) -> IncomingMessage:
        return await asyncio.wait_for(self.asked.get(), 10)


class HastyClient(Client):
    """Does not wait two seconds for more workspaces, as discord.py does, before it is ready."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._connection.guild_ready_timeout = 0.05


def build_platform(
    discord: FakeDiscord,
    core: FakeCore,
    *,
    delivery: Delivery | None = None,
    token: str | None = None,
    message_content: bool = False,
) -> DiscordPlatform:
    return DiscordPlatform(
        token=discord.token if token is None else token,
        use_cases=core.use_cases(delivery or core.open_delivery()),
        database=core.database,
        holder="parley",
        lease_seconds=30,
        api_url=discord.api_url,
        gateway_url=discord.gateway_url,
        cdn_url=discord.cdn_url,
        message_content=message_content,
    )


@asynccontextmanager
async def serving(
    discord: FakeDiscord, core: FakeCore, *, message_content: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """The platform's running task, once it is connected. Leaving ends the delivery, then the platform."""
    delivery = core.open_delivery()
    platform = build_platform(discord, core, delivery=delivery, message_content=message_content)
    with patch("bot.platforms.discord_client.Client", HastyClient):
        working, running = asyncio.create_task(delivery.run()), asyncio.create_task(platform.run())
        try:
            await discord.wait_for(lambda: running.done() or discord.connected)
            yield running
        finally:
            for task in (working, running):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
