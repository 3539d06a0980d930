"""The protocol of delivery against a platform that drops, repeats, reorders and does not answer, and crashes.

The driver here is small; what it calls is the real `storage.inbox`, `storage.outbox` and `storage.scans`.
"""

import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, create_engine, delete, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from storage import tables
from storage.inbox import Claim, Received, add_received, claim_next, is_any_due, renew_claim
from storage.outbox import (
    Part,
    add_preview,
    commit_answer,
    conclude_answer,
    list_parts,
    mark_not_posted,
    mark_pending,
    mark_posted,
    mark_sending,
    mark_sent,
)
from storage.scans import add_scan, advance_scan, list_scans

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CHANNELS = ("general", "random")
PLATFORMS: tuple[tables.Platform, ...] = ("discord",)
DISCORD: tuple[tables.Platform, ...] = ("discord",)
LEASE = 30.0
NONCE_SECONDS = 60.0
"""How long the platform knows the marker of a post, and gives back that post in place of a second one."""
PAGE = 2
WORKERS = 2

Outcome = Literal["answered", "applied", "lost", "refused"]
"""Of a post: the platform says that it stands there; it does, but nobody is told; it does not; it does not, and
says so."""
Bug = Literal["none", "live watermark", "fresh nonce"]
T = TypeVar("T")


@dataclass
class Said:
    """A message as the platform shows it."""

    id: int
    text: str
    at: datetime
    answers: int | None = None
    """For the bot's messages: to which one."""


@dataclass
class Platform:
    now: datetime = NOON
    history: dict[str, list[Said]] = field(default_factory=lambda: {channel: [] for channel in CHANNELS})
    events: list[tuple[str, Said]] = field(default_factory=list)
    """On their way to the bot; each may get lost, come twice, or overtake."""
    _nonces: dict[str, Said] = field(default_factory=dict)
    _count: int = 0

    def say(self, channel: str, text: str, answers: int | None = None) -> Said:
        self._count += 1
        said = Said(self._count, text, self.now + timedelta(microseconds=self._count), answers)
        self.history[channel].append(said)
        return said

    def post(self, channel: str, nonce: str, text: str, answers: int, outcome: Outcome) -> str | None:
        """The id of the post, or None for an answer that does not come. A refusal raises."""
        if outcome == "refused":
            raise PermissionError
        if outcome == "lost":
            return None
        said = self._nonces.get(nonce)
        if said is None or self.now - said.at >= timedelta(seconds=NONCE_SECONDS):
            said = self._nonces[nonce] = self.say(channel, text, answers)
        return str(said.id) if outcome == "answered" else None

    def answers_to(self, channel: str, question: int) -> list[Said]:
        return [said for said in self.history[channel] if said.answers == question]


@dataclass
class Worker:
    steps: Generator[None]
    claim: Claim | None = None
    began: bool = False


