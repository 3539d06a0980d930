"""How fast the engine writes, beside transformers and llama.cpp on the same weights.

    python -m benchmarks.engine [--quick] [--json] [--model qwen3-0.6b-shape|starter|FOLDER] [--plots DIR]
                                [--device cpu|cuda] [--threads N] [--spin]

Every peer lives in a process of its own, loads the same folder, and is asked in turn; a figure is the median of the
ratios of the rounds. What each figure means stands in docs/performance.md.

parley      the `Engine` seam, as the bot calls it
generate    transformers' `generate`: one prompt, or a static batch
continuous  transformers' continuous batching, in the same process as `generate`; not in the quick run
llamacpp    llama.cpp in BF16, where llama-cpp-python is installed (the extra `bench`)
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.engine_peer import Interruption, Peer, PeerSettings, Prompt, Remote, Stream
from benchmarks.engine_prompts import Prompts
from benchmarks.engine_weights import SHAPES, make_folder
from model.checkpoint import open_checkpoint
from model.hardware import compute_threads, inspect_hardware

PARLEY, GENERATE, CONTINUOUS, LLAMACPP = "parley", "generate", "continuous", "llamacpp"
SPIN = {"GOMP_SPINCOUNT": "20000", "OPENBLAS_NUM_THREADS": "1"}
"""What the `parley` command sets before torch and numpy are imported; transformers gets it, too. llama.cpp goes as it
comes."""
PREFETCH_MARGIN = 2.0
"""Times what the history takes: how long a person is given to type."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, how long and how often."""

    rounds: int = 5
    streams: tuple[int, ...] = (1, 4, 8)
    prompt_tokens: int = 512
    new_tokens: int = 64
    prefill_tokens: int = 2048
    turns: int = 10
    history_tokens: int = 2000
    turn_tokens: int = 30
    reply_tokens: int = 32
    long_prompt_tokens: int = 4000
    long_rounds: int = 3
    undisturbed_tokens: int = 64
    starter_prompt_tokens: int = 128
    starter_new_tokens: int = 128
    continuous: bool = True
    prefetch: bool = True
    every_conversation: bool = False
    """Whether all peers hold the ten turns, and not Parley alone."""
    bandwidth_megabytes: int = 1024
    matrix_size: int = 2048
    context_tokens: int = 8192


QUICK = Plan(
    rounds=3,
    streams=(1, 8),
    prompt_tokens=256,
    new_tokens=24,
    prefill_tokens=512,
    reply_tokens=16,
    long_rounds=1,
    undisturbed_tokens=40,
    starter_new_tokens=64,
    continuous=False,
    prefetch=False,
)


