"""The network and what it minimises. Knows tensors, no text and no files."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from model.pretrain.packing import IGNORED
from model.pretrain.settings import Size
from model.pretrain.tokenizer import END_OF_TEXT, TURN_END


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
            logits = self.network.lm_head(hidden)
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )


def block_diagonal(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask, rows by 1 by length by length: a token sees earlier ones of its own segment."""
    same = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    return torch.zeros(same.shape, dtype=dtype, device=segments.device).masked_fill(~same, float("-inf"))


def flops_per_token(network: PreTrainedModel, row_length: int) -> int:
    """Forward and backward: 6 for each weight in a matrix, and attention over the row (as in PaLM, appendix B)."""
    config = network.config
    attention: int = 12 * config.num_hidden_layers * config.hidden_size * row_length
    return 6 * int(sum(weight.numel() for weight in network.parameters())) + attention
