"""Tiny checkpoints of every shape that goes the lean way, as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from model.checkpoint import Checkpoint, read_checkpoint
from tests.model.engine.architectures import _SHAPE, _WITH_HEAD
from tests.model.tiny_models import make_tokenizer

_SLIDING: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}

SHAPES: dict[str, PretrainedConfig] = {
    "Llama": LlamaConfig(**_WITH_HEAD),
    "Llama, tied": LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "Llama with biases": LlamaConfig(**_WITH_HEAD, attention_bias=True, mlp_bias=True),
    "Llama with heads of an odd size": LlamaConfig(**(_WITH_HEAD | {"head_dim": 6}), rms_norm_eps=1e-3),
    "Llama without groups": LlamaConfig(**(_WITH_HEAD | {"num_key_value_heads": 4})),
    "Mistral": MistralConfig(**_WITH_HEAD, sliding_window=16),
    "Qwen2": Qwen2Config(**_SHAPE),
    "Qwen2 with two kinds of layers": Qwen2Config(**_SHAPE, **_SLIDING),
    "Qwen3": Qwen3Config(**_WITH_HEAD, attention_bias=True),
    "Qwen3, tied": Qwen3Config(**_WITH_HEAD, tie_word_embeddings=True),
    "Qwen3 with two kinds of layers": Qwen3Config(**_WITH_HEAD, **_SLIDING),
}


def save(name: str, folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Every weight is drawn, those of norms and biases, too; the model that was saved."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(SHAPES[name]).eval()
    with torch.no_grad():
        for parameter_name, weight in model.named_parameters():
            if "norm" in parameter_name:
                weight.normal_(1.0, 0.3)
            elif parameter_name.endswith("bias"):
                weight.normal_(0.0, 0.5)
    model = model.to(dtype)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return model


def checkpoint(name: str, folder: Path, *, dtype: torch.dtype = torch.float32) -> Checkpoint:
    save(name, folder, dtype=dtype)
    return read_checkpoint("tiny", folder)


def change_config(folder: Path, **values: object) -> None:
    """None takes the value out."""
    path = folder / "config.json"
    told = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))
