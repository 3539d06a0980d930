"""Small corpora and shapes for these tests: seconds of training, yet every path of a real run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.pretrain.settings import PretrainSettings, Size

TINY = Size(
    hidden=32,
    layers=2,
    heads=2,
    key_value_heads=1,
    intermediate=64,
    vocabulary=320,
    learning_rate=1e-2,
    batch_tokens=512,
)

COLOURS = ("red", "green", "blue", "grey", "pink", "black", "white", "brown")
THINGS = ("apple", "leaf", "sky", "stone", "rose", "cat", "swan", "bear", "book", "boat")


def dialogues() -> list[dict[str, Any]]:
    """Eighty dialogues of one turn, in two languages."""
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for colour in COLOURS
        for thing in THINGS
        for question, answer in [
            (f"What colour is the {thing}?", f"The {thing} is {colour}, 我觉得是 {colour}。")
        ]
    ]


def texts() -> list[dict[str, Any]]:
    return [{"text": f"The {thing} was {colour}. " * 5} for colour in COLOURS[:2] for thing in THINGS]


def write_lines(path: Path, values: Sequence[dict[str, Any]]) -> Path:
    path.write_text(
        "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8"
    )
    return path


def settings_for(corpus: Path, out: Path, **changes: Any) -> PretrainSettings:
    given: dict[str, Any] = {
        "corpus": corpus,
        "out": out,
        "shape": TINY,
        "context": 128,
        "held_out": 0.1,
        "check_every": 4,
        "precision": "fp32",
        "compile": "off",
        "threads": 1,
    }
    return PretrainSettings(**{**given, **changes})


@dataclass
class Notebook:
    """A `Watch` that writes down what it is told."""

    notes: list[str] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def begin(self, stage: str, steps: int, done: int) -> None:
        self.stages.append((stage, steps, done))

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        self.losses.append(loss)

    def check(self, done: int, held_out_loss: float, *, better: bool) -> None:
        self.checks.append(held_out_loss)
