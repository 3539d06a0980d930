"""Adapters in one batch: each row gets its own, a zero one equals the base, and every fault is told."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from model.engine.linear import prepare_linears
from model.engine.lora import CONFIG, WEIGHTS, AdaptedLinear, Adapters
from model.errors import BadRequest
from model.request import AdapterRef
from tests.model.tiny_models import Shape, make_model

TARGETS = {
    "llama": ("q_proj", "v_proj", "down_proj"),
    "qwen3": ("k_proj", "o_proj", "up_proj"),
    "gpt2": ("c_attn", "c_proj"),
}
TOKENS = torch.randint(300, (1, 12), generator=torch.Generator().manual_seed(0))


def write_adapter(
    folder: Path,
    model: PreTrainedModel,
    targets: Sequence[str],
    *,
    rank: int = 4,
    seed: int = 0,
    **config: Any,
) -> AdapterRef:
    """As PEFT would; both sides random, so that the adapter has an effect."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in targets:
            inputs, outputs = (
                (module.nx, module.nf)
                if isinstance(module, Conv1D)
                else (module.in_features, module.out_features)
            )
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                tensor = torch.randn(shape, generator=generator) * 0.2
                tensors[f"base_model.model.{name}.lora_{side}.weight"] = tensor
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / WEIGHTS)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "use_dora": False}
    (folder / CONFIG).write_text(json.dumps({**settings, **config}))
    return AdapterRef(folder.name, str(folder))


def change_config(ref: AdapterRef, **config: Any) -> None:
    path = Path(ref.path) / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def change_tensors(ref: AdapterRef, **changes: Tensor | None) -> None:
    """By the ends of their names; None takes one away, and a new name adds one."""
    path = Path(ref.path) / WEIGHTS
    tensors = load_file(path)
    for end, tensor in changes.items():
        names = [name for name in tensors if end in name] or [end]
        for name in names:
            tensors.pop(name, None)
            if tensor is not None:
                tensors[name] = tensor.clone()
    save_file(tensors, path)


def merged(model: PreTrainedModel, ref: AdapterRef, scale: float) -> PreTrainedModel:
    """The obvious way: the adapter's product added to the weights."""
    model = copy.deepcopy(model)
    tensors = load_file(Path(ref.path) / WEIGHTS)
    with torch.no_grad():
        for name, down in tensors.items():
            if ".lora_A." in name:
                module = model.get_submodule(name.removeprefix("base_model.model.").split(".lora_")[0])
                product = scale * tensors[name.replace("lora_A", "lora_B")] @ down
                module.weight += product.t() if isinstance(module, Conv1D) else product
    return model


def scores(model: PreTrainedModel, tokens: Tensor = TOKENS) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model(tokens, use_cache=False).logits[0]
    return result


def rows_of(
    adapters: Adapters, module: torch.nn.Module, x: Tensor, rows: list[tuple[str | None, int]]
) -> Tensor:
    with torch.inference_mode(), adapters.applied(rows):
        y: Tensor = module(x)
    return y


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", TARGETS)
def test_an_adapter_equals_merged_weights(tmp_path: Path, shape: Shape, packed: bool) -> None:
    model = make_model(shape)
    ref = write_adapter(tmp_path / "a", model, TARGETS[shape])
    base, expected = scores(model), scores(merged(model, ref, scale=2.0))
    if packed:
        prepare_linears(model)
    adapters = Adapters(model, base_version="test")
    key = adapters.attach(ref)
    with adapters.applied([(key, 12)]):
        found = scores(model)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-2)
    assert not torch.allclose(found, base, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [False, True])
def test_a_zero_adapter_equals_the_base_bit_for_bit(tmp_path: Path, packed: bool, dtype: torch.dtype) -> None:
    model = make_model().to(dtype)
    if packed:
        prepare_linears(model)
    base = scores(model)
    ref = write_adapter(tmp_path / "zero", make_model(), TARGETS["llama"])
    tensors = load_file(Path(ref.path) / WEIGHTS)
    change_tensors(ref, **{name: torch.zeros_like(t) for name, t in tensors.items() if "lora_B" in name})
    adapters = Adapters(model, base_version="test")
    other = adapters.attach(write_adapter(tmp_path / "other", make_model(), TARGETS["llama"], seed=1))
    key = adapters.attach(ref)
    for rows in ([(key, 12)], [(key, 5), (None, 7)], [(None, 12)]):
        with adapters.applied(rows):
            assert torch.equal(scores(model), base)
    module, x = model.model.layers[0].mlp.down_proj, torch.randn(1, 3, 64).to(dtype)
    alone = rows_of(adapters, module, x, [(None, 3)])
    assert torch.equal(rows_of(adapters, module, x, [(key, 1), (other, 1), (None, 1)])[:, ::2], alone[:, ::2])


