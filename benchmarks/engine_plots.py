"""Three pictures of a run of the engine benchmark."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.engine import Measured, Plan

NAMES = {
    "parley": "Parley",
    "llamacpp": "llama.cpp, BF16",
    "generate": "transformers, generate",
    "continuous": "transformers, continuous batching",
}
COLOURS = {"parley": "#0b6e4f", "llamacpp": "#c1666b", "generate": "#48639c", "continuous": "#d4a017"}


def draw(measured: "Measured", plan: "Plan", folder: Path) -> list[Path]:
    """Writes PNG files into `folder` and tells which."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _save(_throughput(measured), folder / "engine_throughput.png"),
        _save(_conversation(measured, plan), folder / "engine_conversation.png"),
        _save(_long_prompt(measured, plan), folder / "engine_long_prompt.png"),
    ]


def _throughput(measured: "Measured") -> Figure:
    figure, axes = _axes("Tokens a second, all streams together", "streams at once", "tokens a second")
    rates: dict[str, dict[int, float]] = {}
    for (name, count), each in measured.decode.items():
        if each:
            rates.setdefault(name, {})[count] = statistics.median(each)
    counts = sorted({count for by_count in rates.values() for count in by_count})
    shown = [name for name in NAMES if name in rates]
    width = 0.8 / len(shown)
    for index, name in enumerate(shown):
        places = [counts.index(count) + (index - (len(shown) - 1) / 2) * width for count in rates[name]]
        bars = axes.bar(places, list(rates[name].values()), width, label=NAMES[name], color=COLOURS[name])
        axes.bar_label(bars, fmt="%.3g", fontsize=8, padding=2)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    figure.legend(loc="outside lower center", ncols=len(shown), frameon=False)
    return figure


def _conversation(measured: "Measured", plan: "Plan") -> Figure:
    each = plan.history_tokens // (plan.turns - 1)
    title = f"First token of each turn: {each} tokens more a turn, in the last one {plan.turn_tokens}"
    figure, axes = _axes(title, "turn", "seconds")
    for name, label in NAMES.items():
        if times := measured.conversation.get(name):
            axes.plot(range(1, len(times) + 1), times, "o-", label=label, color=COLOURS[name])
    axes.set_xticks(range(1, plan.turns + 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _long_prompt(measured: "Measured", plan: "Plan") -> Figure:
    title = f"One stream of Parley's while a prompt of {plan.long_prompt_tokens:,} tokens arrives"
    figure, axes = _axes(title, "seconds since the arrival", "milliseconds since the token before")
    shown = measured.interruptions[0]
    times = shown.stream.times
    axes.plot(
        [moment - shown.arrived for moment in times[2:]],
        [1000 * gap for gap in shown.stream.gaps()[1:]],
        ".",
        color=COLOURS["parley"],
    )
    axes.axvspan(0, shown.answered - shown.arrived, alpha=0.12, color=COLOURS["llamacpp"])
    axes.text(0.02, 0.95, "shaded: until the long prompt's first token", transform=axes.transAxes, fontsize=9)
    axes.set_ylim(bottom=0)
    return figure


def _axes(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path
