"""A fake Slack in which things go wrong: calls, events, sockets and acknowledgements. Made by `make_faulty`.

What is not acknowledged in time comes again, three times, as Slack does it, but in seconds for its minutes.
"""

import asyncio
from contextlib import suppress
from dataclasses import fields
from typing import Any

from aiohttp import web

from tests.fakes.faults import Faults, RestFault, cut, cut_in_half
from tests.fakes.slack_http import SlackHttp
from tests.fakes.slack_server import FakeSlack
from tests.fakes.slack_socket import Envelope, SocketMode
from tests.fakes.slack_state import Json

ACK_SECONDS = 1.0
"""Slack gives three seconds."""
REDELIVERED_AFTER = (0.3, 2.0, 6.0)
"""Slack: nearly at once, after a minute, after five."""
HALF_A_FRAME = b"\x81\x7e\x01\x00half"


def make_faulty(slack: FakeSlack, faults: Faults) -> None:
    """Before its server starts."""
    slack.socket = FaultySocket(slack.socket.app_id, slack.socket.changed, faults)
    known = {part.name: getattr(slack.http, part.name) for part in fields(SlackHttp)}
    slack.http = FaultyHttp(**{**known, "socket": slack.socket}, faults=faults)


class FaultyHttp(SlackHttp):
    def __init__(self, *, faults: Faults, **known: Any) -> None:
        super().__init__(**known)
        self._faults = faults

    async def serve_call(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        audible = method.startswith("chat.")
        fault = self._faults.draw_rest(audible=audible)
        said = await request.text() if request.method == "POST" else request.query_string
        self._faults.note(f"{method} [{fault or 'ok'}]", said)
        if audible:
            await self._faults.spring(applied=False)
        if fault is not None and not fault.startswith("applied"):
            return self._refuse(request, fault)
        response = await super().serve_call(request)
        if audible:
            self._faults.last_post = asyncio.get_running_loop().time()
            await self._faults.spring(applied=True)
        match fault:
            case "applied, then cut":
                cut(request)
            case "applied, then half a body":
                cut_in_half(request, response)
            case "applied, then 500":
                return self._error("internal_error", 500 if self._faults.between(0, 1) < 0.5 else 200)
        return response

    def _refuse(self, request: web.Request, fault: RestFault) -> web.Response:
        if fault == "429":
            return web.json_response(
                {"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": "1"}
            )
        if fault == "cut":
            cut(request)
        return self._error(
            "service_unavailable" if fault == "503" else "internal_error",
            int(fault) if fault.isdecimal() else 502,
        )

    def _error(self, code: str, status: int) -> web.Response:
        return web.json_response({"ok": False, "error": code}, status=status)


class FaultySocket(SocketMode):
    def __init__(self, app_id: str, changed: Any, faults: Faults) -> None:
        super().__init__(app_id, changed)
        self._faults = faults
        self._newest: web.Request | None = None
        self._dropped: dict[str, bool] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self._newest = request
        self._faults.note("socket: connected")
        return await super().serve(request)

    async def send(self, kind: str, payload: Json, attempt: int = 0, reason: str = "") -> Envelope:
        envelope = Envelope(f"envelope-{next(self._numbers)}", kind, payload, attempt, reason)
        self.envelopes.append(envelope)
        event = payload.get("event", {})
        by_a_person = event.get("type") in ("message", "app_mention") and "client_msg_id" in event
        fault = self._draw(event["ts"]) if by_a_person and not attempt else None
        if by_a_person:
            outcome = (fault or "ok") if self.sockets else "nobody there"
            self._faults.note(f"{event['type']} {event['ts']} attempt {attempt} [{outcome}]", event["text"])
        await self._send(envelope, fault)
        return envelope

    def _draw(self, ts: str) -> str | None:
        """Both events of a mention are dropped, or neither."""
        if ts in self._dropped:
            return "dropped" if self._dropped[ts] else None
        fault = self._faults.draw_event()
        self._dropped[ts] = fault == "dropped"
        if fault in ("dropped", "delayed") or not self.sockets:
            self._faults.disturbed.add(ts)
        return fault

    async def _send(self, envelope: Envelope, fault: str | None) -> None:
        match fault:
            case "dropped":
                envelope.sent_at = asyncio.get_running_loop().time()
                return
            case "delayed":
                self._faults.later(self._deliver_late(envelope))
                return
            case "half a frame" | "socket cut":
                self._break(HALF_A_FRAME if fault == "half a frame" else b"")
            case "session over":
                with suppress(ConnectionError):
                    await self.disconnect("refresh_requested")
        await self._deliver(envelope)
        if fault == "duplicated":
            await self.send(envelope.type, envelope.payload, 1, "timeout")

    async def _deliver_late(self, envelope: Envelope) -> None:
        await asyncio.sleep(self._faults.between(0.05, 0.8))
        await self._deliver(envelope)

    async def _deliver(self, envelope: Envelope) -> None:
        """Now or not at all: with nobody there, it counts as a try that failed."""
        envelope.sent_at = asyncio.get_running_loop().time()
        ts = str(envelope.payload.get("event", {}).get("ts", ""))
        if self.sockets:
            with suppress(ConnectionError):  # it broke just now: no acknowledgement will come
                await self.sockets[-1].send_json(envelope.as_json())
            self._faults.hand_over(ts)
        if envelope.type == "events_api" and envelope.attempt < len(REDELIVERED_AFTER):
            self._faults.later(self._watch(envelope, ts, ACK_SECONDS if self.sockets else 0.0))

    async def _watch(self, envelope: Envelope, ts: str, seconds: float) -> None:
        """Deliver it again unless it is acknowledged in time."""
        await asyncio.sleep(seconds)
        if envelope.acked:
            return
        self._faults.disturbed.add(ts)
        await asyncio.sleep(REDELIVERED_AFTER[envelope.attempt])
        await self.redeliver(envelope)

    def _take_ack(self, body: Json) -> None:
        if self._faults.loses_ack():
            self._faults.note("an acknowledgement is lost", str(body.get("envelope_id")))
            return
        super()._take_ack(body)

    def _break(self, half: bytes) -> None:
        if self._newest is not None:
            cut(self._newest, half=half)
        for socket in self.sockets.copy():
            self._forget(socket)
