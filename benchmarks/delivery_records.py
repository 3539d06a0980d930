"""What each run came to, as a line of JSON, written when it ends: a stop loses nothing, and the next start goes on."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.delivery_run import Outcome, Plan

COUNTED = ("lost", "twice", "out_of_order", "text_differs")


@dataclass(frozen=True, slots=True)
class Record:
    """One run. `findings` and `trouble` are sentences."""

    plan: Plan
    messages: int
    starts: int
    lost: int
    twice: int
    out_of_order: int
    text_differs: int
    unasked: int
    pairs: int
    seconds: float
    decisions: dict[str, int]
    faults: dict[str, int]
    findings: Sequence[str]
    trouble: Sequence[str]

    @classmethod
    def of(cls, outcome: Outcome) -> "Record":
        verdict = outcome.verdict
        return cls(
            plan=outcome.plan,
            messages=verdict.messages,
            starts=outcome.starts,
            **{name: len(getattr(verdict, name)) for name in (*COUNTED, "unasked")},
            pairs=verdict.pairs,
            seconds=round(outcome.seconds, 1),
            decisions=dict(verdict.decisions),
            faults=dict(outcome.faults),
            findings=[f"{kind}: q{finding.number} {finding.what}" for kind, finding in verdict.findings],
            trouble=outcome.trouble,
        )

    @classmethod
    def read(cls, line: str) -> "Record":
        told = json.loads(line)
        return cls(**{**told, "plan": Plan(**told["plan"])})

    def write(self) -> str:
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Book:
    """The records of a file, or of none: then they are forgotten at the end."""

    path: Path | None
    records: dict[Plan, Record] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path | None) -> "Book":
        """A last line that was cut off by a stop counts as not written."""
        book = cls(path)
        if path is not None and path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole, encoding="utf-8")
            for record in map(Record.read, whole.splitlines()):
                book.records[record.plan] = record
        return book

    def add(self, record: Record) -> None:
        self.records[record.plan] = record
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(record.write() + "\n")


@dataclass(slots=True)
class Sum:
    """All runs of one combination together."""

    messages: int = 0
    kills: int = 0
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    text_differs: int = 0
    unasked: int = 0
    seconds: float = 0.0
    decisions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.kills += record.plan.kills
        for name in ("messages", *COUNTED, "unasked", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(record, name))
        self.decisions += Counter(record.decisions)
        self.faults += Counter(record.faults)
        self.trouble += record.trouble

    @property
    def clean(self) -> bool:
        return not (self.unasked or self.trouble or any(getattr(self, name) for name in COUNTED))

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("messages", "kills", *COUNTED)}
