"""`parley pretrain`: options in, a progress bar while it trains, what came of it at the end."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from model.errors import PretrainError
from model.pretrain.settings import SIZES, PretrainReport, PretrainSettings
from model.pretrain.watch import Watch

NEEDED = "{missing} is missing, which training needs. Install it with: pip install 'parley[train]'"


def pretrain(
    corpus: Annotated[Path, typer.Argument(help="a .txt or .jsonl file, or a folder of them")],
    out: Annotated[Path, typer.Option(help="the folder for the model; an unfinished run in it goes on")],
    start_from: Annotated[Path | None, typer.Option(help="an earlier run's folder, to go on from")] = None,
    size: Annotated[str, typer.Option(help=f"parameters: {', '.join(SIZES)}")] = "8m",
    context: Annotated[int, typer.Option(help="tokens that the model sees at once")] = 1024,
    vocabulary: Annotated[int | None, typer.Option(help="tokens that there are; default by size")] = None,
    epochs: Annotated[float, typer.Option(help="stage 1: passes over everything")] = 2.0,
    sft_epochs: Annotated[float, typer.Option(help="stage 2: passes over the dialogues, replies only")] = 2.0,
    minutes: Annotated[
        float | None, typer.Option(help="ends after so much training, with the passes that it had time for")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="tokens of one step; default by size")] = None,
    micro_tokens: Annotated[
        int, typer.Option(help="tokens at once on one device; fewer take less memory")
    ] = 8192,
    optimiser: Annotated[str, typer.Option(help="adamw, or muon for the matrices between")] = "adamw",
    learning_rate: Annotated[float | None, typer.Option(help="the highest; default by size")] = None,
    sft_learning_rate_factor: Annotated[float, typer.Option(help="stage 2's highest, as a share")] = 0.3,
    weight_decay: Annotated[float, typer.Option(help="of matrices, not of norms")] = 0.1,
    held_out: Annotated[float, typer.Option(help="share of the documents set aside to measure with")] = 0.01,
    near_duplicates: Annotated[
        float | None, typer.Option(help="drop documents that agree this much, 0 to 1 (such as 0.85)")
    ] = None,
    check_every: Annotated[int | None, typer.Option(help="steps between two checkpoints")] = None,
    patience: Annotated[int, typer.Option(help="checks without a better held-out loss before it stops")] = 5,
    seed: Annotated[int, typer.Option(help="the same seed and corpus give the same model")] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="how it is best sampled, for the model's generation_config.json")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="as --temperature")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="as --temperature")] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32")] = "auto",
    compile: Annotated[str, typer.Option(help="torch.compile: auto, on or off")] = "auto",
    threads: Annotated[int | None, typer.Option(help="processor threads; default all")] = None,
) -> None:
    """Train a model from scratch on text and dialogues. Started again after a stop, it goes on."""
    settings_given = dict(locals())
    console = Console()
    try:
        settings = PretrainSettings(**settings_given)
        report = _train(settings, console)
    except PretrainError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(f"Stopped. The same command goes on from the last checkpoint in {out}.")
        raise typer.Exit(130) from None
    if report is not None:
        console.print(tell(report), markup=False, highlight=False, soft_wrap=True)


def _train(settings: PretrainSettings, console: Console) -> PretrainReport:
    try:
        from model.pretrain.run import pretrain as train  # with torch, which takes seconds to import
    except ModuleNotFoundError as error:
        raise PretrainError(NEEDED.format(missing=error.name)) from error
    with ProgressBar(console) as bar:
        return train(settings, bar)


class ProgressBar:
    """A `Watch` that draws a bar with the loss and the time left; notes and checks stand above it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, sentence: str) -> None:
        self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def begin(self, stage: str, steps: int, done: int) -> None:
        self._task = self._progress.add_task(stage, total=steps, completed=done, loss="-", speed="-")

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        if self._task is not None:
            self._progress.update(
                self._task, completed=done, loss=f"{loss:.3f}", speed=f"{tokens_per_second:,.0f}"
            )

    def check(self, done: int, held_out_loss: float, *, better: bool) -> None:
        self.note(f"step {done}: held-out loss {held_out_loss:.4f}" + ("" if better else ", no better"))


def tell(report: PretrainReport) -> str:
    """What a run came to, in a few lines."""
    stages = (
        f"  {stage.name}: {stage.steps} of {stage.planned_steps} steps, held-out loss {stage.held_out_loss:.4f} "
        f"(best at step {stage.best_step})"
        for stage in report.stages
    )
    used = report.model_flops_utilisation
    return "\n".join(
        (
            f"{report.parameters:,} parameters, {report.vocabulary:,} tokens in the vocabulary, on {report.device}.",
            *stages,
            f"{report.tokens:,} tokens in {report.seconds:,.0f} s: {report.tokens_per_second:,.0f} tokens/s, "
            f"{report.model_flops_per_second / 1e9:,.0f} GFLOP/s"
            + (f", {used:.0%} of the device's peak" if used else "")
            + f"; peak memory {report.peak_memory_bytes / 2**20:,.0f} MiB.",
            f"The model is in {report.out}; to talk with it: PARLEY_MODEL={report.out} parley chat",
        )
    )
