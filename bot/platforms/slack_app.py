"""Slack as a platform: Socket Mode in, Web API out. Each message is answered in a task of its own."""

import asyncio
import logging
import re
from collections.abc import Coroutine
from typing import ClassVar

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.socket_mode.aiohttp import SocketModeClient

from bot.chat import CommandCall, IncomingMessage, PlatformName, Respond, RunCommand, Via
from bot.errors import DeliveryFailed
from bot.platforms.slack_api import TIMEOUT, SlackApi, open_api
from bot.platforms.slack_commands import COMMAND, read_command, reply_to_command
from bot.platforms.slack_incoming import Event, People, Seen, how_addressed, read_event
from bot.platforms.slack_login import Workspace, log_in, open_socket_url
from bot.platforms.slack_reply import ChannelSink, post_privately
from bot.streaming import StreamedReply

log = structlog.get_logger()


class SlackPlatform:
    name: ClassVar[PlatformName] = "slack"
    ping_seconds: ClassVar[float] = 5.0
    """How often the socket is tried; after four silent ones it is opened anew."""
    watch_seconds: ClassVar[float] = 30.0

    def __init__(
        self,
        *,
        bot_token: str,
        app_token: str,
        respond: Respond,
        run_command: RunCommand,
        edit_seconds: float,
        api_url: str = "https://slack.com/api/",
    ) -> None:
        self._bot_token = bot_token
        self._app_token = app_token
        self._respond = respond
        self._run_command = run_command
        self._edit_seconds = edit_seconds
        self._api_url = api_url

    async def run(self) -> None:
        """Serve until cancelled. Raises `PlatformRefused` when Slack refuses a token."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            api = open_api(self._bot_token, self._api_url, session)
            workspace = await log_in(api)
            socket_url = await open_socket_url(api, self._app_token)
            service = SlackService(api, workspace, self._respond, self._run_command, self._edit_seconds)
            handler = AsyncSocketModeHandler(
                _build_app(service, api, workspace),
                self._app_token,
                logger=logging.getLogger("slack_sdk"),
                web_client=api.calling,
                ping_interval=self.ping_seconds,
            )
            handler.client.wss_uri = socket_url
            try:
                await handler.client.connect()  # type: ignore[no-untyped-call]
                log.info("connected to Slack", team=workspace.team)
                await self._watch(handler.client)
            finally:
                await _close(handler.client)
                await service.close()

    async def _watch(self, client: SocketModeClient) -> None:
        """The client connects anew by itself, but tries one address for ever; an address is soon out of date."""
        while True:
            await asyncio.sleep(self.watch_seconds)
            if not await client.is_connected():
                client.wss_uri = None


class SlackService:
    """What is done with each event while the socket is open. Listeners return at once."""

    def __init__(
        self,
        api: SlackApi,
        workspace: Workspace,
        respond: Respond,
        run_command: RunCommand,
        edit_seconds: float,
    ) -> None:
        self._api = api
        self._workspace = workspace
        self._respond = respond
        self._run_command = run_command
        self._edit_seconds = edit_seconds
        self._people = People(api.calling)
        self._seen = Seen()
        self._arrivals = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_message(self, event: Event) -> None:
        via = how_addressed(event, self._workspace)
        if via is not None and self._seen.is_new((event["channel"], event["ts"])):
            self._begin(self._answer(event, via))

    async def on_command(self, ack: AsyncAck, command: Event) -> None:
        await ack()
        self._begin(self._run(command))

    async def ignore(self) -> None:
        """Acknowledges what nobody listens to; Slack would deliver it again and again."""

    async def close(self) -> None:
        """End every answer that is on its way; each says that it was stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, event: Event, via: Via) -> None:
        # Names are looked up one message at a time, so that messages are handed on in the order of arrival.
        async with self._arrivals:
            message = await read_event(event, via, self._workspace, self._people)
        where = message.conversation
        sink = ChannelSink(self._api, where.channel, where.thread)
        await self._respond(message, StreamedReply(sink, edit_seconds=self._edit_seconds))

    async def _run(self, body: Event) -> None:
        async with self._arrivals:
            asked = await read_command(body, self._workspace, self._people)
        if isinstance(asked, IncomingMessage):
            reply = reply_to_command(self._api, asked, body["response_url"], edit_seconds=self._edit_seconds)
            await self._respond(asked, reply)
        else:
            await post_privately(body["response_url"], await self._outcome(asked))

    async def _outcome(self, call: CommandCall) -> str:
        try:
            return await self._run_command(call)
        except Exception:
            log.exception("a command failed", command=call.name)
            return f"Something went wrong with {call.name} on my side. The log has the details."

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DeliveryFailed):
            log.warning("an answer could not be shown", reason=str(error))
        elif error is not None:
            log.error("a message could not be handled", exc_info=error)


def _build_app(service: SlackService, api: SlackApi, workspace: Workspace) -> AsyncApp:
    async def authorize() -> AuthorizeResult:
        """Who the bot is, known since the login; Bolt would ask Slack again."""
        return AuthorizeResult(
            enterprise_id=None,
            team_id=workspace.team,
            bot_id=workspace.bot_id,
            bot_user_id=workspace.bot_user,
        )

    # Bolt's warnings are advice to its users' developers; its errors are worth a line.
    logger = logging.getLogger("slack_bolt.parley")
    logger.setLevel(logging.ERROR)
    app = AsyncApp(client=api.calling, authorize=authorize, logger=logger)
    app.event("app_mention")(service.on_message)
    app.event("message")(service.on_message)
    app.command(COMMAND)(service.on_command)
    app.event(re.compile(".*"))(service.ignore)
    return app


async def _close(client: SocketModeClient) -> None:
    tasks = [client.message_processor, client.current_session_monitor, client.message_receiver]
    await client.close()  # type: ignore[no-untyped-call]
    await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