@dataclass(slots=True)
class Measured:
    """The raw figures, by peer; where there are several they are of the rounds, in their order."""

    decode: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Tokens a second, of all streams together."""
    step_gaps: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    prefill: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds to the first token."""
    conversation: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds to the first token of each turn."""
    last_turn: list[float] = field(default_factory=list)
    last_turn_cached: list[int] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    """Seconds to the first token of a turn whose history nobody has computed."""
    prefetched: list[float] = field(default_factory=list)
    """The same where the engine was told of the history beforehand, as when a person begins to type."""
    interruptions: list[Interruption] = field(default_factory=list)
    starter: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bandwidth: float = 0.0
    matrix_rate: float = 0.0
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class Caller(Protocol):
    """A peer, wherever it runs."""

    def call(self, method: str, *arguments: Any) -> Any: ...
    def peak_memory(self) -> int: ...
    def close(self) -> None: ...


Open = Callable[[str, PeerSettings], Caller]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    if options.device != "cpu":
        plan = replace(plan, streams=(*plan.streams, 64), matrix_size=8192, bandwidth_megabytes=8192)
    plan = replace(plan, every_conversation=options.plots is not None)
    told = Console(stderr=True, quiet=options.json).print
    model = options.model or ("qwen3-0.6b-shape" if options.device == "cpu" else "qwen3-8b-shape")
    started = time.perf_counter()
    with _folder_of(model, options.device, told) as folder:
        measured = measure(
            plan,
            folder,
            device=options.device,
            threads=options.threads,
            open_peer=partial(start_peer, spin=options.spin),
            told=told,
        )
    figures = to_figures(measured, plan)
    figures["detail"] |= {
        "model": model,
        "quick": options.quick,
        "seconds": round(time.perf_counter() - started),
    }
    if options.plots is not None:
        from benchmarks.engine_plots import draw

        draw(measured, plan, options.plots)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures, Console())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: under five minutes on 2 cores"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--model", help=f"{', '.join(SHAPES)}, starter, or a folder; the first where left out"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures; takes some minutes more")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=compute_threads(), help="for every peer")
    parser.add_argument(
        "--spin",
        action="store_true",
        help="let the threads of transformers spin for as long as OpenMP does by itself while they wait",
    )
    return parser


@contextmanager
def _folder_of(model: str, device: str, told: Callable[[str], None]) -> Iterator[Path]:
    if model not in SHAPES:
        yield open_checkpoint(model).folder
        return
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        told(f"Making random weights: {model} ...")
        yield make_folder(SHAPES[model], Path(folder), device=device)


# Measuring, in the order of time


def measure(
    plan: Plan,
    folder: Path,
    *,
    starter: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    open_peer: Open | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Measured:
    measured = Measured()
    open_peer = open_peer or start_peer
    prompts = Prompts(AutoTokenizer.from_pretrained(folder))
    settings = PeerSettings(folder, device, threads, plan.context_tokens, max(plan.streams))
    with ExitStack() as stack:
        peers = _open_all(stack, open_peer, settings, measured, told)
        told("Decoding ...")
        _measure_decoding(measured, plan, peers, prompts)
        told(f"Prompts of {plan.prefill_tokens:,} tokens ...")
        _measure_prefill(measured, plan, peers, prompts)
        told(f"Conversations of {plan.turns} turns ...")
        _measure_conversations(measured, plan, peers, prompts)
        _measure_prefetch(measured, plan, peers[PARLEY], prompts)
        told("A long prompt beside a stream ...")
        _measure_interruptions(measured, plan, peers[PARLEY], prompts)
        measured.memory = {name: peer.peak_memory() for name, peer in peers.items()}
        told("Memory bandwidth and matrix rate ...")  # behind the memory: they take some themselves
        measured.bandwidth = peers[PARLEY].call("bandwidth", plan.bandwidth_megabytes)
        measured.matrix_rate = peers[PARLEY].call("matrix_rate", plan.matrix_size)
    told("The starter ...")
    _measure_starter(measured, plan, starter, replace(settings, device=device), open_peer)
    return measured


def start_peer(name: str, settings: PeerSettings, *, spin: bool = False) -> Caller:
    """In a process of its own, which alone imports what it needs."""
    limited = name == PARLEY or (name == GENERATE and not spin)
    return Remote(BUILDERS[name], settings, SPIN if limited else {})


def _build_parley(settings: PeerSettings) -> Peer:
    from benchmarks.engine_parley import ParleyPeer

    return ParleyPeer(settings)


def _build_transformers(settings: PeerSettings) -> Peer:
    from benchmarks.engine_transformers import TransformersPeer

    return TransformersPeer(settings)


def _build_llamacpp(settings: PeerSettings) -> Peer:
    from benchmarks.engine_llamacpp import LlamaCppPeer

    return LlamaCppPeer(settings)


BUILDERS: Mapping[str, Callable[[PeerSettings], Peer]] = {
    GENERATE: _build_transformers,
    LLAMACPP: _build_llamacpp,
    PARLEY: _build_parley,  # the last: on a GPU it takes a share of the memory that the others left
}


def _open_all(
    stack: ExitStack,
    open_peer: Open,
    settings: PeerSettings,
    measured: Measured,
    told: Callable[[str], None],
) -> dict[str, Caller]:
    peers: dict[str, Caller] = {}
    for name in BUILDERS:
        if name == LLAMACPP and (fault := _llamacpp_fault()):
            measured.notes[LLAMACPP] = fault
            continue
        told(f"Loading: {name} ...")
        try:
            peer = open_peer(name, settings)
        except RuntimeError as error:
            if name != LLAMACPP:
                raise
            measured.notes[LLAMACPP] = str(error)
            continue
        stack.callback(peer.close)
        measured.described[name] = peer.call("describe")
        peers[name] = peer
    return peers


def _llamacpp_fault() -> str | None:
    missing = [name for name in ("llama_cpp", "gguf") if importlib.util.find_spec(name) is None]
    return f"Not installed: {', '.join(missing)} (pip install '.[bench]')." if missing else None


def _measure_decoding(measured: Measured, plan: Plan, peers: Mapping[str, Caller], prompts: Prompts) -> None:
    given = {count: [prompts.of(plan.prompt_tokens) for _ in range(count)] for count in plan.streams}
    for several in given.values():
        for peer in peers.values():
            peer.call("decode", several, 4)  # computes the prompts, and warms up
    for turn in range(plan.rounds):
        for count, several in given.items():
            for name, peer in peers.items():
                _record_decoding(measured, (name, count), peer.call("decode", several, plan.new_tokens))
            if plan.continuous and turn * 2 < plan.rounds:  # it is slow, and computes the prompts each time
                streams = peers[GENERATE].call("continuous", several, plan.new_tokens)
                _record_decoding(measured, (CONTINUOUS, count), streams)


def _record_decoding(measured: Measured, key: tuple[str, int], streams: Sequence[Stream]) -> None:
    measured.decode[key].append(decode_rate(streams))
    measured.step_gaps[key] += [gap for stream in streams for gap in stream.gaps()]


def decode_rate(streams: Sequence[Stream]) -> float:
    """Tokens a second while all of them write: from the last first token to the first last one.

    An engine that writes them one after another has no such time: its rate is over all of the time.
    """
    begin = max(stream.times[0] for stream in streams)
    end = min(stream.times[-1] for stream in streams)
    if end <= begin:
        begin, end = min(stream.times[0] for stream in streams), max(stream.times[-1] for stream in streams)
    tokens = 0.0
    for stream in streams:
        pieces = sum(begin < moment <= end for moment in stream.times)
        tokens += pieces * stream.tokens / len(stream.times)
    return tokens / (end - begin) if end > begin else 0.0


def _measure_prefill(measured: Measured, plan: Plan, peers: Mapping[str, Caller], prompts: Prompts) -> None:
    for _ in range(plan.rounds):
        prompt = prompts.of(plan.prefill_tokens)  # a new one each round: nobody knows its beginning
        for name, peer in peers.items():
            stream: Stream = peer.call("answer", prompt, 1)
            measured.prefill[name].append(stream.first_token_seconds)


def _measure_conversations(
    measured: Measured, plan: Plan, peers: Mapping[str, Caller], prompts: Prompts
) -> None:
    """Parley's last turn is asked again and again with other words, in turns with as many words alone."""
    for name, peer in peers.items():
        if name != PARLEY and not plan.every_conversation:
            continue
        prompt, reply = _hold_conversation(measured, plan, name, peer, prompts)
        if name != PARLEY:
            continue
        for _ in range(plan.rounds):
            last = prompts.following(prompt, reply, plan.turn_tokens)
            stream: Stream = peer.call("answer", last, 1, "conversation")
            measured.last_turn.append(stream.first_token_seconds)
            measured.last_turn_cached.append(stream.cached_tokens)
            alone: Stream = peer.call("answer", prompts.of(plan.turn_tokens), 1, "alone")
            measured.alone.append(alone.first_token_seconds)
        measured.conversation[name].append(statistics.median(measured.last_turn))


