"""The decoder in numpy, in float32 and on one thread: for models so small that calls cost more than arithmetic.

Sources: RMSNorm (Zhang and Sennrich, 2019), rotary positions (Su et al., 2021), grouped queries (Ainslie et al., 2023),
SwiGLU (Shazeer, 2020). Needs neither torch nor transformers, which take seconds to import.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.engine.kv_cache import KVCache
from model.engine.row import Piece, Row
from model.lean.shape import EMBEDDING, HEAD, NORM, Shape, of_layer

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """x @ weight + bias; `weight` is in x out, as a single row is multiplied fastest."""

    weight: Floats
    bias: Floats | None

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x @ self.weight
        if self.bias is not None:
            y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of norms stand in the matrices behind them, that of the scores in the queries."""

    qkv: Linear
    head_norms: Floats | None
    out: Linear
    gate_up: Linear
    down: Linear
    window: int | None


class SmallDecoder:
    """Pairs of a head's numbers that a position turns stand side by side, as one complex number."""

    def __init__(self, shape: Shape, tensor: Callable[[str], Floats]) -> None:
        """`tensor` reads one of the checkpoint by its name."""
        self._shape = shape
        self._embedding = np.ascontiguousarray(tensor(EMBEDDING))
        self._layers = [_layer(shape, number, tensor) for number in range(len(shape.windows))]
        head = self._embedding if shape.tied else tensor(HEAD)
        self._head = _linear([head], None, tensor(NORM))
        half = shape.head_size // 2
        turns = 1 / shape.rope_theta ** (np.arange(half, dtype=np.float32) / half)
        angles = np.arange(shape.positions, dtype=np.float32)[:, None] * turns.astype(np.float32)
        self._angles = np.exp(1j * angles.astype(np.float64)).astype(np.complex64)[:, None]

    def forward(self, row: Row, cache: KVCache) -> Floats:
        """The wanted scores: rows x vocabulary. Keys and values of the row are written into `cache`."""
        shape = self._shape
        x: Floats = self._embedding[row.tokens]
        angles = self._angles[row.positions]
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number shows in the scores
            for number, layer in enumerate(self._layers):
                heads = layer.qkv(_norm(x, shape.eps))
                heads = heads.reshape(len(x), shape.turned + shape.kv_heads, shape.head_size)
                turned = heads[:, : shape.turned]
                if layer.head_norms is not None:
                    turned *= _inverse_rms(turned, shape.eps) * layer.head_norms
                complexes = turned.view(np.complex64)
                complexes *= angles
                x += layer.out(self._attend(heads, row.pieces, cache.layer(number), layer.window))
                x += layer.down(_swiglu(layer.gate_up(_norm(x, shape.eps))))
            return self._head(_norm(x[row.wanted or [0]], shape.eps))[: len(row.wanted)]

    def _attend(
        self,
        heads: Floats,
        pieces: Sequence[Piece],
        pool: tuple[Floats, Floats],
        window: int | None,
    ) -> Floats:
        """Each sequence by itself: row x all that its heads found."""
        shape = self._shape
        found: Floats = np.empty((len(heads), shape.heads * shape.head_size), np.float32)
        for piece in pieces:
            keys, values = (part[piece.slot.number] for part in pool)
            own = heads[piece.start : piece.end].swapaxes(0, 1)  # heads x new x size
            keys[:, piece.past : piece.total] = own[shape.heads : shape.turned]
            values[:, piece.past : piece.total] = own[shape.turned :]
            first = 0 if window is None else max(0, piece.past + 1 - window)
            new = piece.end - piece.start
            queries = own[: shape.heads].reshape(shape.kv_heads, -1, shape.head_size)
            scores = queries @ keys[:, first : piece.total].swapaxes(1, 2)
            if new > 1:
                by_head = scores.reshape(shape.kv_heads, -1, new, piece.total - first)
                by_head += _causal(piece.past, new, first, window)
            scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            out = scores @ values[:, first : piece.total]
            out /= np.add.reduce(scores, axis=-1, keepdims=True)
            found[piece.start : piece.end] = out.reshape(shape.heads, new, -1).swapaxes(0, 1).reshape(new, -1)
        return found


