"""Modules of fewer operations compute what the model's own compute; others are left alone."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from model.engine.fused import LONG_ROWS, FusedRMSNorm, RotaryTable, fuse_small_ops
from tests.model.tiny_models import Shape, make_model

TOKENS = torch.randint(300, (1, 24), generator=torch.Generator().manual_seed(0))


def scores(model: PreTrainedModel) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model(TOKENS, use_cache=False).logits[0].float()
    return result


def fused(model: PreTrainedModel) -> tuple[PreTrainedModel, int]:
    replaced = copy.deepcopy(model)
    return replaced, fuse_small_ops(replaced)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "expected"), [("llama", 6), ("qwen3", 10), ("gpt2", 0)])
def test_a_fused_model_gives_the_same_scores(shape: Shape, expected: int, dtype: torch.dtype) -> None:
    model = make_model(shape)
    for name, weight in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(weight, 1.0, 0.3)
    model = model.to(dtype)
    replaced, count = fused(model)
    assert count == expected
    if dtype is torch.float32:
        assert torch.allclose(scores(replaced), scores(model), atol=1e-3)
    assert torch.cosine_similarity(scores(replaced), scores(model), dim=-1).min() > 0.998
    assert fuse_small_ops(replaced) == 0


def test_in_half_precision_a_fused_norm_is_closer_to_the_exact_one_than_the_models_own() -> None:
    torch.manual_seed(0)
    model = make_model("llama").to(torch.bfloat16)
    own = model.model.norm
    nn.init.normal_(own.weight, 1.0, 0.3)
    x = torch.randn(1, 64, 32, dtype=torch.bfloat16)
    exact = copy.deepcopy(own).float()(x.float())
    fuse_small_ops(model)
    assert (model.model.norm(x).float() - exact).abs().mean() < (own(x).float() - exact).abs().mean()


def test_weights_that_are_counted_from_one_are_recognised() -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=322, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(weight, 0.0, 0.3)
    replaced, count = fused(model)
    assert count >= 9
    assert torch.allclose(scores(replaced), scores(model), atol=1e-3)


def test_a_norm_that_computes_something_else_stays() -> None:
    class HalfRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))
            self.eps = 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight

    model = make_model("gpt2")
    model.norm = HalfRMSNorm()
    assert fuse_small_ops(model) == 0
    assert isinstance(model.norm, HalfRMSNorm)


def test_angles_that_depend_on_the_length_stay() -> None:
    model = make_model("llama")
    model.model.rotary_emb.rope_type = "dynamic"
    fuse_small_ops(model)
    assert not any(isinstance(module, RotaryTable) for module in model.modules())


def test_the_table_holds_what_the_model_computes_at_every_position() -> None:
    model = make_model("llama")
    own = copy.deepcopy(model.model.rotary_emb)
    fuse_small_ops(model)
    places = torch.tensor([[0, 5, 2047, 2050, 3]])
    x = torch.empty(1, 5, 32)
    for found, expected in zip(model.model.rotary_emb(x, places), own(x, places), strict=True):
        assert torch.equal(found, expected)


def test_long_rows_in_half_precision_are_left_to_the_models_own_norm() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    own = Counting()
    norm = FusedRMSNorm(torch.ones(64, dtype=torch.bfloat16), 1e-6, own)
    norm(torch.zeros(1, LONG_ROWS // 64, 64, dtype=torch.bfloat16))
    assert own.calls == 0
    norm(torch.zeros(1, LONG_ROWS // 64 + 1, 64, dtype=torch.bfloat16))
    assert own.calls == 1
