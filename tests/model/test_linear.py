"""Packed linear layers compute what the plain ones compute, and leave what they cannot do better alone."""

import copy
import gc
import sys
import weakref

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from model.engine.linear import find_linears, prepare_linears
from model.engine.packed import PackedLinear, packing_works
from model.engine.served import Quantisation
from model.errors import ModelUnusable
from tests.model.tiny_models import Shape, make_model

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05}
DTYPES = [
    pytest.param(
        dtype, marks=pytest.mark.skipif(not packing_works(dtype), reason=f"this processor packs no {dtype}")
    )
    for dtype in TOLERANCES
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 48), (1, 7, 48), (3, 48), (2, 40, 48), (0, 48)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_gives_what_the_plain_one_gives(
    dtype: torch.dtype, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias).to(dtype)
    x = torch.randn(shape).to(dtype)
    with torch.inference_mode():
        found, expected = PackedLinear.of(plain)(x), plain(x)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected.float(), atol=TOLERANCES[dtype])


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prepared_model_gives_the_same_scores(shape: Shape, dtype: torch.dtype) -> None:
    model = make_model(shape).to(dtype)
    prepared = copy.deepcopy(model)
    prepare_linears(prepared)
    tokens = torch.randint(300, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (some(tokens).logits.float() for some in (model, prepared))
    assert not list(find_linears(prepared))
    if dtype is torch.float32:
        assert torch.allclose(found, expected, atol=1e-3)
    assert torch.cosine_similarity(found, expected, dim=-1).min() > 0.999


def test_preparing_twice_changes_nothing() -> None:
    model = make_model()
    prepare_linears(model)
    before = list(model.modules())
    prepare_linears(model)
    assert list(model.modules()) == before


def test_the_old_weights_are_given_back_and_the_tied_embedding_stays() -> None:
    model = make_model()
    model.lm_head.weight = model.get_input_embeddings().weight
    embedding = model.get_input_embeddings().weight.clone()
    old = weakref.ref(model.model.layers[0].mlp.up_proj.weight)
    prepare_linears(model)
    gc.collect()
    assert old() is None
    assert isinstance(model.get_output_embeddings(), PackedLinear)
    assert torch.equal(model.get_input_embeddings().weight, embedding)


def test_a_tied_head_stays_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    model.lm_head.weight = model.get_input_embeddings().weight
    monkeypatch.setattr("model.engine.linear._is_free", lambda size: False)
    prepare_linears(model)
    assert type(model.lm_head) is nn.Linear
    assert isinstance(model.model.layers[0].mlp.up_proj, PackedLinear)


@pytest.mark.parametrize("dtype", DTYPES)
def test_who_reads_the_weights_of_a_packed_layer_gets_them(dtype: torch.dtype) -> None:
    plain = nn.Linear(48, 80).to(dtype)
    packed = PackedLinear.of(plain)
    assert torch.equal(packed.weight, plain.weight)
    assert packed.bias is not None
    assert torch.equal(packed.bias, plain.bias)


def test_layers_that_compute_more_and_other_precisions_stay() -> None:
    class Noisy(nn.Linear):
        pass

    model = make_model("gpt2")
    model.noisy, model.precise = Noisy(4, 4), nn.Linear(4, 4).double()
    prepare_linears(model)
    assert type(model.noisy) is Noisy
    assert type(model.precise) is nn.Linear
    assert not any(isinstance(module, Conv1D) for module in model.modules())


def test_half_precision_which_a_processor_computes_slowly_stays() -> None:
    model = make_model().to(torch.float16)
    prepare_linears(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())


@pytest.mark.parametrize(("quantise", "agreement"), [("int8", 0.9999), ("int4", 0.995)])
@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_a_quantised_layer_gives_nearly_what_the_plain_one_gives(
    shape: Shape, quantise: Quantisation, agreement: float
) -> None:
    pytest.importorskip("torchao", reason="the extra [quant] is not installed")
    model = make_model(shape).to(torch.bfloat16)
    prepared = copy.deepcopy(model)
    prepare_linears(prepared, quantise=quantise)
    torch.manual_seed(0)
    for name, plain in ((name, m) for name, m in model.named_modules() if is_linear(m)):
        quantised = prepared.get_submodule(name)
        assert (not isinstance(quantised, PackedLinear)) == (name != "lm_head")
        x = torch.randn(1, 9, plain.nx if isinstance(plain, Conv1D) else plain.in_features).bfloat16()
        with torch.inference_mode():
            found, expected = quantised(x).float().flatten(), plain(x).float().flatten()
        assert torch.cosine_similarity(found, expected, dim=0) > agreement
    assert torch.equal(prepared.get_input_embeddings().weight, model.get_input_embeddings().weight)
    with torch.inference_mode():
        assert prepared(torch.tensor([[5, 6, 7]])).logits.isfinite().all()


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


@pytest.mark.parametrize("quantise", ["int8", "int4"])
def test_quantising_without_the_library_is_told(
    monkeypatch: pytest.MonkeyPatch, quantise: Quantisation
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ModelUnusable, match=rf"Weights in {quantise} need .* pip install 'parley\[quant\]'"):
        prepare_linears(make_model(), quantise=quantise)
