"""Who was lost, who was answered twice: judged from what people said, what stands there, and what was stored."""

import html
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.delivery_echo import MARKER, compose

CLOSED_WITHOUT_ANSWER = ("expired", "blocked", "over_quota", "dead")
"""Decisions about a message that addresses the bot. To ignore it is none of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said, in the order in which it was said. `conversation` is where its answer belongs."""

    number: int
    message_id: str
    conversation: str
    addressed: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A message of the bot that stands there at the end, in the order in which they were posted."""

    conversation: str
    text: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds, by the platform's id of the question; None where the bot has no database."""

    decisions: Mapping[str, str]
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be: the question's number and id, and what is wrong."""

    number: int
    message_id: str
    what: str


@dataclass(slots=True)
class Verdict:
    """`unasked`: answers to what was said to nobody. `pairs` were compared for their order.

    `strays` are texts of the bot that name no question: apologies, sentences in an answer's place.
    """

    messages: int = 0
    lost: list[Finding] = field(default_factory=list)
    twice: list[Finding] = field(default_factory=list)
    out_of_order: list[Finding] = field(default_factory=list)
    text_differs: list[Finding] = field(default_factory=list)
    unasked: list[Finding] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    strays: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        kinds = ("lost", "twice", "out_of_order", "text_differs", "unasked")
        return [(kind, finding) for kind in kinds for finding in getattr(self, kind)]


@dataclass(slots=True)
class Answer:
    """What stands in answer to one question: where each of its lines stands, by generation, and all texts."""

    lines: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By generation: the number of a line, and the position of the message that shows it."""
    texts: list[str] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The position of the first line that stands."""
        return min(at for lines in self.lines.values() for _, at in lines)

    @property
    def faults(self) -> list[str]:
        faults = (
            [f"generations {', '.join(sorted(self.lines))} stand side by side"] if len(self.lines) > 1 else []
        )
        for generation, lines in self.lines.items():
            often = [line for line, times in Counter(line for line, _ in lines).items() if times > 1]
            faults += [f"lines {often[:5]} of generation {generation} stand more than once"] if often else []
        return faults


def check(
    said: Sequence[Said], shown: Sequence[Shown], stored: Stored | None, disturbed: Iterable[str] = ()
) -> Verdict:
    """`disturbed` are the ids of messages whose events did not reach the bot in order: none is owed by them."""
    answers = _answers(said, shown)
    verdict = Verdict(messages=len(said), decisions=Counter(stored.decisions.values() if stored else ()))
    verdict.strays = [message.text for message in shown if not MARKER.search(html.unescape(message.text))]
    for message in said:
        answer = answers.get(message.number)
        if not message.addressed:
            _add(verdict.unasked, message, "it was answered" if answer else "")
            continue
        _add(verdict.lost, message, _loss(message, answer, stored))
        if answer is not None:
            _add(verdict.twice, message, "; ".join(answer.faults))
            if not answer.faults:
                _add(verdict.text_differs, message, _difference(message, answer, stored))
    _check_order(verdict, said, answers, set(disturbed))
    return verdict


def normalise(text: str) -> str:
    """Without Slack's escapes and without spaces: a platform trims, and a cut takes one away."""
    return "".join(html.unescape(text).split())


def _answers(said: Sequence[Said], shown: Sequence[Shown]) -> dict[int, Answer]:
    """By the question's number. What stands in another conversation answers nobody."""
    places = {message.number: message.conversation for message in said}
    answers: dict[int, Answer] = defaultdict(Answer)
    for position, message in enumerate(shown):
        markers = [match.groups() for match in MARKER.finditer(html.unescape(message.text))]
        for number, generation, line, _ in markers:
            if places.get(int(number)) == message.conversation:
                answers[int(number)].lines[generation].append((int(line), position))
        for number in {int(marker[0]) for marker in markers}:
            if places.get(number) == message.conversation:
                answers[number].texts.append(message.text)
    return dict(answers)


def _loss(message: Said, answer: Answer | None, stored: Stored | None) -> str:
    if answer is not None:
        return ""
    decision = stored.decisions.get(message.message_id) if stored else None
    if decision in CLOSED_WITHOUT_ANSWER:
        return ""
    return f"nothing stands there, and the decision is {decision}"


def _difference(message: Said, answer: Answer, stored: Stored | None) -> str:
    shown = normalise("".join(answer.texts))
    if stored is None:
        expected = compose(message.number, next(iter(answer.lines)))
    elif stored.decisions.get(message.message_id) == "dead":
        return ""
    elif message.message_id not in stored.answers:
        return "an answer stands there, and none is stored"
    else:
        expected = stored.answers[message.message_id]
    wanted = normalise(expected)
    return "" if shown == wanted else f"{len(shown)} characters stand there, and {len(wanted)} are stored"


def _check_order(
    verdict: Verdict, said: Sequence[Said], answers: Mapping[int, Answer], disturbed: set[str]
) -> None:
    conversations: dict[str, list[Said]] = defaultdict(list)
    for message in said:
        if message.number in answers and message.message_id not in disturbed:
            conversations[message.conversation].append(message)
    for messages in conversations.values():
        for earlier, later in pairwise(messages):
            verdict.pairs += 1
            if answers[earlier.number].first > answers[later.number].first:
                _add(verdict.out_of_order, later, f"it was answered before q{earlier.number}")


def _add(findings: list[Finding], message: Said, what: str) -> None:
    if what:
        findings.append(Finding(message.number, message.message_id, what))
