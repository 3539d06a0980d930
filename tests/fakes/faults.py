"""What goes wrong in a fake platform, at random but from a seed, and a chronicle of all that happened there."""

import asyncio
import random
import re
import time
from collections import Counter, deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiohttp import web

from tests.fakes.proxy import reset

RestFault = Literal[
    "500",
    "503",
    "429",
    "cut",
    "applied, then 500",
    "applied, then cut",
    "applied, then half a body",
]
EventFault = Literal["dropped", "duplicated", "delayed", "half a frame", "socket cut", "session over"]
Fault = TypeVar("Fault", bound=str)

REST: Mapping[RestFault, float] = {
    "500": 0.015,
    "503": 0.015,
    "429": 0.02,
    "cut": 0.025,
    "applied, then 500": 0.015,
    "applied, then cut": 0.025,
    "applied, then half a body": 0.015,
}
EVENTS: Mapping[EventFault, float] = {
    "dropped": 0.05,
    "duplicated": 0.06,
    "delayed": 0.05,
    "half a frame": 0.015,
    "socket cut": 0.015,
    "session over": 0.01,
}
RARELY = 0.3
"""How often, of these, the calls fail that say nothing to people: logging in, reading."""
CUT_BY_A_KILL = 0.5
"""Seconds: what was handed to a process so shortly before its end may not have been looked at."""
KILL, NETWORK = "KILL", "NETWORK"
"""How notes begin that concern everything."""
HEAD, TAIL = 110, 190
_LABEL = re.compile(r"\bq\d+\b")


@dataclass(frozen=True)
class Note:
    """One line of the chronicle; `labels` are the questions that it is about."""

    at: float
    text: str
    labels: frozenset[str]

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.text}"


@dataclass
class Faults:
    """The dice. Nothing goes wrong while `active` is false; everything is written down in any case."""

    seed: int
    active: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    chronicle: list[Note] = field(default_factory=list)
    disturbed: set[str] = field(default_factory=set)
    """Ids of messages whose event was dropped, held back or handed over just before a kill: no order is owed."""
    last_post: float = 0.0
    """When something was last said, edited or deleted, by the clock of `time.monotonic`."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._began = time.monotonic()
        self._handed_over: deque[tuple[float, str]] = deque(maxlen=200)
        self._trap: asyncio.Event | None = None
        self._after_applying = False
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, text: str, about: str = "") -> None:
        """`about` is what it concerns, such as a request's body: of a long one, both ends are told."""
        labels = frozenset(_LABEL.findall(f"{text} {about}"))
        shown = about if len(about) <= HEAD + TAIL else f"{about[:HEAD]} ... {about[-TAIL:]}"
        line = f"{text} {shown}".replace("\n", "\\n").rstrip()
        self.chronicle.append(Note(time.monotonic() - self._began, line, labels))

    def draw_rest(self, *, audible: bool) -> RestFault | None:
        """`audible`: whether people see what the request does."""
        return self._draw(REST, 1.0 if audible else RARELY)

    def draw_event(self) -> EventFault | None:
        return self._draw(EVENTS, 1.0)

    def loses_ack(self) -> bool:
        return self.active and self._random.random() < 0.05

    def between(self, least: float, most: float) -> float:
        return self._random.uniform(least, most)

    def notes_about(self, label: str) -> list[Note]:
        """What concerns one question, with the kills and the network's troubles in between and just after."""
        times = [note.at for note in self.chronicle if label in note.labels]
        return [
            note
            for note in self.chronicle
            if label in note.labels
            or (times and note.text.startswith((KILL, NETWORK)) and times[0] <= note.at <= times[-1] + 1)
        ]

    # The moment of a kill.

    def set_trap(self) -> asyncio.Event:
        """Set when the bot next says something: just before it takes effect, or after, with the answer held back."""
        self._trap, self._after_applying = asyncio.Event(), self._random.random() < 0.6
        return self._trap

    async def spring(self, *, applied: bool) -> None:
        """Hold this request while the process dies, if a trap is set for this moment."""
        if self._trap is None or applied != self._after_applying:
            return
        self._trap.set()
        self.counts[f"killed {'after' if applied else 'before'} a post"] += 1
        self._trap = None
        self.note(f"trap: killed {'after' if applied else 'before'} this takes effect")
        await asyncio.sleep(0.4)

    def hand_over(self, message: str) -> None:
        self._handed_over.append((time.monotonic(), message))

    def note_kill(self) -> None:
        self.note(KILL)
        self._trap = None
        now = time.monotonic()
        self.disturbed |= {message for at, message in self._handed_over if now - at < CUT_BY_A_KILL}

    # What happens later.

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def pending(self) -> bool:
        """Whether something is still on its way to the bot."""
        return bool(self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _draw(self, table: Mapping[Fault, float], share: float) -> Fault | None:
        dice = self._random.random()
        if not self.active:
            return None
        for kind, probability in table.items():
            dice -= probability * share
            if dice < 0:
                self.counts[kind] += 1
                return kind
        return None


def cut(request: web.Request, *, half: bytes = b"") -> None:
    """Break the connection with a reset, after `half` of what was to come."""
    if request.transport is None:
        return
    if half:
        request.transport.write(half)
        request.transport.close()
        return
    reset(request.transport)


def cut_in_half(request: web.Request, response: web.StreamResponse) -> None:
    """Send the head of the answer and half of its body, then end the connection."""
    body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
    head = f"HTTP/1.1 {response.status} OK\r\nContent-Type: {response.headers.get('Content-Type', '')}\r\n"
    head += f"Content-Length: {max(len(body), 2)}\r\n\r\n"
    cut(request, half=head.encode() + body[: len(body) // 2])
