"""The gateway of the fake Discord: sessions over websockets, with heartbeats, replay and refusals."""

import asyncio
import json
import secrets
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.fakes.discord_state import Channel, Json, Message, State

GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES, MESSAGE_CONTENT = 1 << 0, 1 << 9, 1 << 12, 1 << 15
GUILD_REACTIONS, DIRECT_REACTIONS = 1 << 10, 1 << 13
GUILD_TYPING, DIRECT_TYPING = 1 << 11, 1 << 14
PRIVILEGED = (1 << 1) | (1 << 8) | MESSAGE_CONTENT
STATUSES = ("online", "dnd", "idle", "invisible", "offline")
KNOWN_INTENTS = (1 << 26) - 1 - (0b111 << 17) - (0b11 << 22)


@dataclass(eq=False)
class Session:
    """What one IDENTIFY began. It outlives its sockets, and keeps every frame for a RESUME."""

    id: str
    intents: int
    frames: list[Json] = field(default_factory=list)
    socket: "Socket | None" = None
    greeted: bool = False

    @property
    def message_content(self) -> bool:
        return bool(self.intents & MESSAGE_CONTENT)

    async def dispatch(self, event: str, data: Json) -> None:
        frame = {"op": 0, "t": event, "s": len(self.frames) + 1, "d": data}
        self.frames.append(frame)
        if self.socket is not None:
            await self.socket.send(frame)


class Socket:
    """One connection, compressed as the client asked for it."""

    def __init__(self, response: web.WebSocketResponse, *, compressed: bool) -> None:
        self.response = response
        self._compressor = zlib.compressobj() if compressed else None
        self._lock = asyncio.Lock()

    async def send(self, frame: Json) -> None:
        text = json.dumps(frame)
        async with self._lock:
            if self.response.closed:
                return
            with suppress(ConnectionError):  # it broke just now
                if self._compressor is None:
                    await self.response.send_str(text)
                else:
                    data = self._compressor.compress(text.encode()) + self._compressor.flush(
                        zlib.Z_SYNC_FLUSH
                    )
                    await self.response.send_bytes(data)


