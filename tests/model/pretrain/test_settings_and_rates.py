from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from model.errors import PretrainError
from model.pretrain.optimiser import build_optimiser, learning_rate
from model.pretrain.settings import SIZES, PretrainSettings


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"size": "7b"}, "no size '7b'; there are 2m, 8m"),
        ({"context": 100}, "multiple of 64"),
        ({"vocabulary": 12}, "vocabulary must lie between 259"),
        ({"held_out": 0.9}, "held_out must lie between"),
        ({"seed": -1}, "seed must lie between"),
        ({"precision": "fp8"}, "precision is auto, bf16 or fp32, and not 'fp8'"),
        ({"compile": "perhaps"}, "compile is auto, on or off, and not 'perhaps'"),
    ],
)
def test_a_setting_out_of_range_is_told_with_its_value(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PretrainError, match=sentence):
        PretrainSettings(corpus=Path("corpus"), out=Path("out"), **given)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_the_parameters_that_its_name_tells(name: str) -> None:
    size = SIZES[name]
    with torch.device("meta"):
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=size.vocabulary,
                hidden_size=size.hidden,
                intermediate_size=size.intermediate,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                num_key_value_heads=size.key_value_heads,
                tie_word_embeddings=True,
            )
        )
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters / 1e6 == pytest.approx(float(name.removesuffix("m")), rel=0.13)


def test_the_learning_rate_rises_then_falls_along_a_cosine() -> None:
    rates = [learning_rate(step, 100, peak=1.0, warmup=0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.525, abs=0.01)
    assert rates[-1] == pytest.approx(0.05, abs=0.001)


def test_the_learning_rate_falls_with_the_time_where_that_is_further_on() -> None:
    def rate(step: int, passed: float) -> float:
        return learning_rate(step, 100, peak=1.0, warmup=0.1, passed=passed)

    assert rate(5, 0.9) == rate(5, 0.0)
    assert rate(20, 0.9) < rate(20, 0.5) < rate(20, 0.0) == rate(20, 0.1)
    assert rate(20, 1.0) == rate(20, 7.0) == pytest.approx(0.05)


def test_norms_do_not_decay() -> None:
    network = torch.nn.Sequential(
        torch.nn.Embedding(4, 8), torch.nn.RMSNorm(8), torch.nn.Linear(8, 8, bias=False)
    )
    matrices, vectors = build_optimiser(network, 0.1).parts[0].param_groups
    assert [weight.ndim for weight in matrices["params"]] == [2, 2]
    assert [weight.ndim for weight in vectors["params"]] == [1]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def test_muon_takes_the_matrices_between_the_embedding_and_the_norms() -> None:
    network = torch.nn.ModuleDict(
        {
            "embed_tokens": torch.nn.Embedding(4, 2),
            "norm": torch.nn.LayerNorm(2),
            "proj": torch.nn.Linear(2, 2, bias=False),
        }
    )
    adamw, muon = build_optimiser(network, 0.1, "muon").parts
    assert [tuple(weight.shape) for weight in muon.param_groups[0]["params"]] == [(2, 2)]
    assert [len(group["params"]) for group in adamw.param_groups] == [1, 2]
