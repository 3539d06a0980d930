"""One stage of training: steps, checks, checkpoints, early stopping. Knows no text and no tokenizer."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from model.errors import PretrainError
from model.pretrain.checkpoint import Checkpoint, Progress, Weights, save_checkpoint
from model.pretrain.devices import give_memory_back
from model.pretrain.examples import Examples
from model.pretrain.folder import RunFolder
from model.pretrain.network import Objective
from model.pretrain.optimiser import Optimisers, build_optimiser, learning_rate
from model.pretrain.packing import Plan, build_batch, endless, learnt_in, plan_epoch
from model.pretrain.settings import PretrainSettings
from model.pretrain.watch import Watch

RECORD_EVERY = 10
MOST_HELD_OUT_TOKENS = 500_000


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage learns, measures itself on, and for how long."""

    number: int
    name: str
    train: Examples
    held_out: Examples
    steps: int
    micro_batches: int
    """In one optimiser step, over all devices."""
    peak_rate: float
    check_every: int


@dataclass(slots=True)
class Training:
    """What every stage of a run shares."""

    settings: PretrainSettings
    network: PreTrainedModel
    objective: nn.Module
    """Prepared for the devices, compiled where that pays."""
    plain: Objective
    """The same weights, not compiled: for checks, which would else be compiled a second time."""
    accelerator: Accelerator
    folder: RunFolder
    watch: Watch
    progress: Progress
    padding: int

    def run_stage(self, stage: Stage, resumed: Checkpoint | None) -> None:
        """Train until the planned steps are done or the held-out loss no longer falls; ends with the best weights."""
        optimiser = build_optimiser(self.network, self.settings.weight_decay, self.settings.optimiser)
        best = resumed.best if resumed else self.copy_weights()
        if resumed and resumed.optimiser:
            optimiser.load_state_dict(resumed.optimiser)
        progress = self.progress
        self.watch.begin(stage.name, stage.steps, progress.step)
        for plans in islice(self._groups(stage), progress.step, stage.steps):
            if progress.checks_without_better >= self.settings.patience:
                break
            self._record_step(stage, self.take_step(stage, plans, optimiser))
            ends = progress.step == stage.steps or self._time_passed() >= 1
            if progress.step % stage.check_every == 0 or ends:
                if self._check(stage):
                    best = self.copy_weights()
                self.save(best, optimiser.state_dict())
            if ends:
                break
        self.load_weights(best)
        progress.close_stage(stage.name, stage.steps)
        self.save(best, {})

    def _groups(self, stage: Stage) -> Iterator[list[Plan]]:
        return endless(
            stage.train,
            context=self.settings.context,
            micro_tokens=self.settings.forward_tokens,
            group=stage.micro_batches,
            seed=(self.settings.seed, stage.number),
        )

    def take_step(self, stage: Stage, plans: list[Plan], optimiser: Optimisers) -> float:
        """One optimiser step; the loss before it, per learnt token of all devices."""
        started = time.perf_counter()
        accelerator, progress = self.accelerator, self.progress
        learnt = sum(learnt_in(stage.train, plan) for plan in plans)
        mine = plans[accelerator.process_index :: accelerator.num_processes]
        total = torch.zeros((), device=accelerator.device)
        for number, plan in enumerate(mine, 1):
            batch = build_batch(stage.train, plan, self.padding)
            last = number == len(mine)
            with nullcontext() if last else accelerator.no_sync(self.objective):
                loss = self.objective(*(tensor.to(accelerator.device) for tensor in batch))
                # Devices average their gradients, and ours are sums over a share of the tokens.
                (loss * (accelerator.num_processes / learnt)).backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        rate = learning_rate(
            progress.step,
            stage.steps,
            peak=stage.peak_rate,
            warmup=self.settings.warmup,
            passed=self._time_passed(),
        )
        optimiser.step(rate)
        value = float(accelerator.reduce(total)) / learnt
        progress.step += 1
        progress.learnt_tokens += learnt
        progress.tokens += sum(int(stage.train.lengths[row].sum()) for plan in plans for row in plan.rows)
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        progress.stage_seconds += seconds
        return value

    def _time_passed(self) -> float:
        """The share of the time left to this stage that it has used; all devices agree on it."""
        if self.settings.minutes is None:
            return 0.0
        progress = self.progress
        before = progress.seconds - progress.stage_seconds
        share = progress.stage_seconds / max(1e-9, self.settings.minutes * 60 - before)
        mean = self.accelerator.reduce(torch.tensor(share, device=self.accelerator.device), reduction="mean")
        return float(mean)

    def _record_step(self, stage: Stage, loss: float) -> None:
        """Keep a running mean over about ten steps, which a resumed run goes on with."""
        progress = self.progress
        if not math.isfinite(loss):
            raise PretrainError(
                f"The loss was {loss} in step {progress.step} of stage {stage.name!r}: the learning rate of "
                f"{stage.peak_rate:g} is too high. The run folder keeps its last checkpoint."
            )
        progress.train_loss = loss if progress.step == 1 else 0.9 * progress.train_loss + 0.1 * loss
        self.watch.step(progress.step, loss, progress.tokens / progress.seconds)
        if progress.step % RECORD_EVERY == 0 and self.accelerator.is_main_process:
            self.folder.add_metrics(
                stage=stage.number,
                step=progress.step,
                loss=round(progress.train_loss, 5),
                tokens=progress.tokens,
                seconds=round(progress.seconds, 2),
            )

    def _check(self, stage: Stage) -> bool:
        """Measure the held-out loss; whether it is better than ever in this stage."""
        give_memory_back()
        progress = self.progress
        loss = self.held_out_loss(stage.held_out)
        better = loss < progress.best_loss
        if better:
            progress.best_loss, progress.best_step, progress.checks_without_better = loss, progress.step, 0
        else:
            progress.checks_without_better += 1
        self.watch.check(progress.step, loss, better=better)
        if self.accelerator.is_main_process:
            self.folder.add_metrics(stage=stage.number, step=progress.step, held_out_loss=round(loss, 5))
        return better

    @torch.no_grad()
    def held_out_loss(self, examples: Examples) -> float:
        """The mean over the learnt tokens, over half a million tokens at most: the same ones each time."""
        settings, accelerator = self.settings, self.accelerator
        plans = plan_epoch(
            examples, context=settings.context, micro_tokens=settings.forward_tokens, seed=(settings.seed,)
        )[: max(1, MOST_HELD_OUT_TOKENS // settings.forward_tokens)]
        total = torch.zeros((), device=accelerator.device)
        for plan in plans[accelerator.process_index :: accelerator.num_processes]:
            batch = build_batch(examples, plan, self.padding)
            total += self.plain(*(tensor.to(accelerator.device) for tensor in batch))
        return float(accelerator.reduce(total)) / sum(learnt_in(examples, plan) for plan in plans)

    def save(self, best: Weights, optimiser: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.folder.checkpoints, Checkpoint(self.progress, self.copy_weights(), best, optimiser)
            )
        self.accelerator.wait_for_everyone()

    def copy_weights(self) -> Weights:
        return {name: weight.detach().cpu().clone() for name, weight in self.network.named_parameters()}

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        for name, weight in self.network.named_parameters():
            weight.copy_(weights[name])