def _measure_prefetch(measured: Measured, plan: Plan, parley: Caller, prompts: Prompts) -> None:
    for _ in range(plan.long_rounds if plan.prefetch else 0):
        for times, told_before in ((measured.unknown, False), (measured.prefetched, True)):
            history = prompts.of(plan.history_tokens)
            last = prompts.following(history, "", plan.turn_tokens)
            if told_before:
                parley.call("prefetch", history, PREFETCH_MARGIN * measured.unknown[-1])
            times.append(parley.call("answer", last, 1, "prefetch").first_token_seconds)


def _hold_conversation(
    measured: Measured, plan: Plan, name: str, peer: Caller, prompts: Prompts
) -> tuple[Prompt, str]:
    """All turns but the last; of Parley, for the others all. The last prompt and its reply."""
    turns = plan.turns - 1 if name == PARLEY else plan.turns
    each = plan.history_tokens // (plan.turns - 1) - plan.reply_tokens
    prompt, reply = None, ""
    for turn in range(turns):
        new = plan.turn_tokens if turn == plan.turns - 1 else each
        prompt = prompts.of(each) if prompt is None else prompts.following(prompt, reply, new)
        stream: Stream = peer.call("answer", prompt, plan.reply_tokens, "conversation")
        measured.conversation[name].append(stream.first_token_seconds)
        reply = stream.text or prompts.decode(stream.ids)
    assert prompt is not None
    return prompt, reply


def _measure_interruptions(measured: Measured, plan: Plan, parley: Caller, prompts: Prompts) -> None:
    for _ in range(plan.long_rounds):
        running, arriving = prompts.of(plan.turn_tokens), prompts.of(plan.long_prompt_tokens)
        measured.interruptions.append(parley.call("interrupt", running, arriving, plan.undisturbed_tokens))


