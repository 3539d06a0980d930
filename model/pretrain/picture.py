"""The loss curves of a run as a PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw_losses(metrics: Sequence[dict[str, Any]], stages: Sequence[str], path: Path) -> None:
    """One panel a stage: training loss as a line, held-out losses as points, both in nats per token."""
    figure = Figure(figsize=(5.5 * max(1, len(stages)), 4), layout="constrained")
    for number, name in enumerate(stages):
        axes = figure.add_subplot(1, len(stages), number + 1)
        own = [line for line in metrics if line["stage"] == number]
        for key, label, style in (("loss", "training", "-"), ("held_out_loss", "held out", "o-")):
            points = [(line["step"], line[key]) for line in own if key in line]
            axes.plot([x for x, _ in points], [y for _, y in points], style, markersize=3, label=label)
        axes.set(title=f"Stage {number + 1}: {name}", xlabel="step", ylabel="loss (nats per token)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
