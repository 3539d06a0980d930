"""From a corpus to the two stages: their examples, their steps, their learning rates."""

from transformers import PreTrainedTokenizerBase

from model.pretrain.corpus import Corpus
from model.pretrain.examples import Examples, encode_documents, language_modelling, replies_only
from model.pretrain.packing import plan_epoch
from model.pretrain.settings import PretrainSettings
from model.pretrain.training import Stage
from model.pretrain.watch import Watch

CHECKS_PER_STAGE = 20


def plan_stages(
    settings: PretrainSettings, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, devices: int, watch: Watch
) -> list[Stage]:
    """Stage 1 on everything, stage 2 on replies; a stage without epochs or without examples is left out."""
    train = encode_documents(corpus.train, tokenizer, settings.context)
    held_out = encode_documents(corpus.held_out, tokenizer, settings.context)
    peak = settings.learning_rate or settings.architecture.learning_rate
    stages: list[Stage] = []
    for name, select, epochs, rate in (
        ("language modelling", language_modelling, settings.epochs, peak),
        ("dialogue", replies_only, settings.sft_epochs, peak * settings.sft_learning_rate_factor),
    ):
        examples, measured = select(train), select(held_out)
        if epochs and len(examples) and len(measured):
            stages.append(_plan_stage(settings, len(stages), name, examples, measured, epochs, rate, devices))
        elif epochs:
            watch.note(f"The stage {name!r} is left out: the corpus holds fewer than two examples for it.")
    return stages


def _plan_stage(
    settings: PretrainSettings,
    number: int,
    name: str,
    train: Examples,
    held_out: Examples,
    epochs: float,
    rate: float,
    devices: int,
) -> Stage:
    plans = plan_epoch(
        train, context=settings.context, micro_tokens=settings.forward_tokens, seed=(settings.seed, number, 0)
    )
    group = devices * max(1, round(settings.step_tokens / settings.forward_tokens / devices))
    steps = max(1, round(epochs * len(plans) / group))
    return Stage(
        number=number,
        name=name,
        train=train,
        held_out=held_out,
        steps=steps,
        micro_batches=group,
        peak_rate=rate,
        check_every=settings.check_every or max(1, steps // CHECKS_PER_STAGE),
    )
