"""Attention for short rows on a CPU: written out in bfloat16 matrix products. Registers itself by name."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SHORT_ROWS = "parley_short_rows"
LONGEST = 256
"""Tokens; above that the written-out scores cost more memory traffic than torch's own kernel does."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions: batch by heads by length by size in, batch by length by heads by size out.

    torch's CPU kernel multiplies small blocks backwards, which leaves a processor with AMX mostly idle; two batched
    products in bfloat16 take half the time at 256 tokens.
    """
    if attention_mask is None or scaling is None or query.shape[2] > LONGEST:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended, None
    shared = query.shape[1] // key.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = query.bfloat16(), key.bfloat16(), value.bfloat16()
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        scores = torch.matmul(query * scaling, key.transpose(-1, -2)) + attention_mask.bfloat16()
        attended = torch.matmul(scores.softmax(-1), value)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(SHORT_ROWS, attend)
