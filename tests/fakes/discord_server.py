"""A Discord on loopback for tests with the real discord.py: state, gateway and REST behind one pleasant handle.

async with FakeDiscord() as discord:
    anna = discord.add_user("Anna")
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ...                                   # start a client on discord.api_url and discord.gateway_url
    await discord.wait_for(lambda: discord.connected)
    await discord.say(channel, anna, f"{discord.bot.mention} hello")
    await discord.wait_for(lambda: discord.answers(channel))
    given = await discord.press(discord.answers(channel)[0], anna, "Correct")
    await discord.wait_for(lambda: given.modal)
    await discord.submit(discord.modal_of(given), anna, text="better")

discord_world.py tells what else a test can build or let happen, discord_using.py how people use the bot.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web

from tests.fakes.discord_commands import Commands
from tests.fakes.discord_gateway import DIRECT_TYPING, GUILD_TYPING, Gateway
from tests.fakes.discord_http import Desk, Failure, Handler
from tests.fakes.discord_interactions import Interactions
from tests.fakes.discord_messages import Messages
from tests.fakes.discord_reactions import Reactions
from tests.fakes.discord_rest import Rest
from tests.fakes.discord_state import (
    DEFAULT,
    REPLY,
    Channel,
    Json,
    Message,
    State,
    User,
)
from tests.fakes.discord_threads import Threads
from tests.fakes.discord_using import Using
from tests.fakes.files import File, Shelf


class FakeDiscord(Using):
    """`message_content` is the portal's switch for the privileged intent; `limit` in `seconds` a route's limit."""

    def __init__(
        self,
        *,
        token: str = "discord-token-of-the-tests",
        message_content: bool = False,
        heartbeat_seconds: float = 45.0,
        limit: int = 50,
        seconds: float = 1.0,
    ) -> None:
        self.state = State(token=token, message_content=message_content)
        self.gateway = Gateway(self.state, heartbeat_seconds=heartbeat_seconds)
        self.desk = Desk(self.state, limit, seconds)
        self.shelf = Shelf()
        self.address = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        for part in (Rest, Commands, Messages, Reactions, Threads, Interactions):
            for method, path, handler in part(self.state, self.gateway).routes():
                take = self._take(handler, with_token=part is not Interactions)
                app.router.add_route(method, f"/api/v10{path}", take)
        app.router.add_get("/gateway/", self.gateway.connect)
        app.router.add_get(r"/cdn/attachments/{channel}/{number:\d+}/{name}", self.shelf.hand_over)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.gateway.url = self.gateway_url
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self.gateway.close_sockets(1001)
        await self._runner.cleanup()

    def _take(self, handler: Handler, *, with_token: bool) -> Callable[[web.Request], Any]:
        async def take(request: web.Request) -> web.StreamResponse:
            return await self.desk.serve(request, handler, with_token=with_token)

        return take

    @property
    def token(self) -> str:
        return self.state.token

    @property
    def bot(self) -> User:
        return self.state.bot

    @property
    def api_url(self) -> str:
        return f"http://{self.address}/api/v10"

    @property
    def gateway_url(self) -> str:
        return f"ws://{self.address}/gateway/"

    @property
    def cdn_url(self) -> str:
        return f"http://{self.address}/cdn"

    # What people do.

    async def say(
        self,
        channel: Channel,
        user: User,
        text: str,
        *,
        reply_to: Message | None = None,
        ping: bool = True,
        files: Sequence[File] = (),
    ) -> Message:
        """Write a message; `ping` tells whether a reply notifies whom it answers, as its switch does."""
        mentions = self.state.mentioned_in(text)
        if reply_to is not None and ping and reply_to.author not in mentions:
            mentions += (reply_to.author,)
        message = Message(
            self.state.next_id(),
            channel,
            user,
            text,
            kind=REPLY if reply_to else DEFAULT,
            mentions=mentions,
            reply_to=reply_to.id if reply_to else None,
            shown=[text],
            attachments=[self._attach(channel, file) for file in files],
        )
        channel.messages[message.id] = message
        await self.gateway.dispatch_message("MESSAGE_CREATE", message)
        return message

    def _attach(self, channel: Channel, file: File) -> Json:
        """Signed for a day, as on Discord."""
        number = self.state.next_id()
        self.shelf.add(number, file)
        url = f"{self.cdn_url}/attachments/{channel.id}/{number}/{quote(file.name)}?ex=1&is=1&hm=1"
        about = {"filename": file.name, "size": len(file.data), "content_type": file.media_type}
        return {"id": str(number), **about, "url": url, "proxy_url": url}

    async def type(self, channel: Channel, user: User) -> None:
        """Begin to write something, as everybody who may read the channel sees."""
        place = {"guild_id": str(channel.guild.id)} if channel.guild else {}
        started = {"channel_id": str(channel.id), "user_id": str(user.id), "timestamp": int(time.time())}
        intent = GUILD_TYPING if channel.guild else DIRECT_TYPING
        await self.gateway.dispatch("TYPING_START", intent, lambda _: {**place, **started}, channel)

    # What can go wrong.

    def fail(
        self, method: str, path: str, status: int, *, times: int = 1, applied: bool = False, **body: Any
    ) -> None:
        """Answer the next requests with `status` (0 cuts the connection). A 429 takes `retry_after` seconds."""
        self.desk.failures.append(Failure(method, re.compile(path), status, body, times, applied))

    @asynccontextmanager
    async def outage(self, *, code: int = 4000) -> AsyncIterator[None]:
        """Close every gateway connection, and let nobody in before the block ends."""
        self.gateway.open.clear()
        await self.gateway.close_sockets(code)
        try:
            yield
        finally:
            self.gateway.open.set()

    async def invalidate_sessions(self) -> None:
        """Forget every session and say so with op 9: a client must begin anew."""
        self.gateway.sessions.clear()
        await self.gateway.say({"op": 9, "s": None, "t": None, "d": False})

    def expire_commands(self) -> None:
        """Let the 15 minutes of every slash command be over."""
        for interaction in self.state.interactions.values():
            interaction.expired = True

    # What there is to see.

    @property
    def connected(self) -> bool:
        return self.gateway.connected

    def messages(self, channel: Channel) -> list[Message]:
        return list(channel.messages.values())

    def answers(self, channel: Channel) -> list[Message]:
        """The bot's messages in a channel, but for those that still say that it thinks."""
        return [m for m in channel.messages.values() if m.author is self.bot and m.shown]

    def pings(self) -> list[Message]:
        """Every message of the bot that notified somebody."""
        channels = self.state.channels.values()
        sent = [m for c in channels for m in c.messages.values() if m.author is self.bot]
        private = [m for i in self.state.interactions.values() for m in i.messages]
        return [message for message in dict.fromkeys(sent + private) if message.pings]

    async def wait_for(self, happened: Callable[[], object], *, seconds: float = 10.0) -> None:
        """Wait until `happened()` is true; it is asked after every change in the fake."""
        try:
            async with asyncio.timeout(seconds), self.state.changed:
                await self.state.changed.wait_for(lambda: bool(happened()))
        except TimeoutError:
            seen = [f"{r.method} {r.path}" for r in self.desk.requests[-20:]]
            raise AssertionError(f"It did not happen within {seconds} s. Last requests: {seen}") from None
