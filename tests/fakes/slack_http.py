"""The fake Slack's HTTP side: reads a request in every form that Slack accepts, checks its token, answers or fails."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.slack_socket import SocketMode
from tests.fakes.slack_state import Ephemeral, Json, SlackError, SlackState
from tests.fakes.slack_web_api import WebApi

RESPONSE_URL_USES, RESPONSE_URL_SECONDS = 5, 30 * 60


@dataclass
class Call:
    """One request to the Web API and its answer; None where the connection was dropped."""

    method: str
    args: Json
    token: str
    answer: Json | None


@dataclass
class Failure:
    """What happens in place of the next answer of `method`."""

    method: str
    error: str
    retry_after: int | None = None
    dropped: bool = False
    applied: bool = False
    """Whether the call takes effect although no answer comes."""


@dataclass
class ResponseUrl:
    channel: str
    user: str
    made_at: float
    uses: int = 0


@dataclass
class SlackHttp:
    """`/api/METHOD` and `/commands/KEY`. `send_event` tells the app what its own calls did."""

    state: SlackState
    api: WebApi
    socket: SocketMode
    app_scopes: set[str]
    bot_token: str
    app_token: str
    send_event: Callable[[Json], Coroutine[None, None, object]]
    changed: Callable[[], Coroutine[None, None, None]]
    calls: list[Call] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    response_urls: dict[str, ResponseUrl] = field(default_factory=dict)

    def new_response_url(self, host: str, channel: str, user: str) -> str:
        key = f"{self.state.number():010}"
        self.response_urls[key] = ResponseUrl(channel, user, self.state.now())
        return f"{host}/commands/{key}"

    async def serve_call(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        args, token = await read_call(request)
        failure = self._take_failure(method)
        answer: Json | None = None
        if failure is None or failure.applied:
            answer = self._answer(method, dict(args), token, request.host)
        elif not failure.dropped:
            answer = {"ok": False, "error": failure.error}
        self.calls.append(Call(method, args, token, None if failure and failure.dropped else answer))
        await self._tell_app()
        if failure and failure.dropped and request.transport:
            request.transport.abort()
        return self._response(answer or {}, token, failure)

    async def serve_response_url(self, request: web.Request) -> web.Response:
        url = self.response_urls.get(request.match_info["key"])
        body = await request.json()
        if url is None or self.state.now() - url.made_at > RESPONSE_URL_SECONDS:
            return web.json_response({"ok": False, "error": "expired_url"}, status=404)
        if url.uses >= RESPONSE_URL_USES:
            return web.json_response({"ok": False, "error": "used_url"}, status=404)
        if not str(body.get("text") or "").strip():
            return web.Response(status=500, text="no_text")
        url.uses += 1
        if body.get("response_type") == "in_channel":
            message = self.state.add_message(url.channel, self.state.bot.id, body["text"])
            self.api.events.append(self.api.message_event(message))
        else:
            thread = body.get("thread_ts")
            self.state.ephemerals.append(Ephemeral(url.channel, url.user, body["text"], thread))
        await self._tell_app()
        return web.Response(text="ok")

    def _answer(self, method: str, args: Json, token: str, host: str) -> Json:
        try:
            self._check_token(method, token)
            if method == "apps.connections.open":
                return {"ok": True, "url": f"ws://{host}/link?ticket={self.socket.new_ticket()}"}
            return {"ok": True, **self.api.call(method, args)}
        except SlackError as error:
            return {"ok": False, "error": error.code, **error.details}

    def _check_token(self, method: str, token: str) -> None:
        if not token:
            raise SlackError("not_authed")
        if token not in (self.bot_token, self.app_token):
            raise SlackError("invalid_auth")
        if (token == self.app_token) != (method == "apps.connections.open"):
            raise SlackError("not_allowed_token_type")
        if token == self.app_token and "connections:write" not in self.app_scopes:
            provided = ",".join(sorted(self.app_scopes))
            raise SlackError("missing_scope", needed="connections:write", provided=provided)

    def _take_failure(self, method: str) -> Failure | None:
        for failure in self.failures:
            if failure.method == method:
                self.failures.remove(failure)
                return failure
        return None

    def _response(self, answer: Json, token: str, failure: Failure | None) -> web.Response:
        headers = {"X-OAuth-Scopes": ",".join(sorted(self.api.scopes))} if token == self.bot_token else {}
        if failure and failure.retry_after is not None:
            headers["Retry-After"] = str(failure.retry_after)
            return web.json_response(answer, status=429, headers=headers)
        return web.json_response(answer, headers=headers)

    async def _tell_app(self) -> None:
        events, self.api.events = self.api.events, []
        for event in events:
            await self.send_event(event)
        await self.changed()


async def read_call(request: web.Request) -> tuple[Json, str]:
    """Arguments and token of a call: JSON body, form body, query, or a body with a query."""
    args: Json = dict(request.query)
    if request.method == "POST" and request.content_type == "application/json":
        args |= json.loads(await request.text() or "{}")
    elif request.method == "POST":
        args |= {key: _read_value(str(value)) for key, value in (await request.post()).items()}
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = str(args.pop("token", ""))
    return args, token if scheme == "Bearer" else given


def _read_value(text: str) -> Any:
    """In a form, what is not a plain value comes as JSON."""
    return json.loads(text) if text[:1] in ("{", "[") else text
