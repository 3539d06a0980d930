"""A fake Slack on loopback, for tests with the real client library: Web API, Socket Mode and response_url.

    async with FakeSlack() as slack:
        ada, channel = slack.add_user("ada"), slack.add_channel("general")
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.wait_for(lambda: slack.answers(channel) != [])

People, channels and messages are named by Slack's ids. Nothing here polls: `wait_for` looks again after each
request, acknowledgement and connection.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web

from tests.fakes.files import File, Shelf
from tests.fakes.slack_http import Call, Failure, SlackHttp
from tests.fakes.slack_socket import Envelope, SocketMode
from tests.fakes.slack_state import Ephemeral, Json, Message, SlackState, View
from tests.fakes.slack_web_api import WebApi

BOT_EVENTS = ("app_mention", "message.channels", "message.groups", "message.im", "reaction_added")
BOT_SCOPES = (
    "app_mentions:read",
    "channels:history",
    "chat:write",
    "commands",
    "files:read",
    "groups:history",
    "im:history",
    "reactions:read",
    "users:read",
)
_SUBSCRIPTIONS = {"channel": "message.channels", "group": "message.groups", "im": "message.im"}


class FakeSlack:
    """One workspace with one app. `state`, `socket` and `http` are there to look at and to set the scene."""

    bot_token = "xoxb-fake-bot-token"
    app_token = "xapp-fake-app-token"

    def __init__(
        self,
        *,
        scopes: Collection[str] = BOT_SCOPES,
        app_scopes: Collection[str] = ("connections:write",),
        events: Collection[str] = BOT_EVENTS,
    ) -> None:
        self._changed = asyncio.Condition()
        self._events = set(events)
        self._address = ""
        self.state = SlackState()
        self.api = WebApi(self.state, scopes)
        self.socket = SocketMode(self.state.app_id, self._notify)
        self.shelf = Shelf()
        self.http = SlackHttp(
            state=self.state,
            api=self.api,
            socket=self.socket,
            app_scopes=set(app_scopes),
            bot_token=self.bot_token,
            app_token=self.app_token,
            send_event=self.send_event,
            changed=self._notify,
        )

    # Who and what there is

    @property
    def api_url(self) -> str:
        return f"{self._address}/api/"

    @property
    def bot_user(self) -> str:
        return self.state.bot.id

    @property
    def team(self) -> str:
        return self.state.team

    @property
    def calls(self) -> list[Call]:
        return self.http.calls

    @property
    def ephemerals(self) -> list[Ephemeral]:
        return self.state.ephemerals

    def add_user(self, name: str, *, display_name: str = "", bot: bool = False, admin: bool = False) -> str:
        return self.state.add_user(name, display_name=display_name, bot=bot, admin=admin).id

    def add_channel(self, name: str, *, private: bool = False, bot_inside: bool = True) -> str:
        """A channel with everybody in it."""
        members = {user for user in self.state.users if bot_inside or user != self.bot_user}
        return self.state.add_channel(name, "group" if private else "channel", members).id

    def open_dm(self, user: str) -> str:
        return self.state.open_dm(user).id

    def messages(self, channel: str, thread: str | None = None) -> list[Message]:
        """What people see in the channel and its threads, or in one thread, oldest first."""
        return [m for m in self.state.messages(channel) if thread in (None, m.ts, m.thread)]

    def answers(self, channel: str) -> list[Message]:
        """What the bot has posted there."""
        return [m for m in self.messages(channel) if m.user == self.bot_user]

    # What happens

    async def say(
        self,
        channel: str,
        user: str,
        text: str,
        *,
        thread: str | None = None,
        mention_first: bool = False,
        files: Sequence[File] = (),
        **fields: Any,
    ) -> str:
        """A message by a person or by another app (`subtype`, `bot_id` in `fields`); its ts.

        A mention in a channel is two events, `message` and `app_mention`, with two ids and the same ts.
        """
        if files:
            fields = {"subtype": "file_share", "files": [self._attach(file) for file in files], **fields}
        message = self.state.add_message(channel, user, text, thread=thread, **fields)
        events = [self.api.message_event(message)]
        if f"<@{self.bot_user}" in text and self.state.channels[channel].kind != "im":
            twin = events[0] | {"type": "app_mention"}
            twin.pop("channel_type")
            twin.pop("subtype", None)
            events.insert(0 if mention_first else 1, twin)
        for event in events:
            await self.send_event(event)
        await self._notify()
        return message.ts

    async def send_event(self, event: Json) -> Envelope | None:
        """Any event; None where the app has not subscribed to it or is not in the channel."""
        channel = self.state.channels.get(event.get("channel", ""))
        kind = event["type"]
        if kind == "message" and channel is not None:
            kind = _SUBSCRIPTIONS[channel.kind]
        outside = channel is not None and self.bot_user not in channel.members
        if outside or (kind in BOT_EVENTS and kind not in self._events):
            return None
        return await self.socket.send("events_api", self._event_callback(event))

    async def use_command(self, command: str, text: str, user: str, channel: str) -> Envelope:
        """`/command text`; the envelope, to look at its acknowledgement."""
        body = {
            "token": "verification",
            "team_id": self.team,
            "team_domain": "example",
            "channel_id": channel,
            "channel_name": self._channel_name(channel),
            "user_id": user,
            "user_name": self.state.users[user].name,
            "command": command,
            "text": text,
            "api_app_id": self.state.app_id,
            "is_enterprise_install": "false",
        }
        return await self.socket.send("slash_commands", body | self._interaction(channel, user))

    async def edit_message(self, channel: str, ts: str, text: str) -> None:
        """By who wrote it."""
        message = self.state.get_message(channel, ts)
        before = message.as_json()
        message.shown.append(text)
        after = message.as_json()
        await self.send_event(
            self.api.change_event("message_changed", message, message=after, previous_message=before)
        )

    async def delete_message(self, channel: str, ts: str) -> None:
        """By who wrote it. Where a thread hangs on it, a tombstone stays."""
        message = self.state.get_message(channel, ts)
        before = message.as_json()
        if any(reply.thread == ts for reply in self.state.messages(channel) if reply.ts != ts):
            message.subtype, message.user = "tombstone", "USLACKBOT"
            message.shown.append("This message was deleted.")
            fields: Json = {"message": message.as_json()}
            event = self.api.change_event("message_changed", message, previous_message=before, **fields)
        else:
            message.deleted = True
            event = self.api.change_event("message_deleted", message, deleted_ts=ts, previous_message=before)
        await self.send_event(event)
        await self._notify()

    async def react(self, message: Message, user: str, name: str) -> None:
        message.reactions.setdefault(name, set()).add(user)
        item = {"type": "message", "channel": message.channel, "ts": message.ts}
        event = {"type": "reaction_added", "user": user, "reaction": name, "item": item}
        whose = {"item_user": message.user, "event_ts": self.state.new_ts()}
        if "reactions:read" in self.api.scopes and "reaction_added" in self._events:
            await self.socket.send("events_api", self._event_callback(event | whose))

    async def press(self, message: Message, user: str, label: str) -> Envelope:
        """The button with this label under a message."""
        return await self.press_button(message, user, message.button(label)["action_id"])

    async def press_button(self, message: Message, user: str, action: str) -> Envelope:
        threaded = {"thread_ts": message.thread} if message.thread else {}
        place = {"message_ts": message.ts, "channel_id": message.channel, "is_ephemeral": False}
        pressed = {"type": "button", "action_id": action, "block_id": "buttons", "value": action}
        body = {
            "type": "block_actions",
            "api_app_id": self.state.app_id,
            "team": {"id": self.team, "domain": "example"},
            "user": self._who(user),
            "channel": {"id": message.channel, "name": self._channel_name(message.channel)},
            "message": message.as_json(),
            "container": {"type": "message", **place, **threaded},
            "actions": [pressed | {"action_ts": self.state.new_ts()}],
        }
        return await self.socket.send("interactive", body | self._interaction(message.channel, user))

    async def submit(self, view: View, **typed: str) -> Envelope:
        """A form whose fields have the names of their blocks."""
        values = {
            block["block_id"]: {
                block["element"]["action_id"]: {
                    "type": block["element"]["type"],
                    "value": typed.get(block["block_id"]),
                }
            }
            for block in view.content["blocks"]
        }
        body = {
            "type": "view_submission",
            "api_app_id": self.state.app_id,
            "team": {"id": self.team, "domain": "example"},
            "user": self._who(view.user),
            "trigger_id": self.state.new_trigger(view.user),
            "view": {**view.content, "id": view.id, "state": {"values": values}},
            "response_urls": [],
        }
        return await self.socket.send("interactive", body)

    def fail_next(self, method: str, error: str, *, retry_after: int | None = None, times: int = 1) -> None:
        """The next `times` calls of `method` are refused; with `retry_after` (seconds) by 429."""
        self.http.failures += [Failure(method, error, retry_after) for _ in range(times)]

    def drop_next(self, method: str, *, applied: bool) -> None:
        """The connection breaks in place of an answer, after the call took effect or before."""
        self.http.failures.append(Failure(method, "dropped", dropped=True, applied=applied))

    # Waiting

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        """Until `condition` holds. `TimeoutError` tells what the bot has said and asked for instead."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            said = [m.shown for m in self.state.all_messages if m.user == self.bot_user]
            raise TimeoutError(f"the bot said {said}; its last calls: {self.calls[-5:]}") from None

    async def wait_until_connected(self) -> None:
        await self.wait_for(lambda: bool(self.socket.sockets))

    async def wait_for_acks(self) -> None:
        await self.wait_for(lambda: all(envelope.acked for envelope in self.socket.envelopes))

    # The server

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self.http.serve_call)
        app.router.add_post("/commands/{key}", self.http.serve_response_url)
        app.router.add_get("/link", self.socket.serve)
        app.router.add_get(r"/files-pri/{team}-F{number:\d+}/{name}", self._hand_over)
        app.router.add_get("/login", self._log_in)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._address = "http://{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        await self._runner.cleanup()

    def _attach(self, file: File) -> Json:
        number = self.state.number()
        self.shelf.add(number, file)
        url = f"{self._address}/files-pri/{self.team}-F{number:08}/{quote(file.name)}"
        about = {"name": file.name, "title": file.name, "mimetype": file.media_type, "size": len(file.data)}
        return {"id": f"F{number:08}", "mode": "hosted", "is_external": False, **about, "url_private": url}

    async def _hand_over(self, request: web.Request) -> web.StreamResponse:
        """Whoever may not read it is sent to the login, and gets no error."""
        allowed = request.headers.get("Authorization") == f"Bearer {self.bot_token}"
        if not allowed or "files:read" not in self.api.scopes:
            self.shelf.asked.append(dict(request.headers))
            return web.Response(status=302, headers={"Location": "/login"})
        return await self.shelf.hand_over(request)

    async def _log_in(self, request: web.Request) -> web.Response:
        return web.Response(text="<title>Login | Slack</title>", content_type="text/html")

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _who(self, user: str) -> Json:
        name = self.state.users[user].name
        return {"id": user, "username": name, "name": name, "team_id": self.team}

    def _channel_name(self, channel: str) -> str:
        place = self.state.channels[channel]
        names = {"im": "directmessage", "group": "privategroup", "channel": place.name}
        return names[place.kind]

    def _interaction(self, channel: str, user: str) -> Json:
        return {
            "trigger_id": self.state.new_trigger(user),
            "response_url": self.http.new_response_url(self._address, channel, user),
        }

    def _event_callback(self, event: Json) -> Json:
        installed = {"team_id": self.team, "user_id": self.bot_user, "is_bot": True, "enterprise_id": None}
        return {
            "type": "event_callback",
            "token": "verification",
            "team_id": self.team,
            "context_team_id": self.team,
            "api_app_id": self.state.app_id,
            "event": event,
            "event_id": f"Ev{self.state.number():08}",
            "event_time": int(self.state.now()),
            "event_context": f"4-{self.state.number():08}",
            "is_ext_shared_channel": False,
            "authorizations": [installed],
        }
