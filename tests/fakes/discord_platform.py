"""Parley's Discord platform on the fake Discord, with a core that remembers what it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bot.chat import CommandCall, ConversationKey, IncomingMessage, Reply
from bot.platforms.discord_client import DiscordPlatform
from tests.fakes.discord_server import FakeDiscord


class FakeCore:
    """Answers every message with `answer`, unless `script` says otherwise; every command with its name."""

    def __init__(self) -> None:
        self.answer = "an answer"
        self.command_answer = "done: {name}"
        self.script: Callable[[IncomingMessage, Reply], Awaitable[None]] | None = None
        self.heard: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        self.calls: list[CommandCall] = []
        self.prepared: asyncio.Queue[ConversationKey] = asyncio.Queue()

    async def respond(self, message: IncomingMessage, reply: Reply) -> None:
        self.heard.put_nowait(message)
        if self.script is not None:
            await self.script(message, reply)
            return
        await reply.start()
        await reply.append(self.answer)
        await reply.finish()

    async def run_command(self, call: CommandCall) -> str:
        self.calls.append(call)
        return self.command_answer.format(name=call.name)

    async def prepare(self, conversation: ConversationKey) -> None:
        self.prepared.put_nowait(conversation)

    async def next_heard(self) -> IncomingMessage:
        return await asyncio.wait_for(self.heard.get(), 10)


def build_platform(
    discord: FakeDiscord, core: FakeCore, *, token: str | None = None, message_content: bool = False
) -> DiscordPlatform:
    return DiscordPlatform(
        token=discord.token if token is None else token,
        respond=core.respond,
        run_command=core.run_command,
        prepare=core.prepare,
        edit_seconds=0,
        api_url=discord.api_url,
        gateway_url=discord.gateway_url,
        cdn_url=discord.cdn_url,
        message_content=message_content,
        seconds_before_identify=0,
    )


@asynccontextmanager
async def serving(
    discord: FakeDiscord, core: FakeCore, *, message_content: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """The platform's running task, once it is connected. Leaving cancels it and waits for its end."""
    platform = build_platform(discord, core, message_content=message_content)
    running = asyncio.create_task(platform.run())
    try:
        await discord.wait_for(lambda: running.done() or discord.connected)
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
