"""How much memory the conversations of a model get, and how many slots that makes."""

from typing import TYPE_CHECKING, Any

from model.engine.kv_cache import MOST_SLOTS, KVCache
from model.errors import ModelUnusable
from model.hardware import inspect_hardware, machine_memory

if TYPE_CHECKING:
    import numpy as np
    import torch

CACHE_SHARE = 0.6
"""Of the memory that is free once the weights are loaded."""
UNKNOWN_MEMORY = 2 * 2**30


def free_memory(device: str) -> int:
    """What the conversations may take of the device's memory."""
    if device == "cpu":
        free = machine_memory()[1]
    else:
        free = next((found.memory_free for found in inspect_hardware().devices if found.name == device), None)
    return int(CACHE_SHARE * (free or UNKNOWN_MEMORY))


def size_cache(
    name: str,
    *,
    bytes_per_token: int,
    free: int,
    context_tokens: int,
    dtype: "torch.dtype | np.dtype[Any]",
    device: "torch.device | None",
) -> KVCache:
    """A cache that takes at most `free` bytes. Raises `ModelUnusable` where that holds no whole context."""
    budget = free // bytes_per_token
    if budget < context_tokens:
        raise ModelUnusable(
            f"Beside {name} the memory holds {budget:,} tokens of conversation, which is less than one "
            f"context of {context_tokens:,}. Set PARLEY_CONTEXT_TOKENS to {budget:,} or less, or take a smaller model."
        )
    # A processor's memory is committed as it is used: short conversations may then have more slots than long ones.
    slots = MOST_SLOTS if device is None or device.type == "cpu" else budget // context_tokens
    return KVCache(
        slot_tokens=context_tokens,
        budget_tokens=budget,
        slots=min(MOST_SLOTS, max(slots, 1)),
        dtype=dtype,
        device=device,
    )
