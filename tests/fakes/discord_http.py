"""How the fake Discord takes a request: token, rate limit, scripted failure, body; and how it words answers."""

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.discord_rules import INVALID_JSON, Refusal
from tests.fakes.discord_state import Json, State

Handler = Callable[[web.Request, Any], Awaitable[Json | list[Json] | None]]
"""Gets the request and its body; what it returns becomes 200, or 204 for None."""


@dataclass(eq=False)
class Failure:
    """A failure in the script: the next `times` requests that match get it."""

    method: str
    path: re.Pattern[str]
    status: int
    """0 cuts the connection without an answer."""
    body: Json
    times: int
    applied: bool
    """Whether the request takes effect all the same, as when an answer is lost on its way."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Any


@dataclass
class Bucket:
    """A rate limit of one route and channel: a window that begins with its first request."""

    began: float = float("-inf")
    used: int = 0


@dataclass
class ChannelLimit:
    """What bots see of messages created and edited too fast in one channel. No header warns of it."""

    most: int = 5
    seconds: float = 5.0
    taken: dict[str, list[float]] = field(default_factory=dict)
    """When each of the last messages and edits of a channel was taken."""

    def take(self, request: web.Request) -> float | None:
        """The seconds to wait when it is refused."""
        channel = request.match_info.get("channel")
        speaks = request.method in ("POST", "PATCH") and "/messages" in request.path
        if channel is None or not speaks or request.path.endswith("/threads"):
            return None
        now = time.monotonic()
        recent = [at for at in self.taken.get(channel, []) if now - at < self.seconds]
        self.taken[channel] = recent
        if len(recent) >= self.most:
            return recent[0] + self.seconds - now
        recent.append(now)
        return None


@dataclass
class Desk:
    """Every request passes here. `limit` requests in `seconds` are allowed on one route of one channel."""

    state: State
    limit: int
    seconds: float
    failures: list[Failure] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refused: int = 0
    """Requests answered with 429."""
    channel_limit: ChannelLimit | None = None
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    async def serve(self, request: web.Request, handler: Handler, *, with_token: bool) -> web.StreamResponse:
        if with_token and request.headers.get("Authorization") != f"Bot {self.state.token}":
            return answer(401, {"message": "401: Unauthorized", "code": 0})
        limits = self._count(request)
        if limits["X-RateLimit-Remaining"] == "-1":
            return self._rate_limited(float(limits["X-RateLimit-Reset-After"]), limits)
        if self.channel_limit is not None and (seconds := self.channel_limit.take(request)) is not None:
            return self._rate_limited(seconds, limits)
        failure = self._take_failure(request)
        if failure is None or failure.applied:
            response = await self._handle(request, handler, limits)
        if failure is not None:
            response = self._fail(request, failure, limits)
        await self.state.note_change()
        return response

    async def _handle(
        self, request: web.Request, handler: Handler, headers: dict[str, str]
    ) -> web.StreamResponse:
        try:
            body = await self._read(request)
            self.requests.append(Request(request.method, request.path, body))
            result = await handler(request, body)
        except Refusal as refusal:
            return answer(refusal.status, refusal.body, headers)
        return answer(204 if result is None else 200, result, headers)

    async def _read(self, request: web.Request) -> Any:
        text = await request.text()
        if not text:
            return {}
        if request.content_type != "application/json":
            raise Refusal(INVALID_JSON)
        try:
            return json.loads(text)
        except ValueError:
            raise Refusal(INVALID_JSON) from None

    def _count(self, request: web.Request) -> dict[str, str]:
        """Count the request into its bucket; the headers that tell how full it is."""
        resource = request.match_info.route.resource
        route = f"{request.method} {resource.canonical if resource else ''}"
        major = request.match_info.get("channel") or request.match_info.get("token") or ""
        bucket = self._buckets.setdefault(f"{route} {major}", Bucket())
        now = time.monotonic()
        if now - bucket.began >= self.seconds:
            bucket.began, bucket.used = now, 0
        bucket.used += 1
        left = bucket.began + self.seconds - now
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(-1, self.limit - bucket.used)),
            "X-RateLimit-Reset": f"{time.time() + left:.3f}",
            "X-RateLimit-Reset-After": f"{left:.3f}",
            "X-RateLimit-Bucket": f"{hash(route) & 0xFFFFFFFF:08x}",
        }

    def _rate_limited(
        self, seconds: float, limits: dict[str, str], *, everywhere: bool = False
    ) -> web.StreamResponse:
        self.refused += 1
        scope = {"X-RateLimit-Global": "true"} if everywhere else {"X-RateLimit-Scope": "user"}
        headers = {**limits, **scope, "X-RateLimit-Remaining": "0", "Retry-After": f"{seconds:.3f}"}
        body = {"message": "You are being rate limited.", "retry_after": seconds, "global": everywhere}
        return answer(429, body, {**headers, "Via": "1.1 google"})

    def _take_failure(self, request: web.Request) -> Failure | None:
        for failure in self.failures:
            if failure.method == request.method and failure.path.search(request.path):
                failure.times -= 1
                if failure.times == 0:
                    self.failures.remove(failure)
                return failure
        return None

    def _fail(self, request: web.Request, failure: Failure, limits: dict[str, str]) -> web.StreamResponse:
        if failure.status == 0 and request.transport is not None:
            request.transport.abort()
        if failure.status == 429:
            body = failure.body
            return self._rate_limited(body["retry_after"], limits, everywhere=body.get("global", False))
        return answer(failure.status or 502, failure.body, limits)


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    """discord.py takes an answer for JSON only when the type stands alone, without a charset."""
    if status == 204:
        return web.Response(status=204, headers=headers)
    kind = {"Content-Type": "application/json"}
    return web.Response(status=status, body=json.dumps(body).encode(), headers={**(headers or {}), **kind})