def _norm(x: Floats, eps: float) -> Floats:
    """Without the weight."""
    if len(x) == 1:
        only = x[0]
        normed: Floats = x * np.float32(1 / math.sqrt(only.dot(only) / len(only) + eps))
        return normed
    several: Floats = x * _inverse_rms(x, eps)
    return several


def _inverse_rms(x: Floats, eps: float) -> Floats:
    squares = np.einsum("...i,...i->...", x, x)[..., None]
    inverse: Floats = 1 / np.sqrt(squares / np.float32(x.shape[-1]) + np.float32(eps))
    return inverse


def _swiglu(gate_up: Floats) -> Floats:
    half = gate_up.shape[1] // 2
    gate, up = gate_up[:, :half], gate_up[:, half:]
    y: Floats = np.exp(-gate)
    y += 1
    np.divide(gate, y, out=y)
    y *= up
    return y


def _causal(past: int, new: int, first: int, window: int | None) -> Floats:
    """New tokens x those from `first` on: each sees itself and earlier ones, `window` at most."""
    place, own = np.arange(first, past + new), np.arange(past, past + new)[:, None]
    seen = place <= own
    if window is not None:
        seen &= place > own - window
    return np.where(seen, np.float32(0), np.float32(-np.inf))


def _layer(shape: Shape, number: int, tensor: Callable[[str], Floats]) -> Layer:
    def named(name: str) -> Floats:
        return tensor(of_layer(number, name))

    def bias(has: bool, *names: str) -> list[Floats] | None:
        return [named(f"{name}.bias") for name in names] if has else None

    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    weights, biases = [named(f"{name}.weight") for name in names], bias(shape.qkv_bias, *names)
    weights[:2] = [_side_by_side(each, shape.head_size) for each in weights[:2]]
    if biases is not None:
        biases[:2] = [_side_by_side(each, shape.head_size) for each in biases[:2]]
    scaling = np.float32(shape.head_size**-0.5)
    head_norms = None
    if shape.head_norms:
        query, key = (
            _side_by_side(named(f"self_attn.{name}.weight"), shape.head_size) for name in ("q_norm", "k_norm")
        )
        head_norms = np.stack([query * scaling] * shape.heads + [key] * shape.kv_heads)
    else:
        weights[0] = weights[0] * scaling
        if biases is not None:
            biases[0] = biases[0] * scaling
    mlp = ("mlp.gate_proj", "mlp.up_proj")
    return Layer(
        qkv=_linear(weights, biases, named("input_layernorm.weight")),
        head_norms=head_norms,
        out=_linear([named("self_attn.o_proj.weight")], bias(shape.out_bias, "self_attn.o_proj")),
        gate_up=_linear(
            [named(f"{name}.weight") for name in mlp],
            bias(shape.mlp_bias, *mlp),
            named("post_attention_layernorm.weight"),
        ),
        down=_linear([named("mlp.down_proj.weight")], bias(shape.mlp_bias, "mlp.down_proj")),
        window=shape.windows[number],
    )


def _linear(weights: list[Floats], biases: list[Floats] | None, norm: Floats | None = None) -> Linear:
    """Several as one; behind a norm whose weight is multiplied in."""
    weight = np.concatenate(weights).T
    weight = np.ascontiguousarray(weight if norm is None else weight * norm[:, None])
    return Linear(weight, None if biases is None else np.concatenate(biases))


def _side_by_side(of_heads: Floats, size: int) -> Floats:
    """Heads of (first half, second half) become heads of pairs. Keys and queries change alike: the scores stay."""
    rest = of_heads.shape[1:]
    halves = of_heads.reshape(-1, 2, size // 2, *rest)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1, *rest)
