"""AdamW and its learning rate over time."""

import math

import torch
from torch import nn


def build_optimiser(network: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019), betas 0.9 and 0.95; norms, the only vectors, don't decay."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8, fused=True)


def learning_rate(step: int, steps: int, *, peak: float, warmup: float, floor: float = 0.05) -> float:
    """For the `step`-th of `steps`, from 0: a line up to `peak`, then half a cosine down to `floor` of it."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
