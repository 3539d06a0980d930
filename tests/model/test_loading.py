"""Models load whole, or a sentence with the name and the number in it says why not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MambaConfig

from model import checkpoint
from model.checkpoint import read_checkpoint
from model.errors import ModelNotFound, ModelUnusable
from model.fitting import check_memory, choose_device, choose_dtype, recommended_sampling
from model.hardware import Device, largest_model
from model.loading import load_model
from tests.model.tiny_models import CONTEXT, Shape, make_tokenizer

Folders = dict[Shape, Path]
Change = Callable[[Path], object]


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def change_config(**values: object) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def split_and_lose_half(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


UNUSABLE: dict[str, tuple[Change, str]] = {
    "a missing tensor": (
        change_tensors(lambda tensors: tensors.pop("model.norm.weight")),
        "broken lacks 1 of the tensors that its configuration names, the first of them model.norm.weight.",
    ),
    "a tensor of another shape": (
        change_tensors(lambda tensors: tensors.update({"model.norm.weight": torch.zeros(7)})),
        "broken has 1 tensors that do not fit its configuration, the first of them model.norm.weight: "
        "[7] in the file, [32] in the model.",
    ),
    "a layer too few": (change_config(num_hidden_layers=3), "broken lacks 9 of the tensors"),
    "a layer too many": (
        change_config(num_hidden_layers=1),
        "broken has 9 tensors that its configuration does not name, "
        "the first of them model.layers.1.input_layernorm.weight.",
    ),
    "weights cut short": (cut_short, "model.safetensors is cut short: it has "),
    "weights of another format": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"something else entirely"),
        "model.safetensors is not a safetensors file",
    ),
    "weights as a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "broken has no model.safetensors; pytorch_model.bin is not loaded",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "broken has no model.safetensors.",
    ),
    "half the weights": (
        split_and_lose_half,
        "broken lacks 1 of 2 weight files, the first of them model-00002-of-00002.safetensors.",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "broken has no config.json"),
    "a configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "cannot read the configuration of broken",
    ),
    "an unknown kind of model": (change_config(model_type="martian"), "model type `martian`"),
    "a model that brings code along": (
        change_config(model_type="martian", auto_map={"AutoConfig": "code.Config"}),
        "code that a model brings along is never run",
    ),
    "a model for another task": (
        change_config(model_type="bert", architectures=["BertForMaskedLM"]),
        "broken is a BertForMaskedLM, not a causal language model",
    ),
    "a translator": (
        change_config(
            model_type="bart", architectures=["BartForConditionalGeneration"], is_encoder_decoder=True
        ),
        "broken is a BartForConditionalGeneration, not a causal language model",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "broken has no usable tokenizer"),
    "a tokenizer of another model": (
        change_config(vocab_size=100),
        "The tokenizer of broken has 322 tokens, but the model knows only 100.",
    ),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_what_cannot_be_served_is_refused_with_a_sentence(
    fault: str, folders: Folders, tmp_path: Path
) -> None:
    change, sentence = UNUSABLE[fault]
    broken = tmp_path / "broken"
    shutil.copytree(folders["llama"], broken)
    change(broken)
    with pytest.raises(ModelUnusable) as refused:
        load_model(str(broken), device="cpu")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_without_a_kv_cache_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=322, hidden_size=16, state_size=4, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelUnusable, match="is a MambaForCausalLM, which cannot be served token by token"):
        load_model(str(tmp_path), device="cpu")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelUnusable, match="is a LoRA adapter"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2"])
def test_a_folder_becomes_a_model(shape: Shape, folders: Folders) -> None:
    loaded = load_model(str(folders[shape]), device="cpu")
    assert loaded.name == shape
    assert loaded.version.startswith(f"{shape}@")
    assert (loaded.device, loaded.dtype, loaded.context_tokens) == ("cpu", "float32", CONTEXT)
    assert loaded.parameters == sum(tensor.numel() for tensor in loaded.model.parameters())
    assert loaded.format.plain == (shape == "gpt2")
    assert not loaded.model.training


def test_the_dtype_can_be_chosen(folders: Folders) -> None:
    loaded = load_model(str(folders["llama"]), device="cpu", dtype="bfloat16")
    assert loaded.dtype == "bfloat16"
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.bfloat16}


def test_unused_heads_for_other_purposes_do_no_harm(folders: Folders, tmp_path: Path) -> None:
    extended = tmp_path / "extended"
    shutil.copytree(folders["llama"], extended)
    change_tensors(lambda tensors: tensors.update({"reward_head.weight": torch.zeros(1, 32)}))(extended)
    assert load_model(str(extended), device="cpu").name == "extended"


def test_the_version_changes_with_the_weights_alone(folders: Folders, tmp_path: Path) -> None:
    same, other = tmp_path / "a" / "llama", tmp_path / "b" / "llama"
    for folder in (same, other):
        shutil.copytree(folders["llama"], folder)
    change_tensors(lambda tensors: tensors["model.norm.weight"].add_(0.5))(other)
    versions = [read_checkpoint("llama", folder).fingerprint for folder in (folders["llama"], same, other)]
    assert versions[0] == versions[1] != versions[2]


def test_loading_prints_nothing(folders: Folders, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(folders["llama"]), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_the_starter_is_a_folder_of_this_package(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "STARTER_FOLDER", folders["llama"])
    assert load_model("starter", device="cpu").version.startswith("starter@")
    monkeypatch.setattr(checkpoint, "STARTER_FOLDER", tmp_path / "nothing")
    with pytest.raises(ModelNotFound, match="starter model is not in this installation"):
        load_model("starter", device="cpu")


@pytest.mark.parametrize(
    "source", ["/nowhere/model", "./no-model", "~/no such model", "a/b/c", "..\\no-model"]
)
def test_a_folder_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        load_model(source)
    assert f"There is no folder {source}." in str(refused.value)


def test_a_file_is_no_model(folders: Folders) -> None:
    with pytest.raises(ModelNotFound, match="is a file"):
        load_model(str(folders["llama"] / "config.json"))


def test_an_impossible_name_is_named() -> None:
    with pytest.raises(ModelNotFound, match="'no model' is neither a folder nor the id of a hub model"):
        load_model("no model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that should be missing")
def test_a_missing_device_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelUnusable, match=r"no device 'cuda' here; there is .*cpu"):
        choose_device("cuda")


def device(kind: str, *, native: bool = True, free: int | None = 2**30) -> Device:
    return Device(kind, "a device", free, free, native)


def test_the_dtype_suits_the_device(folders: Folders) -> None:
    small = read_checkpoint("llama", folders["llama"])
    header = small.tensors["lm_head.weight"]
    large = replace(small, tensors={"weight": replace(header, dtype="BF16", shape=(10_000, 10_000))})
    assert choose_dtype("auto", device("cuda:0"), small) == "bfloat16"
    assert choose_dtype("auto", device("cuda:0", native=False), small) == "float16"
    assert choose_dtype("auto", device("mps", native=False), small) == "float16"
    assert choose_dtype("auto", device("cpu"), small) == "float32"
    assert choose_dtype("auto", device("cpu"), large) == "bfloat16"
    assert choose_dtype("auto", device("cpu", native=False), large) == "float32"
    assert choose_dtype("float16", device("cpu"), large) == "float16"
    with pytest.raises(ModelUnusable, match="no dtype 'int3'"):
        choose_dtype("int3", device("cpu"), small)


def test_too_large_a_model_is_refused_before_it_is_loaded(folders: Folders) -> None:
    small = read_checkpoint("llama", folders["llama"])
    large = replace(
        small, name="giant", tensors={"w": replace(small.tensors["lm_head.weight"], shape=(10**5, 10**5))}
    )
    with pytest.raises(
        ModelUnusable, match=r"giant has 10\.0B parameters.* has 1\.0 GiB .* 429\.5M fit in bfloat16"
    ):
        check_memory(large, device("cpu"), "bfloat16")
    check_memory(large, device("cpu", free=None), "bfloat16")
    check_memory(small, device("cpu"), "bfloat16")
    assert largest_model(2**30, "bfloat16") == 429_496_729


@pytest.mark.parametrize(
    ("told", "expected", "warnings"),
    [
        ({"temperature": 0.6, "top_k": 20, "eos_token_id": 1}, {"temperature": 0.6, "top_k": 20}, 0),
        ({"do_sample": True, "top_p": 0.8, "min_p": None}, {"top_p": 0.8}, 0),
        ({"do_sample": False, "temperature": 0.6}, {}, 0),
        ({"temperature": 0, "top_p": 7}, {"temperature": 0}, 1),
        ([], {}, 0),
    ],
)
def test_the_models_own_sampling_is_read(
    folders: Folders,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    told: object,
    expected: object,
    warnings: int,
) -> None:
    folder = Path(shutil.copytree(folders["llama"], tmp_path / "model"))
    (folder / "generation_config.json").write_text(json.dumps(told))
    opened = read_checkpoint("model", folder)
    assert dict(recommended_sampling(opened)) == expected
    assert len(caplog.records) == warnings