def test_adapters_of_several_ranks_and_none_share_a_row(tmp_path: Path) -> None:
    model = make_model()
    plain = copy.deepcopy(model)
    adapters = Adapters(model, base_version="test")
    first = write_adapter(tmp_path / "first", plain, ["down_proj", "q_proj"], rank=4)
    second = write_adapter(tmp_path / "second", plain, ["down_proj"], rank=6, seed=1)
    one, two = adapters.attach(first), adapters.attach(second)
    x = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
    name = "model.layers.1.mlp.down_proj"
    found = rows_of(
        adapters, model.get_submodule(name), x, [(two, 1), (None, 2), (one, 3), (two, 2), (None, 1)]
    )
    owners = [two, None, None, one, one, one, two, two, None]
    for owner, computed in (
        (None, plain),
        (one, merged(plain, first, 2.0)),
        (two, merged(plain, second, 2.0)),
    ):
        mine = [place for place, key in enumerate(owners) if key == owner]
        expected = computed.get_submodule(name)(x)[:, mine]
        assert torch.allclose(found[:, mine], expected, atol=1e-4)
        if owner is None:
            assert torch.equal(found[:, mine], plain.get_submodule(name)(x)[:, mine])
    y = torch.randn(1, 2, 32)
    query = model.model.layers[0].self_attn.q_proj
    base = plain.model.layers[0].self_attn.q_proj(y)
    assert torch.equal(rows_of(adapters, query, y, [(two, 1), (None, 1)]), base)


def test_outside_of_a_batch_the_base_is_computed(tmp_path: Path) -> None:
    model = make_model()
    base = scores(model)
    adapters = Adapters(model, base_version="test")
    adapters.attach(write_adapter(tmp_path / "a", model, ["q_proj"]))
    assert torch.equal(scores(model), base)


def test_only_targeted_modules_are_wrapped_and_only_while_an_adapter_targets_them(tmp_path: Path) -> None:
    model = make_model()
    before = dict(model.named_modules())
    adapters = Adapters(model, base_version="test")
    queries = write_adapter(tmp_path / "queries", model, ["q_proj"])
    both = write_adapter(tmp_path / "both", model, ["q_proj", "v_proj"], seed=1)

    def wrapped() -> set[str]:
        return {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, AdaptedLinear)
        }

    first = adapters.attach(queries)
    assert wrapped() == {"q_proj"}
    second = adapters.attach(both)
    assert wrapped() == {"q_proj", "v_proj"}
    adapters.release(second)
    assert wrapped() == {"q_proj"}
    adapters.release(first)
    assert dict(model.named_modules()) == before


def test_swapped_weights_have_another_key_and_the_old_ones_serve_on(tmp_path: Path) -> None:
    model = make_model()
    adapters = Adapters(model, base_version="test")
    old = adapters.attach(write_adapter(tmp_path / "mine", model, ["q_proj"]))
    with adapters.applied([(old, 12)]):
        expected = scores(model)
    assert adapters.attach(AdapterRef("mine", str(tmp_path / "mine"))) == old
    new = adapters.attach(write_adapter(tmp_path / "mine", make_model(), ["q_proj"], seed=1))
    assert new != old
    assert new.startswith("mine@")
    with adapters.applied([(old, 12)]):
        assert torch.equal(scores(model), expected)
    adapters.release(old)
    assert adapters.keys == (new,)
    with pytest.raises(BadRequest, match=f"There is no adapter '{old}'; there are {new}"):
        adapters.release(old)
    with pytest.raises(BadRequest, match="There is no adapter"), adapters.applied([(old, 1)]):
        pass


