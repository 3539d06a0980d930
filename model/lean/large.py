"""The decoder in torch on a processor, in bfloat16 or float32: some fifteen calls a layer, the weights laid out once.

What stands around a matrix product is computed in it: the residual is added, and SwiGLU's two halves meet. Sources as
in `model.lean.small`. Gradients do not flow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, rms_norm

from model.engine.attention import Asked, Layout, attend
from model.engine.kv_cache import KVCache
from model.engine.packed import ROWS, packing_works
from model.engine.row import Row
from model.lean.shape import EMBEDDING, HEAD, NORM, NotLean, Shape, of_layer

_linear = torch.ops.mkldnn._linear_pointwise.default
_linear_with = torch.ops.mkldnn._linear_pointwise.binary


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Tensor
    """In oneDNN's own layout."""
    bias: Tensor | None

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        y: Tensor = _linear(x, self.weight, self.bias, activation, [], "")
        return y

    def joined(self, x: Tensor, how: str, other: Tensor) -> Tensor:
        """The result, "add"ed to or "mul"tiplied with `other`."""
        y: Tensor = _linear_with(x, other, self.weight, self.bias, how)
        return y


@dataclass(frozen=True, slots=True)
class Layer:
    before_attention: Tensor
    qkv: Linear
    head_norms: Tensor | None
    """Heads x size, of those that positions turn."""
    out: Linear
    before_mlp: Tensor
    gate: Linear
    up: Linear
    down: Linear
    window: int | None


class LargeDecoder:
    def __init__(self, shape: Shape, tensor: Callable[[str], Tensor], dtype: torch.dtype) -> None:
        """`tensor` reads one of the checkpoint, in `dtype`. Raises `NotLean` where this processor has no layout."""
        if not packing_works(dtype):
            raise NotLean(f"this processor lays out no weights in {dtype}")
        self.dtype = dtype
        self._shape = shape
        self._embedding = tensor(EMBEDDING)
        self._layers = [_layer(shape, number, tensor) for number in range(len(shape.windows))]
        self._norm = tensor(NORM)
        self._head = _pack([self._embedding if shape.tied else tensor(HEAD)], None)
        half = shape.head_size // 2
        turns = 1 / shape.rope_theta ** (torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(shape.positions, dtype=torch.float32)[:, None] * turns
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self._cos, self._sin = torch.cat((cos, cos), 1)[:, None], torch.cat((-sin, sin), 1)[:, None]

    def forward(self, row: Row, cache: KVCache) -> Tensor:
        """See `model.lean.runner.Decoder`."""
        shape = self._shape
        layout = Layout(cache, row.pieces, dtype=self.dtype, device=torch.device("cpu"))
        places = torch.tensor(row.positions)
        cos, sin = self._cos[places], self._sin[places]
        hidden, half = (shape.hidden,), shape.head_size // 2
        x = embedding(torch.tensor(row.tokens), self._embedding)
        for number, layer in enumerate(self._layers):
            heads = layer.qkv(rms_norm(x, hidden, layer.before_attention, shape.eps))
            heads = heads.view(len(x), shape.turned + shape.kv_heads, shape.head_size)
            turned = heads[:, : shape.turned]
            if layer.head_norms is not None:
                turned = rms_norm(turned, (shape.head_size,), None, shape.eps).mul_(layer.head_norms)
            turned = torch.addcmul(turned * cos, turned.roll(half, -1), sin).transpose(0, 1)
            asked = Asked(
                number,
                turned[: shape.heads],
                turned[shape.heads :],
                heads[:, shape.turned :].transpose(0, 1),
                None,
                layer.window,
                None,
            )
            x = layer.out.joined(attend(layout, asked).reshape(len(x), -1), "add", x)
            inner = rms_norm(x, hidden, layer.before_mlp, shape.eps)
            inner = layer.up.joined(inner, "mul", layer.gate(inner, "swish"))
            x = layer.down.joined(inner, "add", x)
        if len(row.wanted) < len(x):
            x = x[torch.tensor(row.wanted, dtype=torch.int64)]
        return self._head(rms_norm(x, hidden, self._norm, shape.eps))


def _layer(shape: Shape, number: int, tensor: Callable[[str], Tensor]) -> Layer:
    def named(name: str) -> Tensor:
        return tensor(of_layer(number, name))

    def linear(has_bias: bool, *names: str) -> Linear:
        biases = [named(f"{name}.bias") for name in names] if has_bias else None
        return _pack([named(f"{name}.weight") for name in names], biases)

    head_norms = None
    if shape.head_norms:
        query, key = named("self_attn.q_norm.weight"), named("self_attn.k_norm.weight")
        head_norms = torch.stack([query] * shape.heads + [key] * shape.kv_heads)
    return Layer(
        before_attention=named("input_layernorm.weight"),
        qkv=linear(shape.qkv_bias, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        head_norms=head_norms,
        out=linear(shape.out_bias, "self_attn.o_proj"),
        before_mlp=named("post_attention_layernorm.weight"),
        gate=linear(shape.mlp_bias, "mlp.gate_proj"),
        up=linear(shape.mlp_bias, "mlp.up_proj"),
        down=linear(shape.mlp_bias, "mlp.down_proj"),
        window=shape.windows[number],
    )


def _pack(weights: list[Tensor], biases: list[Tensor] | None) -> Linear:
    weight = torch.cat(weights) if len(weights) > 1 else weights[0].contiguous()
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return Linear(packed, None if biases is None else torch.cat(biases))
