"""What a config.json says of a decoder, as far as the lean way knows it. Everything else is refused, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class NotLean(Exception):
    """The model is for transformers' own code; the reason is for the log."""


@dataclass(frozen=True, slots=True)
class Shape:
    """RMSNorm, rotary positions, grouped queries, SwiGLU; what Llama, Mistral, Qwen2 and Qwen3 have in common."""

    vocabulary: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    eps: float
    rope_theta: float
    positions: int
    tied: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    head_norms: bool
    """Whether queries and keys are normed head by head (Qwen3)."""
    windows: tuple[int | None, ...]
    """Of each layer, how many tokens it looks back upon; None: all."""

    @property
    def turned(self) -> int:
        """Heads that positions turn: queries and keys."""
        return self.heads + self.kv_heads

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that a checkpoint of this shape holds."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        expected: dict[str, tuple[int, ...]] = {
            EMBEDDING: (self.vocabulary, self.hidden),
            NORM: (self.hidden,),
        }
        if not self.tied:
            expected[HEAD] = (self.vocabulary, self.hidden)
        for layer in range(len(self.windows)):
            linears = {
                "self_attn.q_proj": (queries, self.hidden, self.qkv_bias),
                "self_attn.k_proj": (keys, self.hidden, self.qkv_bias),
                "self_attn.v_proj": (keys, self.hidden, self.qkv_bias),
                "self_attn.o_proj": (self.hidden, queries, self.out_bias),
                "mlp.gate_proj": (self.intermediate, self.hidden, self.mlp_bias),
                "mlp.up_proj": (self.intermediate, self.hidden, self.mlp_bias),
                "mlp.down_proj": (self.hidden, self.intermediate, self.mlp_bias),
            }
            for name, (out, into, bias) in linears.items():
                expected[of_layer(layer, f"{name}.weight")] = (out, into)
                if bias:
                    expected[of_layer(layer, f"{name}.bias")] = (out,)
            norms = {"input_layernorm": self.hidden, "post_attention_layernorm": self.hidden}
            if self.head_norms:
                norms |= {"self_attn.q_norm": self.head_size, "self_attn.k_norm": self.head_size}
            for name, size in norms.items():
                expected[of_layer(layer, f"{name}.weight")] = (size,)
        return expected


EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_READ = {
    "model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta",
    "rope_parameters", "rope_scaling", "max_position_embeddings", "tie_word_embeddings", "attention_bias", "mlp_bias",
    "use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "pretraining_tp",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "dtype", "torch_dtype", "transformers_version", "use_cache", "initializer_range", "attention_dropout",
    "bos_token_id", "eos_token_id", "pad_token_id", "name_or_path", "_name_or_path",
}  # fmt: skip
"""On the scores of a model that is served. What ends a reply is read where the model is opened."""


def of_layer(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{name}"


def read_shape(config: Mapping[str, Any]) -> Shape:
    """Raises `NotLean` where anything is unknown, missing or of a kind that is not computed here."""
    try:
        return _read_shape(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise NotLean(f"its configuration lacks something or is odd ({error!r})") from error


def _read_shape(config: Mapping[str, Any]) -> Shape:
    kind = config["model_type"]
    if config["architectures"] != [_CLASSES.get(kind)]:
        raise NotLean(f"it is a {kind}")
    given = {name for name, value in config.items() if value is not None}
    if unknown := sorted(given - _READ - _WITHOUT_EFFECT):
        raise NotLean(f"its configuration names {', '.join(unknown)}")
    if config["hidden_act"] != "silu" or config.get("pretraining_tp", 1) != 1:
        raise NotLean("it has another activation, or split matrices")
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    biased = bool(config.get("attention_bias")) and kind in ("llama", "qwen3")
    size = config["head_dim"] if kind == "qwen3" else config.get("head_dim") or hidden // heads
    shape = Shape(
        vocabulary=int(config["vocab_size"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config["num_key_value_heads"]),
        head_size=int(size),
        intermediate=int(config["intermediate_size"]),
        eps=float(config["rms_norm_eps"]),
        rope_theta=_rope_theta(config),
        positions=int(config["max_position_embeddings"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=biased or kind == "qwen2",
        out_bias=biased,
        mlp_bias=bool(config.get("mlp_bias")) and kind == "llama",
        head_norms=kind == "qwen3",
        windows=_windows(config, kind),
    )
    if shape.heads % shape.kv_heads or shape.head_size % 2 or not shape.windows:
        raise NotLean("its heads do not divide, or it has no layers")
    return shape


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Of plain rotary positions; those that are stretched (YaRN, Llama 3's) are for transformers."""
    rope = dict(config.get("rope_parameters") or {"rope_theta": config.get("rope_theta")})
    theta, kind = float(rope.pop("rope_theta")), rope.pop("rope_type", "default")
    if kind != "default" or rope or config.get("rope_scaling"):
        raise NotLean(f"its positions are of the type {kind} {rope or config.get('rope_scaling') or ''}")
    return theta


def _windows(config: Mapping[str, Any], kind: str) -> tuple[int | None, ...]:
    layers = int(config["num_hidden_layers"])
    window = None
    first = 0
    if kind == "mistral":
        window = config["sliding_window"]  # all of its layers; a configuration without the word means 4096
    elif kind != "llama" and config.get("use_sliding_window"):
        window, first = int(config["sliding_window"]), int(config["max_window_layers"])
    windows = tuple(window if layer >= first else None for layer in range(layers))
    types = ["full_attention" if each is None else "sliding_attention" for each in windows]
    if config.get("layer_types", types) not in (None, types):
        raise NotLean("its layers take turns in another way")
    return windows
