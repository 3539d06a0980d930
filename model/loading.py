"""A folder or a hub id becomes a model in memory, whole and on the right device, or a sentence says why not."""

import inspect
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
from model.errors import BadRequest, ModelUnusable
from model.hardware import WEIGHTS_SHARE, Device, inspect_hardware, largest_model, one_thread
from model.request import SamplingParams

log = logging.getLogger(__name__)

BFLOAT16_PAYS_FROM = 30_000_000
"""Parameters. On a processor with AMX, smaller models decode faster in float32; larger ones prefill 3 to 6 times
faster in bfloat16, and decode no slower."""

FALLBACK_CONTEXT = 32_768
"""Tokens, for a model that states no limit (a state-space model has none)."""

_WRITING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the classes are named whose checkpoints hold a head that writes; a model that also sees is among the last."""

RECOMMENDED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
"""What a generation_config.json may say about sampling that is followed."""

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
    target = choose_device(device)
    checkpoint = open_checkpoint(source, token=token, revision=revision)
    chosen = choose_dtype(dtype, target, checkpoint)
    with _quiet_transformers(), one_thread():
        config = _load_config(checkpoint)
        tokenizer = _load_tokenizer(checkpoint)
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


def choose_device(wanted: str) -> Device:
    """The device called `wanted`; "auto" is the first CUDA device, else MPS, else the processor."""
    devices = inspect_hardware().devices
    if wanted == "auto":
        return devices[0]
    for device in devices:
        if wanted in (device.name, device.kind):
            return device
    names = ", ".join(device.name for device in devices)
    raise ModelUnusable(f"There is no device {wanted!r} here; there is {names}.")


def choose_dtype(wanted: str, device: Device, checkpoint: Checkpoint) -> str:
    """The name of the dtype that suits the device, or the one that was asked for."""
    if wanted in DTYPES:
        return wanted
    if wanted != "auto":
        raise ModelUnusable(f"There is no dtype {wanted!r}; there are auto, {', '.join(DTYPES)}.")
    if device.kind == "cpu":
        halved = checkpoint.dtype in ("BF16", "F16")
        pays = checkpoint.parameters >= BFLOAT16_PAYS_FROM
        return "bfloat16" if device.native_bfloat16 and halved and pays else "float32"
    return "bfloat16" if device.native_bfloat16 else "float16"


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


def _load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
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


def recommended_sampling(checkpoint: Checkpoint) -> tuple[tuple[str, float], ...]:
    """The sampling that the model's makers found good. What this engine would refuse is left out, and logged."""
    path = checkpoint.folder / "generation_config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        log.warning("%s has an unreadable generation_config.json: %s", checkpoint.name, error)
        return ()
    if not isinstance(told, dict) or told.get("do_sample") is False:
        return ()  # the values beside it are of no effect
    recommended = []
    for name in RECOMMENDED:
        if told.get(name) is not None:
            try:
                SamplingParams.from_mapping({name: told[name]})
            except BadRequest as error:
                log.warning("%s recommends a sampling that is left out: %s", checkpoint.name, error)
            else:
                recommended.append((name, told[name]))
    return tuple(recommended)


def _check_vocabulary(
    checkpoint: Checkpoint, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = int(config.get_text_config().vocab_size)
    if len(tokenizer) > rows:
        raise ModelUnusable(
            f"The tokenizer of {checkpoint.name} has {len(tokenizer):,} tokens, but the model knows only {rows:,}."
        )


def check_memory(checkpoint: Checkpoint, device: Device, dtype: str) -> None:
    """Say before the loading what would fail, or swap for minutes, in it."""
    if device.memory_free is None or checkpoint.parameters <= largest_model(device.memory_free, dtype):
        return
    fits = largest_model(device.memory_free, dtype)
    raise ModelUnusable(
        f"{checkpoint.name} has {_billions(checkpoint.parameters)} parameters. {device.description} has "
        f"{device.memory_free / 2**30:.1f} GiB of memory free, where {_billions(fits)} fit in {dtype} "
        f"({1 - WEIGHTS_SHARE:.0%} is kept for conversations)."
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
        f"{checkpoint.name} with {_billions(checkpoint.parameters)} parameters in {dtype} does not fit into the "
        f"memory of {device.name} ({device.description}). A smaller model will."
    )


def _context_tokens(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    stated = getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    return int(stated) if stated < 10**9 else FALLBACK_CONTEXT  # tokenizers say 10**30 for "not stated"


def _billions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"


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