def _measure_starter(
    measured: Measured, plan: Plan, folder: Path | None, settings: PeerSettings, open_peer: Open
) -> None:
    folder = folder or open_checkpoint("starter").folder
    prompts = Prompts(AutoTokenizer.from_pretrained(folder), seed=1)
    with ExitStack() as stack:
        peers = {name: open_peer(name, replace(settings, folder=folder)) for name in (GENERATE, PARLEY)}
        for peer in peers.values():
            stack.callback(peer.close)
        several = [prompts.of(plan.starter_prompt_tokens)]
        for peer in peers.values():
            peer.call("decode", several, 8)
        for _ in range(plan.rounds):
            for name, peer in peers.items():
                measured.starter[name].append(
                    decode_rate(peer.call("decode", several, plan.starter_new_tokens))
                )


# From raw figures to the table


def to_figures(measured: Measured, plan: Plan) -> dict[str, Any]:
    """One object: ratios, each the median over the rounds; the values behind them under "detail"."""
    most = 8 if 8 in plan.streams else max(plan.streams)
    decode = measured.decode
    parley = measured.described[PARLEY]
    undisturbed = [gap for each in measured.interruptions for gap in each.undisturbed_gaps()]
    disturbed = [gap for each in measured.interruptions for gap in each.disturbed_gaps()]
    step_seconds = 1 / statistics.median(decode[PARLEY, 1])
    prefill_flops = parley["flops_per_token"] * plan.prefill_tokens
    prefill_seconds = statistics.median(measured.prefill[PARLEY])
    return {
        "decode_1_vs_generate": _ratio(decode[PARLEY, 1], decode[GENERATE, 1]),
        "decode_8_vs_generate_serial": _ratio(decode[PARLEY, most], decode[GENERATE, 1]),
        "decode_8_vs_generate_batch": _ratio(decode[PARLEY, most], decode[GENERATE, most]),
        "decode_8_vs_continuous": _ratio(decode[PARLEY, most], decode.get((CONTINUOUS, most), [])),
        "decode_64_vs_continuous": _ratio(decode.get((PARLEY, 64), []), decode.get((CONTINUOUS, 64), [])),
        "decode_8_vs_own_1": _ratio(decode[PARLEY, most], decode[PARLEY, 1]),
        "decode_1_vs_llamacpp": _ratio(decode[PARLEY, 1], decode.get((LLAMACPP, 1), [])),
        "prefill_vs_generate": _ratio(measured.prefill[GENERATE], measured.prefill[PARLEY]),
        "prefill_vs_llamacpp": _ratio(measured.prefill.get(LLAMACPP, []), measured.prefill[PARLEY]),
        "turn10_ttft_ratio": _ratio(measured.last_turn, measured.alone),
        "p99_over_p50_under_long_prompt": _rounded(
            percentile(disturbed, 0.99) / percentile(undisturbed, 0.5)
        ),
        "starter_1_vs_generate": _ratio(measured.starter[PARLEY], measured.starter[GENERATE]),
        "roofline_share": _rounded(parley["step_bytes"] / measured.bandwidth / step_seconds),
        "prefill_matrix_share": _rounded(prefill_flops / measured.matrix_rate / prefill_seconds),
        "detail": {
            "plan": asdict(plan),
            "machine": inspect_hardware().devices[-1 if parley["device"] == "cpu" else 0].description,
            "described": measured.described,
            "notes": measured.notes,
            "decode_tokens_per_second": _by_peer(decode, statistics.median),
            "inter_token_p50_seconds": _by_peer(measured.step_gaps, lambda gaps: percentile(gaps, 0.5)),
            "inter_token_p99_seconds": _by_peer(measured.step_gaps, lambda gaps: percentile(gaps, 0.99)),
            "first_token_seconds": {
                name: _rounded(statistics.median(times)) for name, times in measured.prefill.items()
            },
            "turn10_first_token_seconds": _rounded(statistics.median(measured.last_turn)),
            "turn10_cached_tokens": statistics.median(measured.last_turn_cached),
            "alone_first_token_seconds": _rounded(statistics.median(measured.alone)),
            "unknown_history_first_token_seconds": _median_of(measured.unknown),
            "prefetched_history_first_token_seconds": _median_of(measured.prefetched),
            "conversation_first_token_seconds": {
                name: [_rounded(value) for value in times] for name, times in measured.conversation.items()
            },
            "under_long_prompt": {
                "definition": "p99 of the gaps between arrival and first token of the long prompt, over the p50 "
                "of the same stream's gaps before",
                "undisturbed_p50_seconds": _rounded(percentile(undisturbed, 0.5)),
                "p50_seconds": _rounded(percentile(disturbed, 0.5)),
                "p99_seconds": _rounded(percentile(disturbed, 0.99)),
                "gaps": len(disturbed),
                "long_first_token_seconds": _rounded(
                    statistics.median(each.answered - each.arrived for each in measured.interruptions)
                ),
            },
            "starter_tokens_per_second": {
                name: _rounded(statistics.median(rates)) for name, rates in measured.starter.items()
            },
            "bandwidth_bytes_per_second": round(measured.bandwidth),
            "matrix_flops_per_second": round(measured.matrix_rate),
            "peak_memory_bytes": measured.memory,
        },
    }


