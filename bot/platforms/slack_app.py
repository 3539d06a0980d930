"""Slack as a platform: Socket Mode in, Web API out. What is acknowledged is stored."""

import asyncio
import logging
import re
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, ClassVar

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.socket_mode.aiohttp import SocketModeClient

from bot.chat import CommandCall, ConversationKey, PlatformName
from bot.errors import DeliveryFailed
from bot.platforms.slack_api import TIMEOUT, SlackApi, open_api
from bot.platforms.slack_commands import COMMAND, read_command
from bot.platforms.slack_courier import SlackCourier
from bot.platforms.slack_incoming import Event, People, how_addressed, is_said_by_a_person, read_event
from bot.platforms.slack_login import Workspace, log_in, open_socket_url
from bot.platforms.slack_presses import RATED_DOWN, Presses
from bot.platforms.slack_private import tell_privately
from bot.use_cases import UseCases
from storage.errors import StorageError

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
        use_cases: UseCases,
        api_url: str = "https://slack.com/api/",
    ) -> None:
        self._bot_token = bot_token
        self._app_token = app_token
        self._use_cases = use_cases
        self._api_url = api_url

    async def run(self) -> None:
        """Serve until cancelled. Raises `PlatformRefused` when Slack refuses a token."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            api = open_api(self._bot_token, self._api_url, session)
            workspace = await log_in(api)
            socket_url = await open_socket_url(api, self._app_token)
            people = People(api.calling, workspace.team)
            service = SlackService(
                workspace,
                people,
                SlackCourier(api, workspace, people),
                Presses(api, workspace, people, self._use_cases.actions, self._use_cases.pointing),
                self._use_cases,
            )
            handler = AsyncSocketModeHandler(
                _build_app(service, api, workspace),
                self._app_token,
                logger=logging.getLogger("slack_sdk"),
                web_client=api.calling,
                ping_interval=self.ping_seconds,
            )
            handler.client.wss_uri = socket_url
            handler.client.message_listeners.append(service.on_socket_message)
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
    """What is done with each event. A listener that returns has stored it; one that raises is not acknowledged."""

    def __init__(
        self,
        workspace: Workspace,
        people: People,
        courier: SlackCourier,
        presses: Presses,
        use_cases: UseCases,
    ) -> None:
        self._workspace = workspace
        self._people = people
        self._courier = courier
        self._presses = presses
        self._delivery = use_cases.delivery
        self._run_command = use_cases.run_command
        self._listen = use_cases.listen
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_socket_message(self, _: object, message: dict[str, Any], __: str | None = None) -> None:
        """`hello`: a new connection. What was said before it is read from the history, and answered first."""
        if message.get("type") == "hello":
            self._delivery.connecting("slack")
            self._begin(self._delivery.connected(self._courier))

    async def on_message(self, event: Event) -> None:
        channel = ConversationKey("slack", self._workspace.team, event["channel"])
        match event.get("subtype"):
            case "message_changed":
                changed = event["message"]
                if changed.get("subtype") == "tombstone":  # deleted, but a thread hangs on it
                    await self._delivery.deleted(channel, changed["ts"])
                elif changed.get("user") != self._workspace.bot_user:  # not what the bot itself edits
                    await self._note_edit(channel, changed, event.get("previous_message") or {})
            case "message_deleted":
                await self._delivery.deleted(channel, event["deleted_ts"])
            case _:
                via = how_addressed(event, self._workspace)
                if via is not None:
                    await self._delivery.receive(read_event(event, via, self._workspace))
                elif not await self._overhear(event):
                    await self._delivery.watch([(channel, event.get("channel_type") == "im", event["ts"])])

    async def _overhear(self, event: Event) -> bool:
        """Whether it is answered although nobody addressed the bot: a wake word, or a place where it talks unasked."""
        if not is_said_by_a_person(event, self._workspace):
            return False
        for_others = (event.get("text") or "").lstrip().startswith("<@")
        heard = await self._listen(read_event(event, "wake", self._workspace), for_others=for_others)
        if heard is not None:
            await self._delivery.receive(heard)
        return heard is not None

    async def _note_edit(self, channel: ConversationKey, changed: Event, before: Event) -> None:
        """An edit of the words. Slack tells of a preview that it adds to a link in the same way."""
        text = changed.get("text") or ""
        if text != before.get("text"):
            readable = await self._people.read(text, self._workspace)
            await self._delivery.edited(channel, changed["ts"], text, readable=readable)

    async def on_command(self, ack: AsyncAck, command: Event) -> None:
        asked = read_command(command, self._workspace)
        if isinstance(asked, CommandCall):
            self._begin(self._answer_privately(asked, command["response_url"]))
        else:
            await self._delivery.receive(asked)
        await ack()

    async def on_press(self, ack: AsyncAck, body: Event) -> None:
        await ack()
        self._begin(self._presses.press(body))

    async def on_reason(self, ack: AsyncAck, body: Event) -> None:
        """The form stays open, with what was written, where it could not be stored."""
        said = await self._presses.take_reason(body)
        await ack()
        self._begin(self._presses.thank(body, said))

    async def on_reaction(self, event: Event) -> None:
        await self._presses.take_reaction(event)

    async def ignore(self) -> None:
        """Acknowledges what nobody listens to; Slack would deliver it again and again."""

    async def on_error(self, error: Exception) -> None:
        """Of a listener. It is not acknowledged, so Slack tells it again."""
        if isinstance(error, StorageError):
            log.error("an event waits for the database", reason=str(error))
        else:
            log.error("an event could not be handled", exc_info=error)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer_privately(self, call: CommandCall, response_url: str) -> None:
        try:
            author = await self._people.get(call.author.id)
            outcome = await self._run_command(replace(call, author=author))
        except Exception:
            log.exception("a command failed", command=call.name)
            outcome = f"Something went wrong with {call.name} on my side. The log has the details."
        await tell_privately(response_url, outcome)

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
            log.error("an event could not be handled", exc_info=error)


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
    # Acknowledged after the listener has returned: what is not stored comes again.
    app = AsyncApp(client=api.calling, authorize=authorize, logger=logger, process_before_response=True)
    app.event("app_mention")(service.on_message)
    app.event("message")(service.on_message)
    app.command(COMMAND)(service.on_command)
    app.action(re.compile(r"parley:.*"))(service.on_press)
    app.view(RATED_DOWN)(service.on_reason)
    app.event("reaction_added")(service.on_reaction)
    app.event(re.compile(".*"))(service.ignore)
    app.error(service.on_error)
    return app


async def _close(client: SocketModeClient) -> None:
    tasks = [client.message_processor, client.current_session_monitor, client.message_receiver]
    await client.close()  # type: ignore[no-untyped-call]
    await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
