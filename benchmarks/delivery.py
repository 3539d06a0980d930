"""Lets people talk while everything fails: is anything lost, or answered twice?

python -m benchmarks.delivery [--messages 300] [--kills 40] [--runs 4] [--seed N] [--only NAME ...] [--json] [--quick]
python -m benchmarks.delivery --network ...    # the network and the database fail, and the process lives on
python -m benchmarks.delivery --out FILE ...   # a line of JSON for each run; what FILE has is not run again

Each combination of a platform and a database, and a naive handler on the same ground to show that it can fail.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks.delivery_postgres import MISSING, find_programs
from benchmarks.delivery_process import SERVER
from benchmarks.delivery_records import COUNTED, Book, Record, Sum
from benchmarks.delivery_run import Plan, run

COMBINATIONS = ("discord_sqlite", "slack_sqlite", "discord_postgres", "slack_postgres")
NAIVE = ("naive_discord", "naive_slack")
QUICK = {"messages": 60, "kills": 8, "runs": 1}
NETWORK = {"messages": 150}
"""Without restarts, what Slack allows in edits a minute makes a queue of more."""
SEED = 20_261
NO_SERVER = "PARLEY_TEST_POSTGRES names no PostgreSQL server: its combinations are left out."


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.quick or options.network:
        parser = _parser()
        parser.set_defaults(**(QUICK if options.quick else NETWORK))
        options = parser.parse_args(arguments)
    logging.getLogger("aiohttp.server").addFilter(_without_cuts)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the figures
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the bot is a child that must not be left behind
    sums = asyncio.run(measure(options))
    told = {name: total and total.as_json() for name, total in sums.items()}
    print(json.dumps(told)) if options.json else Console().print(_table(sums, network=options.network))
    sys.exit(0 if all(total is None or name == "naive" or total.clean for name, total in sums.items()) else 1)


def _without_cuts(record: logging.LogRecord) -> bool:
    """A request that was cut in the middle is no fault of the fake's."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--messages", type=int, default=300, help="said in each run; 150 with --network")
    parser.add_argument(
        "--kills", type=int, default=40, help="of the process in each run; none with --network"
    )
    parser.add_argument("--runs", type=int, default=4, help="of each combination, with seeds that follow")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", choices=(*COMBINATIONS, "naive"), help="these and no others")
    parser.add_argument("--network", action="store_true", help="proxies that fail, a database that stops")
    parser.add_argument("--out", type=Path, help="where each run is written down when it ends")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="all of it in under five minutes")
    return parser


async def measure(options: argparse.Namespace) -> dict[str, Sum | None]:
    """By combination; None where there is no server for it, or it was not asked for."""
    wanted = options.only or (*COMBINATIONS, "naive")
    sums: dict[str, Sum | None] = dict.fromkeys((*COMBINATIONS, "naive"))
    has_postgres = find_programs() is not None if options.network else bool(SERVER)
    if not has_postgres and any(name.endswith("postgres") for name in wanted):
        print(MISSING if options.network else NO_SERVER, file=sys.stderr)
    book = Book.open(options.out)
    for name in sums:
        if name in wanted and (has_postgres or not name.endswith("postgres")):
            sums[name] = await _measure(NAIVE if name == "naive" else (name,), options, book)
    return sums


async def _measure(combinations: Sequence[str], options: argparse.Namespace, book: Book) -> Sum:
    """The naive handler runs once, on both platforms at a time: it only shows what the others avoid."""
    total = Sum()
    kills = 0 if options.network else options.kills
    for number in range(1 if combinations == NAIVE else options.runs):
        seed = options.seed + number
        plans = [Plan(name, options.messages, kills, seed, options.network) for name in combinations]
        for outcome in await asyncio.gather(*(run(plan) for plan in plans if plan not in book.records)):
            book.add(Record.of(outcome))
            print(_line(book.records[outcome.plan]), file=sys.stderr, flush=True)
        for plan in plans:
            total.add(book.records[plan])
    return total


def _line(record: Record) -> str:
    counts = ", ".join(f"{name} {getattr(record, name)}" for name in (*COUNTED, "unasked"))
    return (
        f"{record.plan.combination} seed {record.plan.seed}: {record.messages} messages, {record.starts} starts, "
        f"{counts} ({record.pairs} pairs); decisions {dict(record.decisions)}; faults {dict(record.faults)}; "
        f"{record.seconds:.0f} s"
    )


def _table(sums: dict[str, Sum | None], *, network: bool) -> Table:
    title = "Delivery over a bad network" if network else "Delivery under kill -9"
    table = Table("", "messages", "kills", *COUNTED, "decisions", "seconds", title=title)
    for name, total in sums.items():
        if total is not None:
            decisions = ", ".join(f"{kind} {count}" for kind, count in sorted(total.decisions.items()))
            cells = [str(count) for count in total.as_json().values()]
            table.add_row(name, *cells, decisions or "-", f"{total.seconds:.0f}")
    return table


if __name__ == "__main__":
    main()