class Delivery(RuleBasedStateMachine):
    """A bot, its database, and the platform. A step of a worker goes from one transaction or call to the next."""

    def __init__(self, engine: Engine, bug: Bug) -> None:
        super().__init__()
        self.engine = engine
        self.bug = bug
        self.platform = Platform()
        self.outcome: Outcome = "answered"
        self.takes = 0
        self.order: list[tuple[str, str, int]] = []
        """What was stored and first claimed, in the order in which it was."""
        self.workers: list[Worker] = []
        with Session(engine) as session, session.begin():
            for table in (tables.Inbox, tables.Outbox, tables.Scan):
                session.execute(delete(table))
        self.write(self.watch)
        self.start()

    def watch(self, tx: Session) -> None:
        for channel in CHANNELS:
            add_scan(
                tx,
                platform="discord",
                workspace="club",
                channel=channel,
                thread="",
                private=False,
                begin_after="0",
                active_until=NOON + timedelta(days=365),
            )

    def write(self, work: Callable[[Session], T]) -> T:
        """One transaction."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return work(session)

    @rule(channel=st.sampled_from(CHANNELS), times=st.integers(1, 3))
    def somebody_speaks(self, channel: str, times: int) -> None:
        for _ in range(times):
            self.platform.events.append((channel, self.platform.say(channel, "Hello?")))

    @precondition(lambda self: self.platform.events)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives twice", "is lost"]))
    def an_event(self, data: st.DataObject, fate: str) -> None:
        number = data.draw(st.integers(0, len(self.platform.events) - 1))
        channel, said = self.platform.events[number]
        if fate != "arrives twice":
            del self.platform.events[number]
        if fate != "is lost":
            self.receive(channel, said)

    @rule(channel=st.sampled_from(CHANNELS))
    def the_bot_scans(self, channel: str) -> None:
        self.scan(channel)

    @rule(
        number=st.integers(0, WORKERS - 1),
        outcomes=st.lists(
            st.sampled_from(["answered", "applied", "lost", "refused"]), min_size=4, max_size=12
        ),
    )
    def the_bot_works(self, number: int, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.step(number, outcome)

    @rule()
    def the_bot_crashes(self) -> None:
        self.start()

    @rule(seconds=st.sampled_from([1, 20, 50, 70]))
    def time_passes(self, seconds: int) -> None:
        """The bot renews its leases; those of one that crashed end."""
        self.platform.now += timedelta(seconds=seconds)
        self.write(self.renew)

    def renew(self, tx: Session) -> None:
        for worker in self.workers:
            if worker.claim is not None:
                renew_claim(tx, worker.claim, self.platform.now + timedelta(seconds=LEASE))

    def teardown(self) -> None:
        """Faults end, and the bot works until there is nothing to do: every message has its answer, once, in order."""
        self.start()
        for channel in CHANNELS:
            while self.scan(channel):
                pass
        self.time_passes(70)
        while self.step(0, "answered"):
            pass
        for channel, history in self.platform.history.items():
            for said in history:
                if said.answers is None:
                    self.check(channel, said.id)
            self.check_order(channel)

    def check(self, channel: str, question: int) -> None:
        shown = [said.text for said in self.platform.answers_to(channel, question)]
        assert shown, f"message {question} was lost"
        take = shown[0].partition(":")[0]
        assert shown == bodies(question, take), f"message {question} was answered so: {shown}"

    def check_order(self, channel: str) -> None:
        """Whoever was stored before a later message was begun is answered before it."""
        begun = [event for event in self.order if event[1] == channel]
        for place, (what, _, question) in enumerate(begun):
            if what == "claimed":
                earlier = {
                    number for kind, _, number in begun[:place] if kind == "stored" and number < question
                }
                first = self.platform.answers_to(channel, question)[0].id
                assert all(self.platform.answers_to(channel, number)[-1].id < first for number in earlier)

    def start(self) -> None:
        """A new process: all that it knows is in the database."""
        self.workers = [Worker(self.work(number)) for number in range(WORKERS)]

    def step(self, number: int, outcome: Outcome) -> bool:
        """Whether there was anything to do."""
        self.outcome = outcome
        if next(self.workers[number].steps, "ended") != "ended":
            return True
        idle = not self.workers[number].began
        self.workers[number] = Worker(self.work(number))
        return not idle

    def receive(self, channel: str, said: Said) -> None:
        def store(tx: Session) -> None:
            self.store(tx, channel, said)
            if self.bug == "live watermark":
                place = next(p for p in list_scans(tx, "discord", NOON) if p.channel == channel)
                advance_scan(tx, place.id, str(max(said.id, int(place.verified_upto))))

        self.write(store)

    def scan(self, channel: str) -> bool:
        """Whether there was anything to read."""

        def store(tx: Session) -> bool:
            place = next(p for p in list_scans(tx, "discord", NOON) if p.channel == channel)
            unread = [s for s in self.platform.history[channel] if s.id > int(place.verified_upto)]
            for said in unread[:PAGE]:
                if said.answers is None:
                    self.store(tx, channel, said)
                advance_scan(tx, place.id, str(said.id))
            return bool(unread)

        return self.write(store)

    def store(self, tx: Session, channel: str, said: Said) -> None:
        received = Received(
            platform="discord",
            workspace="club",
            channel=channel,
            thread="",
            message_id=str(said.id),
            author_id="7",
            author_name="Ann",
            text=said.text,
            via="mention",
            created_at=said.at,
        )
        if add_received(tx, received, self.platform.now):
            self.order.append(("stored", channel, said.id))

    def work(self, number: int) -> Generator[None]:
        """Answer one message. A crash may come at every `yield`."""
        if not self.write(lambda tx: is_any_due(tx, DISCORD, self.platform.now)):
            return
        claim = self.write(
            lambda tx: claim_next(
                tx, owner="bot", platforms=PLATFORMS, now=self.platform.now, lease_seconds=LEASE
            )
        )
        if claim is None:
            return
        worker = self.workers[number]
        worker.claim, worker.began = claim, True
        place = claim.received.channel
        assert [other.claim.received.channel for other in self.workers if other.claim].count(place) == 1
        begun = ("claimed", place, int(claim.received.message_id))
        if begun not in self.order:
            self.order.append(begun)
        yield
        if not claim.answered:
            yield from self.generate(claim)
        while (todo := self.next_part(claim, "pending", "sending")) is not None:
            yield from self.send(claim, todo)
        worker.claim = None
        self.write(lambda tx: conclude_answer(tx, claim))

    def generate(self, claim: Claim) -> Generator[None]:
        """Every try says something else, so an answer of two tries shows."""
        while (doubtful := self.next_part(claim, "sending")) is not None:
            yield from self.send(claim, doubtful)
        self.takes += 1
        question = int(claim.received.message_id)
        if question % 3 and not self.parts(claim):
            early = self.write(lambda tx: add_preview(tx, claim, 0, f"take {self.takes}", self.platform.now))
            yield
            yield from self.post(claim, early)
            if question % 3 == 2 and self.next_part(claim, "sending", "pending") is None:
                surplus = self.write(lambda tx: add_preview(tx, claim, 2, "too much", self.platform.now))
                yield
                yield from self.post(claim, surplus)
        texts = bodies(question, f"take {self.takes}")
        self.write(lambda tx: commit_answer(tx, claim, texts, decision="answer", answer_id=None, shown={}))
        yield

    def parts(self, claim: Claim) -> list[Part]:
        return self.write(lambda tx: list_parts(tx, claim))

    def next_part(self, claim: Claim, *states: str) -> Part | None:
        return next((part for part in self.parts(claim) if part.state in states), None)

    def send(self, claim: Claim, part: Part) -> Generator[None]:
        if part.state == "sending" and self.platform.now - (part.first_try_at or NOON) < timedelta(
            seconds=NONCE_SECONDS
        ):
            yield from self.post(claim, part)
        elif part.state == "sending":
            yield from self.look_for(claim, part)
        elif part.op == "post":
            self.write(lambda tx: mark_sending(tx, claim, part, self.platform.now))
            yield
            yield from self.post(claim, part)
        else:
            self.change(claim, part)
            yield
            self.write(lambda tx: mark_sent(tx, claim, part, part.external_id))
            yield

    def post(self, claim: Claim, part: Part) -> Generator[None]:
        nonce = secrets.token_hex(12) if self.bug == "fresh nonce" else part.nonce
        question = int(claim.received.message_id)
        try:
            found = self.platform.post(claim.received.channel, nonce, part.body, question, self.outcome)
        except PermissionError:
            if part.attempts <= 1 and part.state == "pending":
                self.write(lambda tx: mark_pending(tx, claim, part, "Too many posts."))
            yield
            return
        yield
        if found is not None:
            self.write(lambda tx: mark_posted(tx, claim, part, found))
            yield

    def look_for(self, claim: Claim, part: Part) -> Generator[None]:
        """The bot's message there that answers the question and that is no other part."""
        known = {other.external_id for other in self.parts(claim)}
        there = self.platform.answers_to(claim.received.channel, int(claim.received.message_id))
        found = next((str(said.id) for said in there if str(said.id) not in known), None)
        if found is None:
            self.write(lambda tx: mark_not_posted(tx, claim, part))
        else:
            self.write(lambda tx: mark_posted(tx, claim, part, found))
        yield

    def change(self, claim: Claim, part: Part) -> None:
        """Edits and removals may be repeated."""
        history = self.platform.history[claim.received.channel]
        for said in [said for said in history if str(said.id) == part.external_id]:
            if part.op == "edit":
                said.text = part.body
            else:
                history.remove(said)


def bodies(question: int, take: str) -> list[str]:
    """The parts of an answer: two for every second message."""
    return [f"{take}: part {number}" for number in range(1 + question % 2)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def hold_references(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    tables.Base.metadata.create_all(engine)
    return engine


def search(engine: Engine, bug: Bug, *, examples: int) -> None:
    run_state_machine_as_test(
        lambda: Delivery(engine, bug),  # type: ignore[arg-type]  # it takes any maker of one
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_lost_and_nothing_answered_twice(engine: Engine) -> None:
    search(engine, "none", examples=25)


def test_a_watermark_that_live_events_move_loses_messages(engine: Engine) -> None:
    with pytest.raises(AssertionError, match="was lost"):
        search(engine, "live watermark", examples=200)


def test_a_fresh_marker_at_every_try_answers_twice(engine: Engine) -> None:
    with pytest.raises(AssertionError, match="was answered so"):
        search(engine, "fresh nonce", examples=200)
