"""How fast `parley pretrain` trains, against a plain optimised loop and transformers' Trainer as it comes.

    python -m benchmarks.pretrain_throughput [--json] [--size 8m] [--rounds 5] [--threads 2]

All three train the same network on the same dialogues of the starter's corpus, in turns within one process; the
figures are medians over the rounds, in real tokens a second, padding not counted.

parley     the product's own step: packed rows, no example sees another, bf16 where it pays, compiled
plain      what a person writes who wants speed alone: tokens end to end in full rows, causal attention through
           document borders, no masks, bf16 autocast, fused AdamW, clipping, compiled
trainer    `Trainer(model, TrainingArguments(output_dir), train_dataset)`: 8 examples a batch, padded, default precision
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn import functional
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from model.pretrain.corpus import Corpus, load_corpus
from model.pretrain.devices import choose_mixed, device_name, peak_memory, utilisation
from model.pretrain.examples import Examples
from model.pretrain.folder import RunFolder
from model.pretrain.network import build_network, flops_per_token
from model.pretrain.optimiser import build_optimiser
from model.pretrain.packing import SHORTEST_ROW, endless
from model.pretrain.run import build_training, tokenizer_texts
from model.pretrain.settings import SIZES, PretrainSettings
from model.pretrain.stages import plan_stages
from model.pretrain.tokenizer import train_tokenizer
from model.pretrain.watch import Unwatched
from model.starter.corpus import dialogues
from model.starter.corpus.__main__ import to_json

DIALOGUES = 3_000
TRAINER_BATCH = 8

Turn = Callable[[], tuple[int, float]]
"""Train for a while; the real tokens that were seen and the seconds that it took."""


def measure(size: str, rounds: int, steps: int, threads: int | None) -> dict[str, object]:
    if threads is not None:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        settings = PretrainSettings(
            corpus=Path(folder) / "corpus.jsonl",
            out=Path(folder) / "out",
            size=size,
            sft_epochs=0,
            compile="on",
        )
        corpus = _write_corpus(settings)
        vocabulary = settings.architecture.vocabulary
        tokenizer = train_tokenizer(
            tokenizer_texts(corpus), vocabulary=vocabulary, exact=False, context=settings.context
        )
        device = Accelerator().device
        turns: dict[str, Turn] = {}
        for name, build in (("parley", _parley), ("plain", _plain), ("trainer", _trainer)):
            turns[name] = build(settings, corpus, tokenizer, steps)
            turns[name]()  # compiles, fills caches
            if name == "parley":
                memory = peak_memory(device)  # before the others take any
        speeds: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(rounds):
            for name, turn in turns.items():
                tokens, seconds = turn()
                speeds[name].append(tokens / seconds)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    network = build_network(settings.architecture, tokenizer, settings.context, seed=0)
    flops = medians["parley"] * flops_per_token(network, SHORTEST_ROW)
    return {
        "device": device_name(device, 1),
        "size": size,
        **{f"{name}_tokens_per_second": round(speed, 1) for name, speed in medians.items()},
        "ratio_to_plain": round(medians["parley"] / medians["plain"], 3),
        "ratio_to_trainer": round(medians["parley"] / medians["trainer"], 3),
        "model_flops_per_second": round(flops),
        "model_flops_utilisation": utilisation(device, flops),
        "peak_memory_bytes": memory,
        "rounds": rounds,
    }


def _write_corpus(settings: PretrainSettings) -> Corpus:
    lines = (json.dumps(to_json(dialogue)) for dialogue in dialogues(count=DIALOGUES))
    settings.corpus.write_text("\n".join(lines), encoding="utf-8")
    return load_corpus(settings.corpus, held_out=settings.held_out)


def _parley(
    settings: PretrainSettings, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, steps: int
) -> Turn:
    accelerator = Accelerator()
    stages = plan_stages(settings, corpus, tokenizer, 1, Unwatched())
    training = build_training(settings, RunFolder(settings.out), tokenizer, stages, accelerator, Unwatched())
    optimiser = build_optimiser(training.network, settings.weight_decay)
    groups = endless(
        stages[0].train,
        context=settings.context,
        micro_tokens=settings.forward_tokens,
        group=stages[0].micro_batches,
        seed=(0,),
    )

    def turn() -> tuple[int, float]:
        tokens, started = training.progress.tokens, time.perf_counter()
        for plans in islice(groups, steps):
            training.take_step(stages[0], plans, optimiser)
        return training.progress.tokens - tokens, time.perf_counter() - started

    return turn


def _plain(
    settings: PretrainSettings, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, steps: int
) -> Turn:
    device = Accelerator().device
    network = build_network(settings.architecture, tokenizer, settings.context, seed=0).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    mixed = choose_mixed(settings.precision, device)
    rows = _full_rows(plan_stages(settings, corpus, tokenizer, 1, Unwatched())[0].train, SHORTEST_ROW)
    height = settings.forward_tokens // SHORTEST_ROW
    accumulated = max(1, settings.step_tokens // settings.forward_tokens)

    @torch.compile(dynamic=False)
    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            logits = network(input_ids=ids, use_cache=False).logits
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    def batches() -> Iterator[torch.Tensor]:
        while True:
            order = torch.randperm(len(rows))
            for start in range(0, len(rows) - height + 1, height):
                yield rows[order[start : start + height]]

    stream = batches()

    def turn() -> tuple[int, float]:
        started = time.perf_counter()
        for _ in range(steps):
            for ids in islice(stream, accumulated):
                torch.autograd.backward(loss_of(ids.to(device)) / accumulated)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps * accumulated * height * SHORTEST_ROW, time.perf_counter() - started

    return turn


def _full_rows(examples: Examples, length: int) -> torch.Tensor:
    whole = len(examples.ids) // length * length
    return torch.from_numpy(examples.ids[:whole].astype(np.int64)).view(-1, length)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Seconds from the beginning of the first step to the end of the last."""

    started = seconds = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.started = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.started = self.started or time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds = time.perf_counter() - self.started


def _trainer(
    settings: PretrainSettings, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, steps: int
) -> Turn:
    """Trains on as many tokens as the others, so that a turn takes each through the same text."""
    examples = plan_stages(settings, corpus, tokenizer, 1, Unwatched())[0].train
    rows = [{"input_ids": piece.tolist()} for piece in np.split(examples.ids, examples.starts[1:-1])]
    average = len(examples.ids) / len(rows)
    network = build_network(settings.architecture, tokenizer, settings.context, seed=0)
    random = np.random.default_rng(0)

    def turn() -> tuple[int, float]:
        chosen = random.permutation(len(rows))[
            : max(TRAINER_BATCH, int(steps * settings.step_tokens / average))
        ]
        dataset = [rows[index] for index in chosen[: len(chosen) // TRAINER_BATCH * TRAINER_BATCH]]
        stopwatch = Stopwatch()
        arguments = TrainingArguments(
            output_dir=str(settings.out),
            num_train_epochs=1,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=network,
            args=arguments,
            train_dataset=dataset,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
            callbacks=[stopwatch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return sum(len(row["input_ids"]) for row in dataset), stopwatch.seconds

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrain_throughput", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--size", default="8m", choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of one turn")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    figures = measure(given.size, given.rounds, given.steps, given.threads)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:,}" if isinstance(value, int | float) else f"{name:28} {value}")


if __name__ == "__main__":
    main()
