"""One run: people talk, the platform fails, the process is killed again and again; then everything is judged."""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.delivery_check import Finding, Said, Verdict, check
from benchmarks.delivery_network import Network, open_network
from benchmarks.delivery_postgres import MISSING, PostgresServer, find_programs
from benchmarks.delivery_process import SERVER, BotProcess, bot_settings, new_database, read_stored
from benchmarks.delivery_worlds import WORLDS, World

SHORTEST_LIFE, LONGEST_LIFE = 0.5, 6.5
"""Seconds from a start to the kill: from before it is connected to where it has caught up."""
TRAPPED = 0.5
"""How many kills wait for the moment at which the bot says something."""
TRAP_SECONDS = 2.0
STORM_SECONDS_A_MESSAGE = 0.5
QUIET, QUIET_WHILE_OWING, LONGEST_WAIT = 6.0, 20.0, 60.0
PATIENCE_AFTER_A_STORM, LONGEST_WAIT_AFTER_A_STORM = 90.0, 300.0
"""Libraries wait ever longer before they connect again, and Slack allows few edits a minute."""
OPENING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`combination` is a platform and a database, such as discord_sqlite, or naive_ and a platform.

    With `network` nothing is killed; the ways to the platform and the database fail, and the database itself.
    """

    combination: str
    messages: int
    kills: int
    seed: int
    network: bool = False

    @property
    def platform(self) -> str:
        return self.combination.removeprefix("naive_").split("_")[0]

    @property
    def naive(self) -> bool:
        return self.combination.startswith("naive_")

    @property
    def database(self) -> str:
        return self.combination.split("_")[1]


@dataclass(slots=True)
class Outcome:
    """What one run showed. `trouble` is what went wrong with the process itself."""

    plan: Plan
    verdict: Verdict
    starts: int
    seconds: float
    trouble: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    folder: Path | None = None
    """Where the logs are kept, if there is something to look for."""


async def run(plan: Plan) -> Outcome:
    """Everything of it is made anew, and put away if nothing was found."""
    folder = Path(tempfile.mkdtemp(prefix=f"delivery-{plan.combination}-{plan.seed}-"))
    async with AsyncExitStack() as stack:
        server = None
        if plan.network and plan.database == "postgres":
            server = await stack.enter_async_context(_new_server())
        url = ""
        if not plan.naive:
            database = new_database(plan.database, folder, server.url if server else SERVER)
            url = stack.enter_context(database)
        world: World = WORLDS[plan.platform](plan.seed)
        await stack.enter_async_context(world)
        network = None
        if plan.network:
            network = await stack.enter_async_context(open_network(world, url, plan.seed, server))
        outcome = await Run(plan, world, url, folder, network).play()
    if plan.naive or not (outcome.verdict.findings or outcome.trouble):
        _remove(folder)
        return outcome
    outcome.folder = folder
    return outcome


def _new_server() -> PostgresServer:
    programs = find_programs()
    if programs is None:
        raise FileNotFoundError(MISSING)
    return PostgresServer(programs)


class Run:
    def __init__(self, plan: Plan, world: World, url: str, folder: Path, network: Network | None) -> None:
        self._plan = plan
        self._world = world
        self._url = url
        self._folder = folder
        self._network = network
        self._random = random.Random(plan.seed)
        self._said: list[Said] = []
        self._trouble: list[str] = []
        self._bot = self._make_bot()

    def _make_bot(self) -> BotProcess:
        if self._plan.naive:
            command = ("benchmarks.delivery_naive", self._plan.platform)
            return BotProcess(command, self._world.environment(), self._folder)
        url = self._network.url if self._network else self._url
        settings = {"PARLEY_DATABASE_URL": url, **bot_settings(), **self._world.environment()}
        return BotProcess(("benchmarks.delivery_bot",), settings, self._folder)

    async def play(self) -> Outcome:
        began = time.monotonic()
        try:
            await self._bot.start()
            await self._open_places()
            self._world.faults.active = True
            async with asyncio.TaskGroup() as both:
                if self._network is not None:
                    seconds = self._plan.messages * STORM_SECONDS_A_MESSAGE
                    both.create_task(self._talk(seconds))
                    both.create_task(self._network.storm(seconds))
                else:
                    lives = [
                        self._random.uniform(SHORTEST_LIFE, LONGEST_LIFE) for _ in range(self._plan.kills)
                    ]
                    both.create_task(self._talk(sum(lives)))
                    both.create_task(self._kill(lives))
            self._world.faults.active = False
            await self._wait_until_quiet()
            if not self._bot.alive:
                self._trouble.append("it ended by itself")
        finally:
            ended = await self._bot.terminate()
        if ended and not self._plan.naive:
            self._trouble.append(ended)
        self._trouble += [f"it ended by itself with {code}" for code in self._bot.crashes]
        if self._network is not None and not self._plan.naive:
            self._note_what_a_network_shows(self._network)
        return await self._judge(time.monotonic() - began)

    async def _open_places(self) -> None:
        """With nothing going wrong: the bot comes to know the places, above all the direct messages."""
        await self._wait_for(lambda: self._world.connected, OPENING_SECONDS, "it did not connect")
        self._said += await self._world.open_places(1)
        await self._wait_for(lambda: not self._owing(), OPENING_SECONDS, "it did not answer the opening")

    async def _talk(self, seconds: float) -> None:
        """The rest of the messages, at random times."""
        left = self._plan.messages - len(self._said)
        moments = sorted(self._random.uniform(0, seconds) for _ in range(left))
        began = time.monotonic()
        for moment in moments:
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            said = await self._world.say(len(self._said) + 1)
            self._said.append(said)

    async def _kill(self, lives: Sequence[float]) -> None:
        for life in lives:
            await asyncio.sleep(life)
            if self._random.random() < TRAPPED:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._world.faults.set_trap().wait(), TRAP_SECONDS)
            await self._bot.kill()
            self._world.faults.note_kill()
            self._world.forget_killed()
            await self._bot.start()

    async def _wait_until_quiet(self) -> None:
        """Until nothing is said any more; for longer while an answer is owed."""
        started = time.monotonic()
        longest, while_owing = LONGEST_WAIT, QUIET_WHILE_OWING
        if self._network is not None:
            longest, while_owing = LONGEST_WAIT_AFTER_A_STORM, PATIENCE_AFTER_A_STORM
        while time.monotonic() - started < longest and self._bot.alive:
            silence = time.monotonic() - max(started, self._world.faults.last_post)
            patience = QUIET if self._plan.naive or not self._owing() else while_owing
            if silence > patience and not self._world.faults.pending:
                return
            await asyncio.sleep(0.2)

    def _owing(self) -> list[Finding]:
        return check(self._said, self._world.shown(), None).lost

    async def _wait_for(self, happened: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline or not self._bot.alive:
                self._trouble.append(otherwise)
                return
            await asyncio.sleep(0.05)

    def _note_what_a_network_shows(self, network: Network) -> None:
        if count := self._bot.tracebacks:
            self._trouble.append(f"its log has {count} tracebacks")
        if count := len(network.promises_broken):
            self._trouble.append(f"it acknowledged {count} messages while the database was away")

    async def _judge(self, seconds: float) -> Outcome:
        stored = None if self._plan.naive else await read_stored(self._url)
        faults = self._world.faults
        verdict = check(self._said, self._world.shown(), stored, faults.disturbed)
        outcome = Outcome(self._plan, verdict, self._bot.starts, seconds, self._trouble, faults.counts)
        chronicle = "\n".join(map(str, faults.chronicle))
        (self._folder / "chronicle.txt").write_text(chronicle, encoding="utf-8")
        if not self._plan.naive:
            self._tell_findings(outcome)
        return outcome

    def _tell_findings(self, outcome: Outcome) -> None:
        """On stderr: what is wrong, and what the platform saw of it."""
        for stray in outcome.verdict.strays:
            print(f"{self._plan.combination}: it also said {stray[:200]!r}", file=sys.stderr)
        for trouble in outcome.trouble:
            print(f"{self._plan.combination}: {trouble}", file=sys.stderr)
        for kind, finding in outcome.verdict.findings:
            label = f"q{finding.number}"
            print(
                f"{self._plan.combination} {kind}: {label} ({finding.message_id}): {finding.what}",
                file=sys.stderr,
            )
            for note in self._world.faults.notes_about(label):
                print(f"  {note}", file=sys.stderr)
        if outcome.verdict.findings or outcome.trouble:
            print(f"The logs are in {self._folder}", file=sys.stderr)


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
