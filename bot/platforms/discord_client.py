"""Discord as a platform: logs in, hands what people say to the core, and begins the answers."""

import asyncio
from collections.abc import Callable
from typing import ClassVar

import discord
import structlog
import yarl

from bot.chat import IncomingMessage, PlatformName, Prepare, Respond, RunCommand
from bot.errors import PlatformRefused
from bot.platforms.discord_commands import CommandTree, add_commands
from bot.platforms.discord_incoming import read_message, read_typing
from bot.platforms.discord_reply import UNREACHABLE, ChannelSink
from bot.streaming import MessageSink, StreamedReply

log = structlog.get_logger()

SECONDS_BEFORE_IDENTIFY = 5.0
"""Discord takes one IDENTIFY in five seconds."""
LONGEST_PAUSE = 60.0
LOGIN_REFUSED = (
    "Discord refused the token in DISCORD_TOKEN. Copy it again from the Bot page of your application on "
    "https://discord.com/developers/applications; Reset Token shows a new one."
)
INTENT_REFUSED = (
    "Discord refused the Message Content intent, which PARLEY_DISCORD_MESSAGE_CONTENT asks for. Switch on "
    "Message Content Intent on the Bot page of your application on https://discord.com/developers/applications, "
    "or set PARLEY_DISCORD_MESSAGE_CONTENT=false."
)
AUTHENTICATION_FAILED = 4004


class DiscordPlatform:
    """Answers mentions, replies, direct messages and slash commands.

    With `message_content`, the privileged intent, also what is said without a mention in threads.
    """

    name: ClassVar[PlatformName] = "discord"

    def __init__(
        self,
        *,
        token: str,
        respond: Respond,
        run_command: RunCommand,
        prepare: Prepare,
        edit_seconds: float,
        api_url: str,
        gateway_url: str,
        cdn_url: str,
        message_content: bool = False,
        seconds_before_identify: float = SECONDS_BEFORE_IDENTIFY,
    ) -> None:
        self._token = token
        self._respond = respond
        self._run_command = run_command
        self._prepare = prepare
        self._edit_seconds = edit_seconds
        self._addresses = (api_url, gateway_url, cdn_url)
        self._message_content = message_content
        self._seconds_before_identify = seconds_before_identify
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled. Raises `PlatformRefused` when Discord does not want this bot.

        discord.py comes back by itself once it was connected; until then we try again, ever more slowly.
        """
        use_addresses(*self._addresses)
        pause = 1.0
        while True:
            try:
                await self._serve()
            except (discord.HTTPException, *UNREACHABLE) as error:
                log.warning(
                    "Discord could not be reached", reason=str(error)[:200], next_try_in_seconds=pause
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _serve(self) -> None:
        client = Client(
            begin_answer=self._begin_answer,
            run_command=self._run_command,
            prepare=self._prepare,
            message_content=self._message_content,
            seconds_before_identify=self._seconds_before_identify,
        )
        async with client:
            try:
                await client.start(self._token)
            except discord.LoginFailure as error:
                raise PlatformRefused(LOGIN_REFUSED) from error
            except discord.PrivilegedIntentsRequired as error:
                raise PlatformRefused(INTENT_REFUSED) from error
            except discord.ConnectionClosed as error:
                raise PlatformRefused(_refusal(error.code)) from error
            finally:
                await self._end_answers()

    def _begin_answer(self, message: IncomingMessage, sink: MessageSink) -> None:
        """In a task of its own, so that the gateway is never held up."""
        task = asyncio.create_task(self._answer(message, sink), name=f"answer {message.message_id}")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, message: IncomingMessage, sink: MessageSink) -> None:
        try:
            await self._respond(message, StreamedReply(sink, edit_seconds=self._edit_seconds))
        except Exception:
            log.exception("an answer failed", conversation=str(message.conversation))

    async def _end_answers(self) -> None:
        """Cancel what is being answered, while the client is still there to say so."""
        while self._answers:  # one may have begun while the others ended
            for task in self._answers:
                task.cancel()
            await asyncio.gather(*self._answers, return_exceptions=True)


class Client(discord.Client):
    """discord.py's client with as little as Parley needs: no message cache, few intents, no pings."""

    def __init__(
        self,
        *,
        begin_answer: Callable[[IncomingMessage, MessageSink], None],
        run_command: RunCommand,
        prepare: Prepare,
        message_content: bool,
        seconds_before_identify: float,
    ) -> None:
        intents = discord.Intents(
            guilds=True,
            guild_messages=True,
            guild_typing=True,
            dm_messages=True,
            dm_typing=True,
            message_content=message_content,
        )
        super().__init__(intents=intents, max_messages=None, allowed_mentions=discord.AllowedMentions.none())
        self._begin_answer = begin_answer
        self._prepare = prepare
        self._seconds_before_identify = seconds_before_identify
        self._tree = CommandTree(self)
        add_commands(self._tree, answer=begin_answer, run_command=run_command)

    async def setup_hook(self) -> None:
        try:
            await self._tree.sync()
        except discord.HTTPException as error:
            log.warning("Discord did not take the slash commands", reason=str(error))

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        if not initial:
            await asyncio.sleep(self._seconds_before_identify)

    async def on_connect(self) -> None:
        log.info("connected to Discord", bot=str(self.user))

    async def on_message(self, message: discord.Message) -> None:
        assert self.user is not None
        said = read_message(message, self.user, reads_threads=self.intents.message_content)
        if said is not None:
            place = self.get_partial_messageable(
                message.channel.id, guild_id=message.guild.id if message.guild else None
            )
            self._begin_answer(said, ChannelSink(place, message.to_reference(fail_if_not_exists=False)))

    async def on_raw_typing(self, event: discord.RawTypingEvent) -> None:
        assert self.user is not None
        if event.user_id != self.user.id:
            guild = self.get_guild(event.guild_id) if event.guild_id else None
            await self._prepare(read_typing(event, guild))

    async def on_error(self, event_method: str, /, *args: object, **kwargs: object) -> None:
        log.exception("an event from Discord failed", event_name=event_method)


def use_addresses(api_url: str, gateway_url: str, cdn_url: str) -> None:
    """Point discord.py at a server. It keeps its addresses in classes: one process talks to one Discord."""
    discord.http.Route.BASE = api_url.rstrip("/")
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway_url)
    discord.Asset.BASE = cdn_url.rstrip("/")


def _refusal(code: int) -> str:
    if code == AUTHENTICATION_FAILED:
        return LOGIN_REFUSED
    return f"Discord closed the connection for good, with code {code}; its gateway documentation explains it."
