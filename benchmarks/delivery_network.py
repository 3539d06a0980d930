"""Bad weather between the bot, the platform and PostgreSQL, from a seed; and a PostgreSQL server that comes and goes.

Nothing is killed here: what is shown is that a process that lives on finds its way back by itself.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Literal

from sqlalchemy import make_url

from benchmarks.delivery_postgres import Mode, PostgresServer
from benchmarks.delivery_worlds import World
from tests.fakes.faults import NETWORK
from tests.fakes.proxy import Proxy

Trouble = Literal["cut", "cut in a request", "cut in an answer", "slow close", "outage"]

TROUBLES: Mapping[Trouble, float] = {
    "cut": 3,
    "cut in a request": 3,
    "cut in an answer": 3,
    "slow close": 2,
    "outage": 1,
}
"""How often, of twelve."""
EVERY = (1.0, 4.0)
"""Seconds between two of them, on each way."""
HALF_OPEN, OUTAGE = (0.5, 2.5), (0.3, 2.0)
TO_THE_PLATFORM, TO_THE_DATABASE = (0.01, 0.04), (0.0005, 0.003)
"""Seconds that every chunk takes, and how much it varies."""
UP, DOWN = (3.0, 7.0), (2.0, 5.0)
"""Seconds that the server runs, and stays away: longer than a lease, too."""


@dataclass(slots=True)
class Network:
    """`ways` are the proxies, by what lies behind them."""

    world: World
    seed: int
    server: PostgresServer | None
    ways: dict[str, Proxy] = field(default_factory=dict)
    url: str = ""
    """The database's, by its proxy if it has one."""
    promises_broken: set[str] = field(default_factory=set)
    """Messages that were acknowledged while there was no database to store them in."""

    async def storm(self, seconds: float) -> None:
        """At the end, everything is there and calm again."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for name, proxy in self.ways.items():
                tasks.create_task(self._disturb(name, proxy, end))
            if self.server is not None:
                tasks.create_task(self._stop_and_start(self.server, end))
        for proxy in self.ways.values():
            proxy.calm()

    async def _disturb(self, name: str, proxy: Proxy, end: float) -> None:
        dice = random.Random(f"{self.seed} {name}")
        proxy.latency, proxy.jitter = TO_THE_DATABASE if name == "database" else TO_THE_PLATFORM
        while True:
            await asyncio.sleep(dice.uniform(*EVERY))
            if asyncio.get_running_loop().time() > end:
                return
            kind = dice.choices(list(TROUBLES), list(TROUBLES.values()))[0]
            self._note(f"{kind}: {name}")
            match kind:
                case "cut":
                    proxy.cut()
                case "cut in a request":
                    proxy.cut_request(b"")
                case "cut in an answer":
                    proxy.cut_answer(b"")
                case "slow close":
                    await proxy.close_slowly(dice.uniform(*HALF_OPEN))
                case "outage":
                    async with proxy.outage():
                        await asyncio.sleep(dice.uniform(*OUTAGE))

    async def _stop_and_start(self, server: PostgresServer, end: float) -> None:
        dice = random.Random(f"{self.seed} server")
        modes: tuple[Mode, ...] = ("fast", "immediate")
        for mode in cycle(modes):
            await asyncio.sleep(dice.uniform(*UP))
            if asyncio.get_running_loop().time() > end:
                return
            await server.stop(mode)
            self._note(f"database stopped: {mode}")
            stopped_at = asyncio.get_running_loop().time()
            await asyncio.sleep(dice.uniform(*DOWN))
            self.promises_broken |= self.world.acknowledged(since=stopped_at)
            await server.start()
            self.world.faults.note(f"{NETWORK}: database started")

    def _note(self, trouble: str) -> None:
        self.world.faults.counts[trouble] += 1
        self.world.faults.note(f"{NETWORK}: {trouble}")


@asynccontextmanager
async def open_network(
    world: World, url: str, seed: int, server: PostgresServer | None
) -> AsyncIterator[Network]:
    """A proxy before the platform, and before the database if it is a server."""
    network = Network(world, seed, server, url=url)
    async with AsyncExitStack() as proxies:
        to_platform = await proxies.enter_async_context(Proxy(world.port, seed=seed))
        world.go_through(to_platform)
        network.ways[world.name] = to_platform
        if server is not None:
            to_database = await proxies.enter_async_context(Proxy(server.port, seed=seed))
            network.ways["database"] = to_database
            network.url = make_url(url).set(port=to_database.port).render_as_string(hide_password=False)
        yield network
