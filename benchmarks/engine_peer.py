"""What every peer of the engine benchmark can do, and a process of its own for each. Knows no peer and no model."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from model.request import ChatMessage


@dataclass(frozen=True, slots=True)
class Prompt:
    """The same prompt as a dialogue, which Parley takes, and as tokens, which the others take."""

    messages: tuple[ChatMessage, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """One reply as its reader saw it."""

    times: tuple[float, ...]
    """When each piece arrived, in seconds since the request."""
    tokens: int
    """A piece may hold more than one."""
    ids: tuple[int, ...] = ()
    """Where the peer gives tokens out; Parley gives `text`."""
    text: str = ""
    cached_tokens: int = 0
    """Of the prompt, as the peer tells."""

    @property
    def first_token_seconds(self) -> float:
        return self.times[0]

    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.times)]


@dataclass(frozen=True, slots=True)
class Interruption:
    """A stream beside which another prompt arrived, and was answered with its first token."""

    stream: Stream
    arrived: float
    answered: float
    """Seconds since the stream's request, both."""

    def undisturbed_gaps(self) -> list[float]:
        """Between the tokens before the arrival; the first two steps behind a prompt are none of them."""
        before = [moment for moment in self.stream.times if moment <= self.arrived][2:]
        return [later - earlier for earlier, later in pairwise(before)]

    def disturbed_gaps(self) -> list[float]:
        """Every gap that lies, in part or whole, between the arrival and the first token of the answer."""
        pairs = pairwise(self.stream.times)
        return [
            later - earlier for earlier, later in pairs if later > self.arrived and earlier < self.answered
        ]


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What a peer is built from: the same for all of them."""

    folder: Path
    device: str
    threads: int
    context_tokens: int
    streams: int
    """The most that are asked for at once."""


class Peer(Protocol):
    """Text that cannot end by itself: every reply has exactly as many tokens as were asked for."""

    def describe(self) -> dict[str, object]: ...

    def decode(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        """Replies to prompts that are computed already, all at once: what counts is the time between tokens."""
        ...

    def answer(self, prompt: Prompt, new_tokens: int, conversation: str = "") -> Stream:
        """A reply alone. What the peer itself keeps of earlier prompts may help it, and nothing else."""
        ...

    def close(self) -> None: ...


class Remote:
    """A peer in a process of its own: with its own threads, and with a peak of memory that is its own."""

    def __init__(
        self, build: Callable[[PeerSettings], Peer], settings: PeerSettings, environment: Mapping[str, str]
    ) -> None:
        """Start it, and wait until it has loaded. `environment` is set before it imports anything."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(build, settings, theirs), daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()
        self._receive()

    def call(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        return self._receive()

    def peak_memory(self) -> int:
        """Bytes: the largest resident set of the process so far; weights that are mapped from a file count."""
        return int(self.call("peak_memory"))

    def close(self) -> None:
        if self._process.is_alive():
            self._pipe.send(("close", ()))
            self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.terminate()
        self._pipe.close()

    def _receive(self) -> Any:
        try:
            error, result = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"A peer's process ended with {self._process.exitcode}.") from None
        if error is not None:
            raise RuntimeError(error)
        return result


def seconds_since(started: float) -> float:
    return time.perf_counter() - started


def _serve(build: Callable[[PeerSettings], Peer], settings: PeerSettings, pipe: Connection) -> None:
    try:
        peer = build(settings)
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {error}", None))
        return
    pipe.send((None, None))
    for method, arguments in _until_closed(pipe):
        try:
            own = method == "peak_memory"
            pipe.send((None, _peak_memory() if own else getattr(peer, method)(*arguments)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
    peer.close()


def _until_closed(pipe: Connection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    with suppress(EOFError):  # whoever asked is gone
        while (message := pipe.recv())[0] != "close":
            yield message


def _peak_memory() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
