"""A tiny bot on the real discord.py, with which the fake Discord is tested."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord
from discord import app_commands

from bot.platforms.discord_client import use_addresses
from tests.fakes.discord_places import Channel
from tests.fakes.discord_server import FakeDiscord

EVENTS = (
    "guild_join",
    "guild_remove",
    "thread_create",
    "thread_update",
    "thread_delete",
    "raw_reaction_add",
    "raw_reaction_remove",
    "raw_message_edit",
    "raw_message_delete",
)


class Listener(discord.Client):
    """Keeps what it hears, and begins without discord.py's pauses. `tree` holds its commands."""

    def __init__(self, intents: discord.Intents | None = None) -> None:
        super().__init__(intents=intents or discord.Intents(guilds=True, messages=True, reactions=True))
        self._connection.guild_ready_timeout = 0.05
        self.tree = app_commands.CommandTree(self)
        self.heard: asyncio.Queue[discord.Message] = asyncio.Queue()
        self.events: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        pass

    async def on_message(self, message: discord.Message) -> None:
        await self.heard.put(message)

    def dispatch(self, event: str, /, *args: object, **kwargs: object) -> None:
        super().dispatch(event, *args, **kwargs)
        if event in EVENTS:
            self.events.put_nowait((event, *args))

    async def event_of(self, name: str) -> tuple[object, ...]:
        """What the next event of this name brings; earlier ones are passed over."""
        async with asyncio.timeout(5):
            while True:
                event, *args = await self.events.get()
                if event == name:
                    return tuple(args)

    def place(self, channel: Channel) -> discord.PartialMessageable:
        return self.get_partial_messageable(channel.id, guild_id=channel.guild.id if channel.guild else None)


@asynccontextmanager
async def listening(fake: FakeDiscord, client: Listener | None = None) -> AsyncIterator[Listener]:
    use_addresses(fake.api_url, fake.gateway_url, fake.cdn_url)
    async with client or Listener() as bot:
        running = asyncio.create_task(bot.start(fake.token))
        await fake.wait_for(lambda: running.done() or fake.connected)
        await bot.wait_until_ready()
        yield bot
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
