"""`pretrain`: from a corpus to a model folder. The path of one run, told top to bottom."""

import platform
import time
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from model.pretrain.attention import SHORT_ROWS
from model.pretrain.checkpoint import Checkpoint, Progress, find_checkpoint, load_checkpoint
from model.pretrain.corpus import Corpus, Text, load_corpus
from model.pretrain.devices import choose_mixed, compile_objective, device_name, peak_memory, utilisation
from model.pretrain.folder import RunFolder, check_folder, continue_folder, create_folder, load_tokenizer
from model.pretrain.network import Objective, advise_sampling, build_network, flops_per_token, load_network
from model.pretrain.packing import SHORTEST_ROW
from model.pretrain.personas import dress
from model.pretrain.picture import draw_losses
from model.pretrain.settings import PretrainReport, PretrainSettings
from model.pretrain.stages import plan_stages
from model.pretrain.tokenizer import train_tokenizer
from model.pretrain.training import Stage, Training
from model.pretrain.watch import Unwatched, Watch


def pretrain(settings: PretrainSettings, watch: Watch | None = None) -> PretrainReport:
    """Train a model from scratch on `settings.corpus` and leave it in `settings.out`, a Hugging Face folder.

    A run that was killed goes on from its last checkpoint when it is started again in the same way, and ends with
    the same losses. Raises `PretrainError`, before anything is written, for what cannot be trained from.
    """
    watch = watch or Unwatched()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    accelerator = Accelerator()
    unfinished = check_folder(settings.out)
    corpus = load_corpus(
        settings.corpus, held_out=settings.held_out, near_duplicates=settings.near_duplicates
    )
    watch.note(_tell_corpus(corpus))
    folder = _open_folder(settings, corpus, accelerator, unfinished=unfinished)
    tokenizer = folder.load_tokenizer()
    stages = plan_stages(settings, corpus, tokenizer, accelerator.num_processes, watch)
    training = build_training(settings, folder, tokenizer, stages, accelerator, watch)
    checkpoint = _resume(training)
    for stage in stages[training.progress.stage :]:
        training.run_stage(stage, checkpoint)
        checkpoint = None
    return _finish(training, corpus, tokenizer)


def _open_folder(
    settings: PretrainSettings, corpus: Corpus, accelerator: Accelerator, *, unfinished: bool
) -> RunFolder:
    description = describe(settings, corpus)
    accelerator.wait_for_everyone()  # nobody creates the folder before everybody has looked
    if not unfinished and accelerator.is_main_process:
        create_folder(settings.out, description, _find_tokenizer(settings, corpus))
    accelerator.wait_for_everyone()
    return continue_folder(settings.out, description)


def _find_tokenizer(settings: PretrainSettings, corpus: Corpus) -> PreTrainedTokenizerBase:
    if settings.start_from is not None:
        return load_tokenizer(settings.start_from)
    return train_tokenizer(
        tokenizer_texts(corpus),
        vocabulary=settings.vocabulary or settings.architecture.vocabulary,
        exact=settings.vocabulary is not None,
        context=settings.context,
    )


