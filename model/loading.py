"""A folder or a hub id becomes a model in memory, whole and on the right device, or a sentence says why not."""

import inspect
import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import __version__ as transformers_version
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from model.chat_format import ChatFormat
from model.checkpoint import Checkpoint, open_checkpoint
from model.errors import ModelUnusable
from model.fitting import billions, check_memory, choose_device, choose_dtype, recommended_sampling
from model.hardware import Device, one_thread, torch_computing

if TYPE_CHECKING:
    from model.engine.served import Opened, Quantisation

FALLBACK_CONTEXT = 32_768
"""Tokens, for a model that states no limit (a state-space model has none)."""

_WRITING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the classes are named whose checkpoints hold a head that writes; a model that also sees is among the last."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A causal language model in memory, ready to be served or trained."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: ChatFormat
    name: str
    version: str
    """The name and a fingerprint of the weights: "starter@1f2e3d4c"."""
    device: str
    dtype: str
    context_tokens: int
    """What the model can attend to, prompt and reply together."""
    parameters: int
    sampling_defaults: tuple[tuple[str, float], ...] = ()
    """What the checkpoint's generation_config.json recommends, by the names of `SamplingParams`."""

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Every token that ends a reply, by the chat format or by the model's own generation settings."""
        own = self.model.generation_config.eos_token_id if self.model.generation_config else None
        return self.format.stop_token_ids | frozenset(
            own if isinstance(own, list) else [] if own is None else [own]
        )

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def open_runner(
        self, *, context_tokens: int, max_running: int, cache_bytes: int | None, quantise: "Quantisation"
    ) -> "Opened":
        """As `ServedModel`. Modules of the model are replaced by faster ones."""
        from model.engine.trial import prepare  # the engine knows this module

        return prepare(
            self,
            context_tokens=context_tokens,
            max_running=max_running,
            cache_bytes=cache_bytes,
            quantise=quantise,
        )

    def computing(self) -> AbstractContextManager[None]:
        return torch_computing(self.device, self.parameters)

    def in_full(self) -> "LoadedModel":
        return self


def load_model(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    token: str | None = None,
    revision: str | None = None,
) -> LoadedModel:
    """Load "starter", a folder, or a hub id. Takes seconds to minutes; call it off the event loop.

    `device` is "auto", "cpu", "mps", "cuda" or "cuda:1"; `dtype` "auto", "float32", "bfloat16" or "float16".
    Raises `ModelNotFound` and `ModelUnusable`, whose messages name what is wrong.
    """
    return load_checkpoint(
        open_checkpoint(source, token=token, revision=revision), device=device, dtype=dtype
    )


def load_checkpoint(checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """As `load_model`, what is open already."""
    target = choose_device(device)
    chosen = choose_dtype(dtype, target, checkpoint)
    with _quiet_transformers(), one_thread():
        config = _load_config(checkpoint)
        tokenizer = load_tokenizer(checkpoint)
        _check_vocabulary(checkpoint, config, tokenizer)
        check_memory(checkpoint, target, chosen)
        model = _load_weights(checkpoint, config, target, chosen)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        format=ChatFormat(tokenizer),
        name=checkpoint.name,
        version=f"{checkpoint.name}@{checkpoint.fingerprint}",
        device=target.name,
        dtype=chosen,
        context_tokens=_context_tokens(config, tokenizer),
        parameters=model.num_parameters(),
        sampling_defaults=recommended_sampling(checkpoint),
    )


def _load_config(checkpoint: Checkpoint) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise ModelUnusable(
            f"transformers {transformers_version} cannot read the configuration of {checkpoint.name} "
            f"(code that a model brings along is never run): {_first_sentence(error)}"
        ) from error
    architectures = config.architectures or []
    writes = not architectures or any(name.endswith(_WRITING) for name in architectures)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or config.is_encoder_decoder or not writes:
        what = ", ".join(architectures) or config.model_type
        raise ModelUnusable(
            f"{checkpoint.name} is a {what}, not a causal language model: it cannot write replies."
        )
    return config


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
        known = len(tokenizer.encode("Hello 你好", add_special_tokens=False))
    except Exception as error:  # a missing or broken tokenizer fails in as many ways as there are tokenizers
        raise ModelUnusable(f"{checkpoint.name} has no usable tokenizer: {_first_sentence(error)}") from error
    if not known:
        raise ModelUnusable(f"{checkpoint.name} has no usable tokenizer: it has no vocabulary.")
    return tokenizer


def _check_vocabulary(
    checkpoint: Checkpoint, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = int(config.get_text_config().vocab_size)
    if len(tokenizer) > rows:
        raise ModelUnusable(
            f"The tokenizer of {checkpoint.name} has {len(tokenizer):,} tokens, but the model knows only {rows:,}."
        )


def _load_weights(
    checkpoint: Checkpoint, config: PretrainedConfig, device: Device, dtype: str
) -> PreTrainedModel:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, which says more than the exception
        )
        _check_report(checkpoint, model, report)
        _check_forward(checkpoint, model)
        return model.to(device.name)
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(checkpoint, device, dtype) from error
    except (RuntimeError, ValueError, ImportError, OSError, AttributeError) as error:
        if "allocate" in str(error):
            raise _out_of_memory(checkpoint, device, dtype) from error
        raise ModelUnusable(f"{checkpoint.name} cannot be loaded: {_first_sentence(error)}") from error


def _check_report(checkpoint: Checkpoint, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """A tensor that the files lack would have been initialised at random: the model would babble."""
    if mismatched := sorted(report["mismatched_keys"]):
        name, found, expected = mismatched[0]
        raise ModelUnusable(
            f"{checkpoint.name} has {len(mismatched)} tensors that do not fit its configuration, the first of "
            f"them {name}: {list(found)} in the file, {list(expected)} in the model."
        )
    if missing := sorted(report["missing_keys"]):
        raise ModelUnusable(
            f"{checkpoint.name} lacks {len(missing)} of the tensors that its configuration names, "
            f"the first of them {missing[0]}."
        )
    # Heads for other purposes may stay unused; a layer more than the configuration names may not.
    shapes = {_numberless(name) for name in model.state_dict()}
    if surplus := sorted(name for name in report["unexpected_keys"] if _numberless(name) in shapes):
        raise ModelUnusable(
            f"{checkpoint.name} has {len(surplus)} tensors that its configuration does not name, "
            f"the first of them {surplus[0]}."
        )


def _check_forward(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    lacking = {"past_key_values", "logits_to_keep"} - set(inspect.signature(model.forward).parameters)
    if lacking:
        raise ModelUnusable(
            f"{checkpoint.name} is a {type(model).__name__}, which cannot be served token by token: "
            f"its forward pass takes no {' and no '.join(sorted(lacking))}."
        )


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "N", name)


def _out_of_memory(checkpoint: Checkpoint, device: Device, dtype: str) -> ModelUnusable:
    return ModelUnusable(
        f"{checkpoint.name} with {billions(checkpoint.parameters)} parameters in {dtype} does not fit into the "
        f"memory of {device.name} ({device.description}). A smaller model will."
    )


def _context_tokens(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    stated = getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    return int(stated) if stated < 10**9 else FALLBACK_CONTEXT  # tokenizers say 10**30 for "not stated"


def _first_sentence(error: Exception) -> str:
    """Libraries explain at length; the log has all of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[a-z)'`\"]\.) ", text, maxsplit=1)[0]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without progress bars and advice meant for people who write training scripts."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
