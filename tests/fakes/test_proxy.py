"""The proxy between a client and a server that says everything twice, each as plain sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.fakes.proxy import HOST, Proxy, reset


@dataclass
class Server:
    """Answers every line with the line and its echo, in one chunk. Remembers what it got."""

    got: bytes = b""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    resets: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1000):
                self.got += chunk
                if self.resets:
                    reset(writer.transport)
                elif chunk.endswith(b"\n"):
                    writer.write(chunk * 2)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.ended.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, HOST, 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as proxy:
        yield proxy


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, proxy.port)


async def test_everything_goes_through_in_order_and_takes_its_time(server: Server, proxy: Proxy) -> None:
    proxy.latency = 0.02
    began = asyncio.get_running_loop().time()
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    assert await reader.readexactly(8) == b"tea\ntea\n"
    assert asyncio.get_running_loop().time() - began >= 2 * proxy.latency
    writer.close()
    await server.ended.wait()
    assert (server.got, proxy.connections) == (b"tea\n", 1)


def test_the_same_seed_is_the_same_weather() -> None:
    one, same, other = (Proxy(1, seed=seed, latency=1.0, jitter=0.5) for seed in (7, 7, 8))
    pauses = [one.next_pause() for _ in range(9)]
    assert pauses == [same.next_pause() for _ in range(9)] != [other.next_pause() for _ in range(9)]
    assert all(1.0 <= pause <= 1.5 for pause in pauses)


async def test_a_cut_is_a_reset_on_both_sides(server: Server, proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    await reader.readexactly(8)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await server.ended.wait()


async def test_of_a_request_that_is_cut_the_server_sees_half(server: Server, proxy: Proxy) -> None:
    cut = proxy.cut_request(b"coffee")
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    assert await reader.readexactly(8) == b"tea\ntea\n"
    writer.write(b"a coffee\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await server.ended.wait()
    assert cut.is_set()
    assert server.got == b"tea\na co"


async def test_of_an_answer_that_is_cut_the_client_sees_half(server: Server, proxy: Proxy) -> None:
    cut = proxy.cut_answer(b"coffee")
    reader, writer = await connect(proxy)
    writer.write(b"coffee\n")
    assert await reader.readexactly(7) == b"coffee\n"
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert cut.is_set()
    assert server.got == b"coffee\n"


async def test_a_cut_waits_for_its_request_and_not_for_the_one_before(server: Server, proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"coffee\n")
    await reader.readexactly(14)
    cut = proxy.cut_answer(b"coffee")
    writer.write(b"tea\n")
    assert await reader.readexactly(8) == b"tea\ntea\n"
    assert not cut.is_set()


async def test_a_slow_close_lets_nothing_through_and_tells_nobody_before_its_end(
    server: Server, proxy: Proxy
) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    await reader.readexactly(8)
    closing = asyncio.create_task(proxy.close_slowly(0.05))
    await asyncio.sleep(0)  # it has begun
    writer.write(b"coffee\n")
    assert await reader.read() == b""
    assert closing.done()
    assert server.got == b"tea\n"


async def test_during_an_outage_connections_are_refused_and_afterwards_they_are_taken_again(
    proxy: Proxy,
) -> None:
    reader, _ = await connect(proxy)
    async with proxy.outage():
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    assert await reader.readexactly(8) == b"tea\ntea\n"


async def test_what_the_server_resets_is_reset_and_where_there_is_no_server_too(
    server: Server, proxy: Proxy
) -> None:
    server.resets = True
    reader, writer = await connect(proxy)
    writer.write(b"tea\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    async with Proxy(proxy.port) as before_nothing, proxy.outage():
        with pytest.raises(ConnectionResetError):
            reader, writer = await connect(before_nothing)
            await reader.read()