def describe(settings: PretrainSettings, corpus: Corpus) -> dict[str, Any]:
    """What `run.json` says: everything that another run would need to come to the same end."""
    code = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        code.update(file.read_bytes())
    return {
        "settings": settings.told(),
        "corpus": {
            "sha256": corpus.digest,
            "train_documents": len(corpus.train),
            "held_out_documents": len(corpus.held_out),
            "duplicates": corpus.duplicates,
            "near_duplicates": corpus.near_duplicates,
        },
        "code": {"parley": version("parley"), "sha256": code.hexdigest()},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "accelerate")},
        "machine": {"python": platform.python_version(), "platform": platform.platform()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def tokenizer_texts(corpus: Corpus) -> Iterator[str]:
    """What the tokenizer learns from: all that a model will be shown, roles and personas included."""
    for document in corpus.train:
        if isinstance(document, Text):
            yield document.text
        else:
            for message in dress(document).messages:
                yield (
                    f"{message.role}\n{message.name}: {message.content}"
                    if message.name
                    else (f"{message.role}\n{message.content}")
                )


def build_training(
    settings: PretrainSettings,
    folder: RunFolder,
    tokenizer: PreTrainedTokenizerBase,
    stages: list[Stage],
    accelerator: Accelerator,
    watch: Watch,
) -> Training:
    network = (
        load_network(settings.start_from)
        if settings.start_from is not None
        else build_network(settings.architecture, tokenizer, settings.context, settings.seed)
    )
    device = accelerator.device
    mixed = choose_mixed(settings.precision, device)
    if mixed and device.type == "cpu":
        network.set_attn_implementation(SHORT_ROWS)
    plain = Objective(network, mixed=mixed).to(device)
    micro_batches = sum(stage.steps * stage.micro_batches for stage in stages)
    compiled = compile_objective(
        accelerator.prepare(plain),
        settings.compile,
        device=device,
        planned_flops=micro_batches * settings.forward_tokens * _flops_per_token(settings, network),
        note=watch.note,
    )
    return Training(
        settings=settings,
        network=network,
        objective=compiled,
        plain=plain,
        accelerator=accelerator,
        folder=folder,
        watch=watch,
        progress=Progress(),
        padding=tokenizer.pad_token_id,
    )


def _resume(training: Training) -> Checkpoint | None:
    """Go back to the newest checkpoint, if the run has one."""
    path = find_checkpoint(training.folder.checkpoints)
    checkpoint = load_checkpoint(path) if path else None
    if checkpoint is not None:
        training.progress = checkpoint.progress
        training.load_weights(checkpoint.weights)
    progress = training.progress
    if training.accelerator.is_main_process:
        training.folder.rewind_metrics(progress.stage, progress.step)
    if checkpoint is not None:
        training.watch.note(f"Going on from step {progress.step} of stage {progress.stage + 1}.")
    return checkpoint


def _finish(training: Training, corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> PretrainReport:
    """Save the model in bfloat16, draw the losses, write the report."""
    settings, network, progress = training.settings, training.network, training.progress
    device, folder = training.accelerator.device, training.folder
    speed = progress.tokens / progress.seconds if progress.seconds else 0.0
    flops = speed * _flops_per_token(settings, network)
    report = PretrainReport(
        out=str(settings.out),
        parameters=sum(weight.numel() for weight in network.parameters()),
        vocabulary=len(tokenizer),
        train_documents=len(corpus.train),
        held_out_documents=len(corpus.held_out),
        tokens=progress.tokens,
        stages=tuple(progress.finished),
        seconds=round(progress.seconds, 2),
        tokens_per_second=round(speed, 1),
        model_flops_per_second=flops,
        model_flops_utilisation=utilisation(device, flops / training.accelerator.num_processes),
        peak_memory_bytes=peak_memory(device),
        device=device_name(device, training.accelerator.num_processes),
    )
    if training.accelerator.is_main_process:
        advise_sampling(network, settings.sampling_advice)
        folder.save_model(network.to(torch.bfloat16), tokenizer)
        draw_losses(folder.read_metrics(), [stage.name for stage in report.stages], folder.run / "loss.png")
        folder.finish(report)
    training.accelerator.wait_for_everyone()
    return report


def _flops_per_token(settings: PretrainSettings, network: PreTrainedModel) -> int:
    return flops_per_token(network, min(SHORTEST_ROW, settings.context))


def _tell_corpus(corpus: Corpus) -> str:
    sentence = f"{len(corpus.train):,} documents to learn from, {len(corpus.held_out):,} held out"
    for number, what in (
        (corpus.duplicates, "duplicates dropped"),
        (corpus.near_duplicates, "near-duplicates dropped"),
        (corpus.skipped_files, "files of other kinds skipped"),
    ):
        sentence += f"; {number:,} {what}" if number else ""
    return sentence + "."
