"""What a run came to is written down as it ends; what is written down is not run again."""

import argparse
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import delivery
from benchmarks.delivery_check import Finding, Verdict
from benchmarks.delivery_records import Book, Record, Sum
from benchmarks.delivery_run import Outcome, Plan

PLAN = Plan("discord_sqlite", 60, 8, 7)


def outcome(plan: Plan = PLAN) -> Outcome:
    verdict = Verdict(messages=60, lost=[Finding(3, "m3", "nothing stands there")], pairs=30)
    verdict.decisions = Counter(answer=58)
    return Outcome(plan, verdict, starts=9, seconds=41.26, faults=Counter({"cut": 2}))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record.of(outcome())
    assert (record.lost, record.seconds) == (1, 41.3)
    assert record.findings == ["lost: q3 nothing stands there"]
    Book.open(tmp_path / "runs.jsonl").add(record)
    assert Book.open(tmp_path / "runs.jsonl").records == {PLAN: record}


def test_a_line_that_a_stop_has_cut_off_is_dropped_and_the_next_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    Book.open(path).add(Record.of(outcome()))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"plan": {"combina')
    again = Plan("discord_sqlite", 60, 8, 8)
    Book.open(path).add(Record.of(outcome(again)))
    assert set(Book.open(path).records) == {PLAN, again}


def test_a_sum_of_runs_is_clean_when_nothing_was_found() -> None:
    total = Sum()
    total.add(Record.of(outcome()))
    total.add(Record.of(outcome()))
    assert total.as_json() == {
        "messages": 120,
        "kills": 16,
        "lost": 2,
        "twice": 0,
        "out_of_order": 0,
        "text_differs": 0,
    }
    assert not total.clean
    assert Sum().clean


async def test_only_the_runs_that_are_not_written_down_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Plan] = []

    async def run(plan: Plan) -> Outcome:
        made.append(plan)
        return outcome(plan)

    monkeypatch.setattr(delivery, "run", run)
    wanted = argparse.Namespace(
        only=["slack_sqlite"],
        messages=60,
        kills=8,
        runs=2,
        seed=7,
        network=False,
        out=tmp_path / "runs.jsonl",
    )
    first, second = Plan("slack_sqlite", 60, 8, 7), Plan("slack_sqlite", 60, 8, 8)
    Book.open(wanted.out).add(Record.of(outcome(first)))
    sums = await delivery.measure(wanted)
    assert made == [second]
    total = sums["slack_sqlite"]
    assert total is not None
    assert total.messages == 120
    assert sums["naive"] is None
