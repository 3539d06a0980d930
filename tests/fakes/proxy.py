"""A TCP proxy on loopback: a network that is slow, breaks in the middle, hangs half open, or refuses.

    async with Proxy(port_of_a_server, seed=1) as proxy:
        ...                                         # connect to proxy.address
        proxy.latency, proxy.jitter = 0.01, 0.05    # seconds for every chunk, each way
        lost = proxy.cut_answer(b"chat.postMessage")
        async with proxy.outage(): ...

It knows no protocol: a request is what went up since the last answer came down.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65_536


@dataclass(eq=False)
class _Link:
    """A connection to the proxy and its continuation to the server."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    pumps: list[asyncio.Task[None]] = field(default_factory=list)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    request: bytes = b""
    answered: bool = False

    def end(self, *, by_reset: bool) -> None:
        for writer in (self.near, self.far):
            reset(writer.transport) if by_reset else writer.close()
        for pump in self.pumps:
            pump.cancel()


@dataclass(eq=False)
class _Cut:
    holding: bytes
    upward: bool
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """`seed` is the jitter's. `connections` counts those that were let through."""

    def __init__(self, port: int, *, seed: int = 0, latency: float = 0.0, jitter: float = 0.0) -> None:
        self.latency = latency
        self.jitter = jitter
        self.connections = 0
        self._server_port = port
        self._random = random.Random(seed)
        self._opening: set[asyncio.StreamWriter] = set()
        self._links: set[_Link] = set()
        self._cuts: list[_Cut] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._bound = _bind(0)  # never listens: it keeps the port while connections are refused
        self.port: int = self._bound.getsockname()[1]
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks)
        self._bound.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    # What goes wrong.

    def cut(self) -> None:
        """Reset every open connection."""
        for link in self._links:
            link.end(by_reset=True)
        for near in self._opening:
            reset(near.transport)

    def cut_request(self, holding: bytes) -> asyncio.Event:
        """Of the next request that holds these bytes, half of the last chunk goes on; then a reset. Set when done."""
        return self._cut_later(_Cut(holding, upward=True))

    def cut_answer(self, holding: bytes) -> asyncio.Event:
        """The next request that holds these bytes takes effect, and half of the answer comes back; then a reset."""
        return self._cut_later(_Cut(holding, upward=False))

    async def close_slowly(self, seconds: float) -> None:
        """Through what is open now nothing goes any more, and nobody is told; after `seconds` it is closed."""
        half_open = list(self._links)
        for link in half_open:
            link.flowing.clear()
        await asyncio.sleep(seconds)
        for link in half_open:
            link.end(by_reset=False)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Every connection is reset, and new ones are refused, until the block ends."""
        self._listener.close()
        self.cut()
        try:
            yield
        finally:
            await self._listen()

    def calm(self) -> None:
        """Neither slow nor about to cut anything."""
        self.latency = self.jitter = 0.0
        self._cuts.clear()

    # What goes through.

    def next_pause(self) -> float:
        """Seconds that the next chunk takes."""
        return self.latency + self._random.uniform(0, self.jitter)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, sock=_bind(self.port))

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._opening.add(near)
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._server_port)
        except OSError:
            reset(near.transport)
            return
        finally:
            self._opening.discard(near)
        link = _Link(near, far)
        if near.is_closing():
            link.end(by_reset=True)
            return
        self.connections += 1
        link.flowing.set()
        self._links.add(link)
        up = asyncio.create_task(self._pump(link, near_reader, far, upward=True))
        down = asyncio.create_task(self._pump(link, far_reader, near, upward=False))
        link.pumps = [up, down]
        try:
            await asyncio.wait(link.pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            link.end(by_reset=False)
            await asyncio.gather(*link.pumps, return_exceptions=True)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upward: bool
    ) -> None:
        """Until one side ends; a reset is passed on as one."""
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK):
                await asyncio.sleep(self.next_pause())
                await link.flowing.wait()
                if self._is_cut(link, chunk, upward):
                    writer.write(chunk[: len(chunk) // 2])
                    break
                writer.write(chunk)
                await writer.drain()
            else:
                return
        link.end(by_reset=True)

    def _cut_later(self, cut: _Cut) -> asyncio.Event:
        self._cuts.append(cut)
        return cut.done

    def _is_cut(self, link: _Link, chunk: bytes, upward: bool) -> bool:
        if upward:
            link.request = chunk if link.answered else link.request + chunk
        link.answered = not upward
        cut = next((cut for cut in self._cuts if cut.upward == upward and cut.holding in link.request), None)
        if cut is None:
            return False
        self._cuts.remove(cut)
        cut.done.set()
        return True


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection by a reset, in place of a farewell."""
    handle = transport.get_extra_info("socket")
    if handle is not None and handle.fileno() >= 0:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    return bound
