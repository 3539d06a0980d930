"""Kills the bot again and again while people talk and the platform fails: is anything lost, or answered twice?

python -m benchmarks.delivery [--messages 300] [--kills 40] [--runs 4] [--seed N] [--only NAME ...] [--json] [--quick]

Each combination of a platform and a database, and a naive handler on the same ground to show that it can fail.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks.delivery_process import SERVER
from benchmarks.delivery_run import Outcome, Plan, run

COMBINATIONS = ("discord_sqlite", "slack_sqlite", "discord_postgres", "slack_postgres")
NAIVE = ("naive_discord", "naive_slack")
COUNTED = ("lost", "twice", "out_of_order", "text_differs")
QUICK = {"messages": 60, "kills": 8, "runs": 1}
SEED = 20_261


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
    pairs: int = 0
    seconds: float = 0.0
    decisions: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.messages += outcome.verdict.messages
        self.kills += outcome.plan.kills
        for name in (*COUNTED, "unasked"):
            setattr(self, name, getattr(self, name) + len(getattr(outcome.verdict, name)))
        self.pairs += outcome.verdict.pairs
        self.seconds += outcome.seconds
        self.decisions += outcome.verdict.decisions
        self.trouble += outcome.trouble

    @property
    def clean(self) -> bool:
        return not (
            self.lost or self.twice or self.out_of_order or self.text_differs or self.unasked or self.trouble
        )

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("messages", "kills", *COUNTED)}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.quick:
        parser = _parser()
        parser.set_defaults(**QUICK)
        options = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the figures
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the bot is a child that must not be left behind
    sums = asyncio.run(measure(options))
    told = {name: total and total.as_json() for name, total in sums.items()}
    print(json.dumps(told)) if options.json else Console().print(_table(sums))
    sys.exit(0 if all(total is None or name == "naive" or total.clean for name, total in sums.items()) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--messages", type=int, default=300, help="said in each run")
    parser.add_argument("--kills", type=int, default=40, help="of the process in each run")
    parser.add_argument("--runs", type=int, default=4, help="of each combination, with seeds that follow")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", choices=(*COMBINATIONS, "naive"), help="these and no others")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="all of it in under five minutes")
    return parser


async def measure(options: argparse.Namespace) -> dict[str, Sum | None]:
    """By combination; None where there is no server for it, or it was not asked for."""
    wanted = options.only or (*COMBINATIONS, "naive")
    sums: dict[str, Sum | None] = {}
    for name in (*COMBINATIONS, "naive"):
        there = name in wanted and (SERVER or not name.endswith("postgres"))
        sums[name] = await _measure(NAIVE if name == "naive" else (name,), options) if there else None
    return sums


async def _measure(combinations: Sequence[str], options: argparse.Namespace) -> Sum:
    """The naive handler runs once, on both platforms at a time: it only shows what the others avoid."""
    total = Sum()
    for number in range(1 if combinations == NAIVE else options.runs):
        seed = options.seed + number
        plans = [Plan(name, options.messages, options.kills, seed) for name in combinations]
        for outcome in await asyncio.gather(*map(run, plans)):
            total.add(outcome)
            print(_line(outcome), file=sys.stderr, flush=True)
    return total


def _line(outcome: Outcome) -> str:
    verdict, plan = outcome.verdict, outcome.plan
    counts = ", ".join(f"{name} {len(getattr(verdict, name))}" for name in (*COUNTED, "unasked"))
    return (
        f"{plan.combination} seed {plan.seed}: {verdict.messages} messages, {outcome.starts} starts, {counts} "
        f"({verdict.pairs} pairs); decisions {dict(verdict.decisions)}; faults {dict(outcome.faults)}; "
        f"{outcome.seconds:.0f} s"
    )


def _table(sums: dict[str, Sum | None]) -> Table:
    table = Table("", "messages", "kills", *COUNTED, "decisions", "seconds", title="Delivery under kill -9")
    for name, total in sums.items():
        if total is not None:
            decisions = ", ".join(f"{kind} {count}" for kind, count in sorted(total.decisions.items()))
            cells = [str(count) for count in total.as_json().values()]
            table.add_row(name, *cells, decisions or "-", f"{total.seconds:.0f}")
    return table


if __name__ == "__main__":
    main()