class Gateway:
    def __init__(self, state: State, *, heartbeat_seconds: float) -> None:
        self._state = state
        self._heartbeat_seconds = heartbeat_seconds
        self.url = ""
        self.sessions: dict[str, Session] = {}
        self.identifies: list[Json] = []
        self.presence: Json | None = None
        """What the bot last said of its state, by IDENTIFY or by op 3."""
        self.resumes = 0
        self.heartbeats = 0
        self.open = asyncio.Event()
        """While it is not set, new connections wait at the door."""
        self.open.set()
        self._sockets: set[Socket] = set()

    # What the rest of the fake says.

    @property
    def connected(self) -> bool:
        return any(session.greeted and session.socket for session in self.sessions.values())

    async def dispatch(
        self, event: str, intent: int, render: Callable[[Session], Json], channel: Channel | None = None
    ) -> None:
        """Send an event to every session that asked for it; `render` makes its data for one session."""
        if channel is None or channel.visible:
            for session in self.sessions.values():
                if session.intents & intent or not intent:
                    await session.dispatch(event, render(session))
        await self._state.note_change()

    async def dispatch_message(self, event: str, message: Message) -> None:
        intent = GUILD_MESSAGES if message.channel.guild else DIRECT_MESSAGES
        bot = self._state.bot
        await self.dispatch(
            event,
            intent,
            lambda session: message.event_wire(bot, message_content=session.message_content),
            message.channel,
        )

    async def say(self, frame: Json) -> None:
        """Send a frame outside the sequence, such as op 7 or op 9, to every connection."""
        for socket in list(self._sockets):
            await socket.send(frame)

    async def close_sockets(self, code: int) -> None:
        for session in self.sessions.values():
            session.socket = None
        for socket in list(self._sockets):
            await socket.response.close(code=code)

    # What a client says.

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        await self.open.wait()
        socket = Socket(response := web.WebSocketResponse(), compressed="compress" in request.query)
        await response.prepare(request)
        if (request.query.get("v"), request.query.get("encoding")) != ("10", "json"):
            await response.close(code=4012)
            return response
        self._sockets.add(socket)
        try:
            interval = int(self._heartbeat_seconds * 1000)
            await socket.send({"op": 10, "s": None, "t": None, "d": {"heartbeat_interval": interval}})
            await self._serve(socket)
        finally:
            self._leave(socket)
            await self._state.note_change()
        return response

    async def _serve(self, socket: Socket) -> None:
        async for message in socket.response:
            if message.type is not WSMsgType.TEXT:
                break
            frame = json.loads(message.data)
            if refusal := await self._receive(socket, frame["op"], frame["d"]):
                await socket.response.close(code=refusal)

    def _leave(self, socket: Socket) -> None:
        """A session ends with a close by 1000 or 1001; after any other it can be resumed."""
        self._sockets.discard(socket)
        session = self._session_of(socket)
        if session is not None:
            session.socket = None
            if socket.response.close_code in (1000, 1001):
                del self.sessions[session.id]

    async def _receive(self, socket: Socket, op: int, data: Json) -> int | None:
        """Handle one frame; the close code when it is refused."""
        match op:
            case 1:
                self.heartbeats += 1
                await socket.send({"op": 11, "s": None, "t": None, "d": None})
            case 2:
                return await self._identify(socket, data)
            case 6:
                return await self._resume(socket, data)
            case 3 | 4 | 8 if self._session_of(socket) is None:
                return 4003
            case 3:
                if data["status"] not in STATUSES or any(len(a["name"]) > 128 for a in data["activities"]):
                    return 4002
                self.presence = data
            case 4 | 8:
                pass
            case _:
                return 4001
        await self._state.note_change()
        return None

    async def _identify(self, socket: Socket, data: Json) -> int | None:
        self.identifies.append(data)
        await self._state.note_change()
        intents = data["intents"]
        if self._session_of(socket):
            return 4005
        if data["token"] != self._state.token:
            return 4004
        if intents & ~KNOWN_INTENTS:
            return 4013
        if intents & PRIVILEGED & ~(MESSAGE_CONTENT if self._state.message_content else 0):
            return 4014
        self.presence = data.get("presence", self.presence)
        session = Session(secrets.token_hex(16), intents, socket=socket)
        self.sessions[session.id] = session
        await self._greet(session)
        return None

    async def _greet(self, session: Session) -> None:
        bot = self._state.bot
        ready = {
            "v": 10,
            "user": bot.wire(),
            "guilds": [{"id": str(number), "unavailable": True} for number in self._state.guilds],
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "application": {"id": str(bot.id), "flags": 0},
        }
        await session.dispatch("READY", ready)
        if session.intents & GUILDS:
            for guild in self._state.guilds.values():
                await session.dispatch("GUILD_CREATE", guild.wire(bot))
        session.greeted = True
        await self._state.note_change()

    async def _resume(self, socket: Socket, data: Json) -> int | None:
        """Replay what was missed, then RESUMED. An unknown session gets op 9: begin anew."""
        if data["token"] != self._state.token:
            return 4004
        session = self.sessions.get(data["session_id"])
        if session is None:
            await socket.send({"op": 9, "s": None, "t": None, "d": False})
            return None
        if not 0 <= data["seq"] <= len(session.frames):
            return 4007
        self.resumes += 1
        replayed = data["seq"]
        while replayed < len(session.frames):  # it may grow meanwhile
            replayed += 1
            await socket.send(session.frames[replayed - 1])
        session.socket = socket
        await session.dispatch("RESUMED", {})
        await self._state.note_change()
        return None

    def _session_of(self, socket: Socket) -> Session | None:
        return next((s for s in self.sessions.values() if s.socket is socket), None)
