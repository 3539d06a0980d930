"""A fake Discord in which things go wrong: requests, events, sockets and sessions. Made by `make_faulty`."""

import asyncio

from aiohttp import web

from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_http import Desk, Handler, answer
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import Message
from tests.fakes.faults import Faults, RestFault, cut, cut_in_half

HALF_A_FRAME = b"\x82\x7e\x01\x00half"
"""A binary frame that announces 256 bytes, and holds four."""
SPEAKING = ("POST", "PATCH", "DELETE")


def make_faulty(discord: FakeDiscord, faults: Faults) -> None:
    """Before its server starts."""
    discord.desk = FaultyDesk(discord.state, discord.desk.limit, discord.desk.seconds, faults=faults)
    discord.gateway = FaultyGateway(discord, faults)


class FaultyDesk(Desk):
    def __init__(self, *args: object, faults: Faults) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._faults = faults

    async def serve(self, request: web.Request, handler: Handler, *, with_token: bool) -> web.StreamResponse:
        audible = request.method in SPEAKING and "/messages" in request.path
        fault = self._faults.draw_rest(audible=audible)
        body = await request.text() if request.method != "GET" else request.query_string
        self._faults.note(f"{request.method} {request.path} [{fault or 'ok'}]", body)
        if audible:
            await self._faults.spring(applied=False)
        if fault is not None and not fault.startswith("applied"):
            return self._refuse(request, fault)
        response = await super().serve(request, handler, with_token=with_token)
        if audible:
            self._faults.last_post = asyncio.get_running_loop().time()
            await self._faults.spring(applied=True)
        match fault:
            case "applied, then cut":
                cut(request)
            case "applied, then half a body":
                cut_in_half(request, response)
            case "applied, then 500":
                return answer(500, {"message": "500: Internal Server Error", "code": 0})
        return response

    def _refuse(self, request: web.Request, fault: RestFault) -> web.StreamResponse:
        if fault == "429":
            return self._rate_limited(self._faults.between(0.1, 0.6), self._count(request))
        if fault == "cut":
            cut(request)
        return answer(int(fault) if fault.isdecimal() else 502, {"message": "scripted", "code": 0})


class FaultyGateway(Gateway):
    def __init__(self, discord: FakeDiscord, faults: Faults) -> None:
        super().__init__(discord.state, heartbeat_seconds=45)
        self._discord = discord
        self._faults = faults
        self._newest: web.Request | None = None

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        self._newest = request
        self._faults.note("gateway: connected")
        return await super().connect(request)

    async def dispatch_message(self, event: str, message: Message) -> None:
        by_a_person = event == "MESSAGE_CREATE" and message.author is not self._discord.bot
        if not by_a_person:
            await super().dispatch_message(event, message)
            return
        if not self.connected:
            self._faults.disturbed.add(str(message.id))
        fault = self._faults.draw_event()
        outcome = (fault or "ok") if self.connected else "nobody there"
        self._faults.note(f"event of {message.id} [{outcome}]", message.content)
        await self._send(message, fault)

    async def _send(self, message: Message, fault: str | None) -> None:
        if fault is not None and fault != "duplicated":
            self._faults.disturbed.add(str(message.id))
        match fault:
            case "dropped":
                await self._state.note_change()
                return
            case "delayed":
                self._faults.later(self._send_late(message))
                return
            case "half a frame":
                self._break(HALF_A_FRAME)
            case "socket cut":
                self._break(b"")
        await super().dispatch_message("MESSAGE_CREATE", message)
        self._faults.hand_over(str(message.id))
        if fault == "duplicated":
            await super().dispatch_message("MESSAGE_CREATE", message)
        elif fault == "session over":
            await self._end_session()

    async def _send_late(self, message: Message) -> None:
        await asyncio.sleep(self._faults.between(0.05, 0.8))
        await super().dispatch_message("MESSAGE_CREATE", message)
        self._faults.hand_over(str(message.id))

    async def _end_session(self) -> None:
        """By op 7, after which it may be resumed, or for good by op 9."""
        if self._faults.between(0, 1) < 0.5:
            await self.say({"op": 7, "s": None, "t": None, "d": None})
        else:
            await self._discord.invalidate_sessions()

    def _break(self, half: bytes) -> None:
        """What is sent from now on reaches the bot by a RESUME, if it lives until then."""
        for session in self.sessions.values():
            session.socket = None
        if self._newest is not None:
            cut(self._newest, half=half)

    def forget_killed(self) -> None:
        """A process that was killed cannot resume its session."""
        self.sessions.clear()
