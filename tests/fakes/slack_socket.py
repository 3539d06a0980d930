"""The fake Slack's Socket Mode: hands envelopes to the app over a WebSocket and remembers what was acknowledged.

Source: https://docs.slack.dev/apis/events-api/using-socket-mode
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from aiohttp import WSMsgType, web

from tests.fakes.slack_state import Json, SlackError

MOST_SOCKETS = 10
DisconnectReason = Literal["warning", "refresh_requested", "link_disabled", "too_many_websockets"]


@dataclass(eq=False)
class Envelope:
    """One delivery to the app. Times are those of the event loop, in seconds."""

    id: str
    type: str
    payload: Json
    attempt: int = 0
    reason: str = ""
    sent_at: float | None = None
    acked_at: float | None = None
    ack: Json | None = None
    """What the app acknowledged with; None until then, an empty object for a bare acknowledgement."""

    @property
    def acked(self) -> bool:
        return self.acked_at is not None

    @property
    def seconds_to_ack(self) -> float:
        assert self.sent_at is not None and self.acked_at is not None
        return self.acked_at - self.sent_at

    def as_json(self) -> Json:
        body: Json = {"envelope_id": self.id, "type": self.type, "payload": self.payload}
        body["accepts_response_payload"] = self.type != "events_api"
        if self.type == "events_api":
            body |= {"retry_attempt": self.attempt, "retry_reason": self.reason}
        return body


@dataclass
class SocketMode:
    """`sockets` are the connections that still get envelopes; without one, envelopes wait for the next."""

    app_id: str
    changed: Callable[[], Coroutine[None, None, None]]
    tickets: set[str] = field(default_factory=set)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    connections: int = 0
    """How many connections were opened in all."""
    stale_tickets: int = 0
    """How many of the next tickets are out of date before they are used."""
    strange: list[str] = field(default_factory=list)
    """What came from the app and was no acknowledgement of an envelope."""

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._open: set[web.WebSocketResponse] = set()

    def new_ticket(self) -> str:
        if len(self._open) >= MOST_SOCKETS:
            raise SlackError("too_many_websockets")
        ticket = f"ticket-{next(self._numbers)}"
        if self.stale_tickets:
            self.stale_tickets -= 1
        else:
            self.tickets.add(ticket)
        return ticket

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its hello to its end. A ticket is good for one."""
        ticket = request.query.get("ticket", "")
        if ticket not in self.tickets:
            return web.Response(status=403)
        self.tickets.remove(ticket)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await self._greet(socket)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._take_ack(message.json())
                    await self.changed()
        finally:
            self._open.discard(socket)
            self._forget(socket)
            await self.changed()
        return socket

    async def send(self, kind: str, payload: Json, attempt: int = 0, reason: str = "") -> Envelope:
        envelope = Envelope(f"envelope-{next(self._numbers)}", kind, payload, attempt, reason)
        self.envelopes.append(envelope)
        await self._deliver(envelope)
        return envelope

    async def redeliver(self, envelope: Envelope, reason: str = "timeout") -> Envelope:
        """The same event once more, as Slack sends it when no acknowledgement came."""
        return await self.send(envelope.type, envelope.payload, envelope.attempt + 1, reason)

    async def disconnect(self, reason: DisconnectReason) -> None:
        """Ask the app to connect anew; what comes meanwhile waits for the new connection."""
        body: Json = {"type": "disconnect", "reason": reason, "debug_info": {"host": "fake"}}
        for socket in self.sockets.copy():
            self._forget(socket)
            await socket.send_json(body)

    async def close(self) -> None:
        """Close every connection, as a network does: without a word."""
        for socket in list(self._open):
            await socket.close()

    async def _greet(self, socket: web.WebSocketResponse) -> None:
        self.sockets.append(socket)
        self.connections += 1
        hello: Json = {"type": "hello", "num_connections": len(self._open)}
        hello["connection_info"] = {"app_id": self.app_id}
        hello["debug_info"] = {"host": "fake", "approximate_connection_time": 18060}
        await socket.send_json(hello)
        for envelope in self.envelopes:
            if envelope.sent_at is None:
                await self._deliver(envelope)
        await self.changed()

    async def _deliver(self, envelope: Envelope) -> None:
        if self.sockets:
            envelope.sent_at = asyncio.get_running_loop().time()
            await self.sockets[-1].send_json(envelope.as_json())

    def _take_ack(self, body: Json) -> None:
        for envelope in self.envelopes:
            if envelope.id == body.get("envelope_id"):
                envelope.acked_at = asyncio.get_running_loop().time()
                envelope.ack = body.get("payload") or {}
                return
        self.strange.append(str(body))

    def _forget(self, socket: web.WebSocketResponse) -> None:
        if socket in self.sockets:
            self.sockets.remove(socket)
