"""Checkpoints: a folder each, whole or not there at all. What is in one is all that a resumed run needs."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.errors import PretrainError
from model.pretrain.settings import StageReport

Weights = dict[str, Tensor]


@dataclass(slots=True)
class Progress:
    """How far a run has come. `step` counts the optimiser steps done in `stage`."""

    stage: int = 0
    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    checks_without_better: int = 0
    train_loss: float = float("nan")
    tokens: int = 0
    """Real tokens seen, over all stages."""
    learnt_tokens: int = 0
    """In this stage."""
    seconds: float = 0.0
    """Spent in optimiser steps, over all stages."""
    stage_seconds: float = 0.0
    """Of these, in this stage."""
    finished: list[StageReport] = field(default_factory=list)

    def close_stage(self, name: str, planned_steps: int) -> None:
        """Keep what the stage came to, and stand before the first step of the next."""
        self.finished.append(
            StageReport(
                name=name,
                steps=self.step,
                planned_steps=planned_steps,
                best_step=self.best_step,
                train_loss=self.train_loss,
                held_out_loss=self.best_loss,
                learnt_tokens=self.learnt_tokens,
            )
        )
        self.stage += 1
        self.step = self.best_step = self.checks_without_better = self.learnt_tokens = 0
        self.best_loss, self.train_loss, self.stage_seconds = float("inf"), float("nan"), 0.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`best` are the weights of `progress.best_step`; `optimiser` is empty between two stages."""

    progress: Progress
    weights: Weights
    best: Weights
    optimiser: dict[str, object]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write into a folder beside, flush, then give it its name; older ones go afterwards."""
    progress = checkpoint.progress
    final = folder / f"{progress.stage}-{progress.step:08d}"
    staged = folder / f".{final.name}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_file(checkpoint.weights, staged / "weights.safetensors")
    if progress.best_step != progress.step:
        save_file(checkpoint.best, staged / "best.safetensors")
    torch.save(checkpoint.optimiser, staged / "optimiser.pt")
    (staged / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    for file in staged.iterdir():
        _flush(file)
    if final.exists():
        shutil.rmtree(final)  # left by a run that went on from an older one
    staged.replace(final)
    _flush(folder)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    if not folder.is_dir():
        return None
    return max((path for path in folder.iterdir() if not path.name.startswith(".")), default=None)


def load_checkpoint(path: Path) -> Checkpoint:
    try:
        values = json.loads((path / "progress.json").read_text(encoding="utf-8"))
        progress = replace(
            Progress(**values), finished=[StageReport(**stage) for stage in values["finished"]]
        )
        weights = load_file(path / "weights.safetensors")
        has_best = (path / "best.safetensors").exists()
        best = load_file(path / "best.safetensors") if has_best else dict(weights)
        optimiser = torch.load(path / "optimiser.pt", weights_only=True)
    except Exception as error:  # a damaged file raises what its format pleases
        raise PretrainError(f"The checkpoint {path} cannot be read: {error}") from error
    return Checkpoint(progress, weights, best, optimiser)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