def _ratio(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Median of the rounds' own ratios; None where one side was not measured."""
    pairs = list(zip(above, below, strict=False))
    return _rounded(statistics.median(high / low for high, low in pairs)) if pairs else None


def _median_of(values: Sequence[float]) -> float | None:
    return _rounded(statistics.median(values)) if values else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _by_peer(
    values: Mapping[tuple[str, int], list[float]], reduce: Callable[[list[float]], float]
) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for (name, count), each in values.items():
        if each:
            table.setdefault(name, {})[str(count)] = _rounded(reduce(each))
    return table


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


# For people

TITLES = {
    "decode_1_vs_generate": "one stream, against generate",
    "decode_1_vs_llamacpp": "one stream, against llama.cpp",
    "decode_8_vs_generate_serial": "8 streams, against generate one by one",
    "decode_8_vs_generate_batch": "8 streams, against a static batch of 8",
    "decode_8_vs_continuous": "8 streams, against continuous batching",
    "decode_64_vs_continuous": "64 streams, against continuous batching",
    "decode_8_vs_own_1": "8 streams, against one",
    "prefill_vs_generate": "reading a prompt, against generate",
    "prefill_vs_llamacpp": "reading a prompt, against llama.cpp",
    "turn10_ttft_ratio": "first token of turn 10, against its words alone",
    "p99_over_p50_under_long_prompt": "p99 between tokens beside a long prompt, over p50",
    "starter_1_vs_generate": "the starter, against generate",
    "roofline_share": "bandwidth of the memory, used by one stream",
    "prefill_matrix_share": "rate of large matrix products, used by a prompt",
}
WANTED: dict[str, dict[str, tuple[str, float]]] = {
    "cpu": {
        "decode_1_vs_generate": ("≥", 2.5),
        "decode_1_vs_llamacpp": ("≥", 0.8),
        "decode_8_vs_generate_serial": ("≥", 12),
        "decode_8_vs_generate_batch": ("≥", 4),
        "prefill_vs_generate": ("≥", 1.0),
        "prefill_vs_llamacpp": ("≥", 1.3),
        "turn10_ttft_ratio": ("≤", 1.3),
        "p99_over_p50_under_long_prompt": ("≤", 4),
        "starter_1_vs_generate": ("≥", 3),
    },
    "cuda": {
        "decode_1_vs_generate": ("≥", 4),
        "decode_8_vs_own_1": ("≥", 7),
        "decode_8_vs_continuous": ("≥", 1.2),
        "decode_64_vs_continuous": ("≥", 1.2),
        "turn10_ttft_ratio": ("≤", 1.3),
        "p99_over_p50_under_long_prompt": ("≤", 4),
        "roofline_share": ("≥", 0.8),
        "prefill_matrix_share": ("≥", 0.6),
    },
}
"""By the kind of device: what the engine is to reach."""


def show(figures: Mapping[str, Any], console: Console) -> None:
    detail = figures["detail"]
    console.print(f"{detail['model']} on {detail['machine']}, {detail['seconds']} s")
    wanted = WANTED.get(detail["described"][PARLEY]["device"].partition(":")[0], {})
    table = Table("measure", "wanted", "measured", "")
    for name, title in TITLES.items():
        value, (sign, bound) = figures[name], wanted.get(name, ("", 0.0))
        met = value is not None and (value >= bound if sign == "≥" else value <= bound)
        verdict = "" if value is None or not sign else "[green]met[/]" if met else "[red]not met[/]"
        table.add_row(
            title, f"{sign} {bound:g}" if sign else "", "-" if value is None else f"{value:.2f}", verdict
        )
    console.print(table)
    rates = detail["decode_tokens_per_second"]
    counts = list(rates[PARLEY])
    speeds = Table("tokens a second", *(f"{count} at once" for count in counts), "first token", "peak memory")
    for name, by_count in rates.items():
        first = detail["first_token_seconds"].get(name)
        memory = detail["peak_memory_bytes"].get(name)
        speeds.add_row(
            name,
            *(f"{by_count[count]:.1f}" if count in by_count else "-" for count in counts),
            "-" if first is None else f"{first:.2f} s",
            "-" if memory is None else f"{memory / 2**30:.1f} GiB",
        )
    console.print(speeds)
    for name, note in detail["notes"].items():
        console.print(f"{name}: {note}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
