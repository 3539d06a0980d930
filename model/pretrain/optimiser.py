"""AdamW or Muon, and the learning rate over time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.pretrain.settings import OptimiserName


@dataclass(frozen=True, slots=True)
class Optimisers:
    """One or two of torch's optimisers, which share the weights and the learning rate."""

    parts: tuple[torch.optim.Optimizer, ...]

    def step(self, rate: float) -> None:
        """Take one step at the learning rate `rate`, and forget the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {str(number): part.state_dict() for number, part in enumerate(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, part in enumerate(self.parts):
            part.load_state_dict(state[str(number)])


def build_optimiser(network: nn.Module, weight_decay: float, name: OptimiserName = "adamw") -> Optimisers:
    """AdamW (Loshchilov and Hutter, 2019), betas 0.9 and 0.95; norms, the only vectors, don't decay.

    "muon" gives the matrices between the embedding and the norms to Muon (Jordan, 2024), scaled as by Liu et al., 2025
    (arXiv 2502.16982), so that one learning rate suits both.
    """
    hidden, matrices, vectors = [], [], []
    for path, weight in network.named_parameters():
        if weight.ndim < 2:
            vectors.append(weight)
        elif name == "muon" and "embed" not in path and "lm_head" not in path:
            hidden.append(weight)
        else:
            matrices.append(weight)
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
    if not hidden:
        return Optimisers((adamw,))
    muon = torch.optim.Muon(hidden, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return Optimisers((adamw, muon))


def learning_rate(
    step: int, steps: int, *, peak: float, warmup: float, passed: float = 0.0, floor: float = 0.05
) -> float:
    """For the `step`-th of `steps`, from 0: a line up to `peak`, then half a cosine down to `floor` of it.

    `passed` is the share of the time that a run with an end in time has used: whichever is further on counts.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    share = max((step - rising) / max(1, steps - rising), min(1.0, passed))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
