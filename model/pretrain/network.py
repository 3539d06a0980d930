"""The network and what it minimises. Knows tensors, no text and no files."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from model.pretrain.packing import IGNORED
from model.pretrain.settings import Size
from model.pretrain.tokenizer import END_OF_TEXT, TURN_END

CHUNK = 1024
"""Rows of logits at once: enough for fast matrix products, few enough to stay near the processor."""


def load_network(folder: Path) -> PreTrainedModel:
    """The network that an earlier run has left, in float32."""
    network: PreTrainedModel = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    network.set_attn_implementation("sdpa")
    return network


def build_network(
    shape: Size, tokenizer: PreTrainedTokenizerBase, context: int, seed: int
) -> PreTrainedModel:
    """A Llama with random weights in float32: normal of deviation 0.02, projections into the residual narrower."""
    torch.manual_seed(seed)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in (TURN_END, END_OF_TEXT)]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    network = LlamaForCausalLM(config)
    for name, weight in network.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5)
    network.generation_config.eos_token_id = ends
    return cast(PreTrainedModel, network)


def advise_sampling(network: PreTrainedModel, advice: dict[str, float]) -> None:
    """Write into the generation config how the model is best sampled."""
    for name, value in advice.items():
        setattr(network.generation_config, name, value)
    if advice:
        network.generation_config.do_sample = True  # transformers samples by it only then


class Objective(nn.Module):
    """The summed cross-entropy of a micro-batch, in nats; in bfloat16 where `mixed`, weights stay float32."""

    def __init__(self, network: PreTrainedModel, *, mixed: bool) -> None:
        super().__init__()
        self.network = network
        self._mixed = mixed

    def forward(self, ids: Tensor, positions: Tensor, segments: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._mixed):
            hidden = self.network.model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=block_diagonal(segments, torch.bfloat16 if self._mixed else torch.float32),
                use_cache=False,
            ).last_hidden_state
        total: Tensor = summed_cross_entropy(
            hidden.flatten(0, 1), self.network.lm_head.weight, labels.flatten(), mixed=self._mixed
        )
        return total


@torch.compiler.disable  # type: ignore[untyped-decorator]
def summed_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, *, mixed: bool) -> Tensor:
    """Of the places with a label; the others cost no logits. Not compiled: their number differs each time."""
    learnt = (labels != IGNORED).nonzero().squeeze(1)
    total: Tensor = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.index_select(0, learnt), weight, labels.index_select(0, learnt), mixed
    )
    return total


class _SummedCrossEntropy(torch.autograd.Function):
    """Logits, their loss and its gradients chunk by chunk: no more than `CHUNK` rows of logits are ever held."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, mixed: bool) -> Tensor:
        precision = torch.bfloat16 if mixed else torch.float32
        narrow, matrix = hidden.to(precision), weight.to(precision)
        total = hidden.new_zeros((), dtype=torch.float32)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        for_hidden = torch.empty_like(hidden) if wanted else None
        for_weight = torch.zeros_like(weight) if wanted else None
        for start in range(0, len(labels), CHUNK):
            rows, targets = narrow[start : start + CHUNK], labels[start : start + CHUNK, None]
            logits = functional.linear(rows, matrix).float()
            logs = functional.log_softmax(logits, dim=-1)
            total -= logs.gather(1, targets).sum()
            if for_hidden is not None and for_weight is not None:
                slope = logs.exp_().scatter_add_(1, targets, logs.new_full((1, 1), -1.0).expand_as(targets))
                slope = slope.to(precision)
                for_hidden[start : start + CHUNK] = slope @ matrix
                for_weight += slope.t() @ rows
        ctx.save_for_backward(for_hidden, for_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None]:
        for_hidden, for_weight = ctx.saved_tensors
        return for_hidden * slopes[0], for_weight * slopes[0], None, None


def block_diagonal(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask, rows by 1 by length by length: a token sees earlier ones of its own segment."""
    same = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    return torch.zeros(same.shape, dtype=dtype, device=segments.device).masked_fill(~same, float("-inf"))


def flops_per_token(network: PreTrainedModel, row_length: int) -> int:
    """Forward and backward: 6 for each weight in a matrix, and attention over the row (as in PaLM, appendix B)."""
    config = network.config
    attention: int = 12 * config.num_hidden_layers * config.hidden_size * row_length
    return 6 * int(sum(weight.numel() for weight in network.parameters())) + attention