def test_the_same_weights_under_another_scale_or_base_have_another_key(tmp_path: Path) -> None:
    model = make_model()
    ref = write_adapter(tmp_path / "a", model, ["q_proj"])
    keys = {Adapters(model, base_version=version).read(ref).key for version in ("one", "two")}
    change_config(ref, lora_alpha=9)
    keys.add(Adapters(model, base_version="one").read(ref).key)
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 12}, 3.0),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"lora_alpha": 1, "alpha_pattern": {"self_attn.q_proj": 10}}, 2.5),
        ({"lora_alpha": 2, "alpha_pattern": {"^model.layers.7.*": 10}}, 0.5),
        ({"r": 1, "rank_pattern": {"q_proj": 4}, "lora_alpha": 4}, 1.0),
    ],
)
def test_the_scale_is_read_as_peft_writes_it(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    model = make_model()
    ref = write_adapter(tmp_path / "a", model, ["q_proj"], **config)
    expected = scores(merged(model, ref, scale))
    adapters = Adapters(model, base_version="test")
    with adapters.applied([(adapters.attach(ref), 12)]):
        assert torch.allclose(scores(model), expected, rtol=1e-3, atol=1e-2)


def test_weights_take_the_precision_of_the_model(tmp_path: Path) -> None:
    model = make_model().to(torch.bfloat16)
    adapter = Adapters(model, base_version="test").read(write_adapter(tmp_path / "a", model, ["q_proj"]))
    assert {tensor.dtype for pair in adapter.pairs.values() for tensor in (pair.down, pair.up)} == {
        torch.bfloat16
    }


QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("config", "tensors", "sentence"),
    [
        ({"use_dora": True}, {}, "it uses DoRA, which is not served"),
        (
            {"modules_to_save": ["lm_head"]},
            {},
            "it uses whole modules of its own (modules_to_save), which is",
        ),
        ({"bias": "all"}, {}, "it changes biases (bias='all'), which is not served"),
        ({"peft_type": "IA3"}, {}, "it is of the type 'IA3', and only LORA is served"),
        ({"init_lora_weights": "pissa_niter_4"}, {}, "it was begun with 'pissa_niter_4', which alters the"),
        ({"r": 0}, {}, "its r must be a whole number above 0, and is 0"),
        ({"r": None}, {}, "its r must be a whole number above 0, and is None"),
        ({"lora_alpha": "much"}, {}, "its lora_alpha must be a number above 0, and is 'much'"),
        ({"alpha_pattern": {"q": 0}}, {}, "its lora_alpha must be a number above 0, and is 0"),
        ({"rank_pattern": {"(": 4}}, {}, "its rank_pattern must name modules by regular expressions, and is"),
        ({"r": 8}, {}, "takes a lora_A of 8 x 32 and a lora_B of 32 x 8, and the file has 4 x 32 and 32 x 4"),
        (
            {},
            {QUERY: torch.ones(4, 31)},
            "q_proj takes a lora_A of 4 x 32 and a lora_B of 32 x 4, and the file",
        ),
        ({}, {QUERY: torch.full((4, 32), float("nan"))}, f"{QUERY} holds values that are no numbers"),
        ({}, {QUERY: torch.ones(4, 32, dtype=torch.int8)}, f"{QUERY} is of the type torch.int8"),
        ({}, {QUERY: None}, "the module model.layers.0.self_attn.q_proj has a lora_B alone"),
        ({}, {"lora": None}, "adapter_model.safetensors holds no tensors"),
        ({}, {"surplus": torch.ones(1)}, "the tensor surplus is neither a lora_A nor a lora_B of a linear"),
        (
            {},
            {"base_model.model.model.layers.9.mlp.lora_A.weight": torch.ones(1)},
            "the model has no module model.layers.9.mlp",
        ),
        (
            {},
            {"base_model.model.model.norm.lora_A.weight": torch.ones(1)},
            "the module model.norm is a LlamaRMSNorm, and only linear ones can be adapted",
        ),
        (
            {},
            {"base_model.model.lm_head.lora_A.weight": torch.ones(1)},
            "the module lm_head is the model's head, which cannot be adapted",
        ),
    ],
)
def test_a_fault_is_told(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, Tensor | None], sentence: str
) -> None:
    model = make_model()
    before = dict(model.named_modules())
    ref = write_adapter(tmp_path / "mine", model, ["q_proj"], **config)
    change_tensors(ref, **tensors)
    adapters = Adapters(model, base_version="test")
    with pytest.raises(BadRequest) as caught:
        adapters.attach(ref)
    assert str(caught.value).startswith("The adapter 'mine' cannot be used: ")
    assert sentence in str(caught.value)
    assert adapters.keys == ()
    assert dict(model.named_modules()) == before


def test_every_fault_is_told_in_one_sentence_and_like_ones_once(tmp_path: Path) -> None:
    model = make_model()
    ref = write_adapter(tmp_path / "mine", model, ["q_proj"], r=8, use_dora=True)
    change_tensors(ref, surplus=torch.ones(1))
    with pytest.raises(BadRequest) as caught:
        Adapters(model, base_version="test").attach(ref)
    for part in ("DoRA", "surplus", "model.layers.*.self_attn.q_proj takes", "(2 modules alike)"):
        assert str(caught.value).count(part) == 1


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    adapters = Adapters(make_model(), base_version="test")

    def refusal() -> str:
        with pytest.raises(BadRequest) as caught:
            adapters.attach(AdapterRef("mine", str(tmp_path / "mine")))
        return str(caught.value)

    assert refusal() == f"The adapter 'mine' cannot be used: there is no folder {tmp_path / 'mine'}."
    (tmp_path / "mine").mkdir()
    assert refusal() == (
        "The adapter 'mine' cannot be used: adapter_config.json cannot be read (No such file or directory); "
        "there is no adapter_model.safetensors."
    )
    (tmp_path / "mine" / "adapter_model.bin").write_bytes(b"")
    assert "adapter_model.bin could run code, and is never opened" in refusal()
    (tmp_path / "mine" / CONFIG).write_text("{")
    (tmp_path / "mine" / WEIGHTS).write_bytes(b"broken")
    assert "adapter_config.json is no JSON" in refusal()
    assert "adapter_model.safetensors cannot be read" in refusal()
    (tmp_path / "mine" / CONFIG).write_text("[]")
    assert "adapter_config.json holds no object" in refusal()
