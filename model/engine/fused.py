"""Small modules of a model, replaced by equals of fewer operations: on a processor each costs more than it computes.

For serving alone. What is not recognised, or gives other values when tried, is left alone.
"""

import inspect
import logging

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm
from transformers import PreTrainedModel

log = logging.getLogger(__name__)

STATIC_ROPES = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles depend on the position alone, and not on the length of the text."""
MOST_TABLE_BYTES = 8 * 2**20
"""A small model gains 5 % by a table; a large one, whose table is large as well, nothing that can be measured."""
BEYOND = 256
"""Positions behind the last one that the model knows: drafts may reach there."""
LONG_ROWS = 2**18
"""Numbers from which the model's own norm is as fast in half precision: there both wait for memory."""
PROBES = 5
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""Relative: rounding once instead of twice changes the last place."""


def fuse_small_ops(model: PreTrainedModel) -> int:
    """Replace what is recognised, in place; how many modules that were."""
    found: list[tuple[str, nn.Module]] = [
        (name, equal)
        for name, module in model.named_modules()
        if not name.endswith(".own") and (equal := _find_equal(model, module)) is not None
    ]
    for name, equal in found:
        model.set_submodule(name, equal)
    log.debug("%d modules of %s were replaced by faster ones", len(found), type(model).__name__)
    return len(found)


@torch.no_grad()
def _find_equal(model: PreTrainedModel, module: nn.Module) -> nn.Module | None:
    kind = type(module).__name__
    if kind.endswith("RMSNorm") and not isinstance(module, FusedRMSNorm):
        return _fused_norm(module)
    return _rotary_table(model, module) if kind.endswith("RotaryEmbedding") else None


class FusedRMSNorm(nn.Module):
    """Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019)."""

    def __init__(self, weight: Tensor, eps: float, own: nn.Module) -> None:
        """`own` is the model's, which goes on serving long rows."""
        super().__init__()
        self.own = own
        self.eps = eps
        self._weight = weight
        self._shape = tuple(weight.shape)
        self._most = 2**62 if weight.dtype is torch.float32 else LONG_ROWS

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > self._most:
            y: Tensor = self.own(x)
            return y
        return rms_norm(x, self._shape, self._weight, self.eps)


def _fused_norm(module: nn.Module) -> nn.Module | None:
    """With the weight as it is, as in Llama, or counted from 1, as in Gemma."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, Tensor) or weight.dtype not in TOLERANCES or not isinstance(eps, float):
        return None
    own = weight.detach().float()
    for scale in (own, 1 + own):
        if torch.equal(scale.to(weight.dtype).float(), scale):
            fused = FusedRMSNorm(scale.to(weight.dtype), eps, module)
            if _agree(module, fused, weight):
                return fused
    return None


def _agree(module: nn.Module, fused: nn.Module, weight: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 30.0):  # the small one tells where eps is added
        x = torch.randn(1, PROBES, *weight.shape, generator=generator) * scale
        x = x.to(device=weight.device, dtype=weight.dtype)
        try:
            expected, found = module(x), fused(x)
        except (RuntimeError, TypeError):  # it takes more than one tensor, or another shape
            return False
        tolerance = TOLERANCES[weight.dtype]
        if not torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=1e-6):
            return False
    return True


class RotaryTable(nn.Module):
    """Cosines and sines of every position, as the model's own module computes them; looked up, not computed."""

    def __init__(self, cos: Tensor, sin: Tensor, own: nn.Module) -> None:
        """Positions x size. `own` is the model's, for positions of several axes (Qwen3.5 has three)."""
        super().__init__()
        self.own = own
        self._cos, self._sin = cos, sin

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        if position_ids.dim() != 2:
            angles: tuple[Tensor, Tensor] = self.own(x, position_ids)
            return angles
        return self._cos[position_ids], self._sin[position_ids]


def _rotary_table(model: PreTrainedModel, module: nn.Module) -> nn.Module | None:
    positions = getattr(module, "max_seq_len_cached", None)
    kind = getattr(module, "rope_type", None)  # Gemma 3 has several, by layer
    if not isinstance(positions, int) or not isinstance(kind, str) or kind not in STATIC_ROPES:
        return None
    if list(inspect.signature(module.forward).parameters) != ["x", "position_ids"]:
        return None
    x = torch.empty(1, 1, 1, dtype=model.dtype, device=model.device)
    places = torch.arange(positions + BEYOND, device=model.device)[None]
    cos, sin = module(x, places[:, :1])
    if cos.shape[:2] != (1, 1) or cos.dim() != 3 or 2 * places.numel() * cos.nbytes > MOST_TABLE_BYTES:
        return None
    cos, sin = module(x, places)
    return RotaryTable(cos[0], sin[0], module)
