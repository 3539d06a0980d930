"""The lean decoders write what transformers' generate writes, token for token, or leave the model to transformers."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import Checkpoint, read_checkpoint
from model.engine.packed import packing_works
from model.engine.runner import Feed, Runner
from model.lean import model as lean_model
from model.lean.large import LargeDecoder
from model.lean.model import LeanModel, find_lean, open_lean
from model.lean.shape import NotLean
from model.lean.small import SmallDecoder
from model.lean.weights import Tensors
from model.loading import load_checkpoint
from tests.model.engine.decoding import decode_greedily, generated, prompts
from tests.model.lean.shapes import SHAPES, change_config, checkpoint, save

SMALL, LARGE = "small", "large"
WAYS = [
    SMALL,
    pytest.param(
        LARGE,
        marks=pytest.mark.skipif(not packing_works(torch.float32), reason="this processor packs nothing"),
    ),
]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def open_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LeanModel]:
    def opened(way: str, found: Checkpoint, **options: str) -> LeanModel:
        if way == LARGE:
            monkeypatch.setattr(lean_model, "SMALL", 0)
        model = open_lean(found, device="cpu", **options)
        assert type(model.decoder) is (SmallDecoder if way == SMALL else LargeDecoder)
        return model

    return opened


def runner_of(model: LeanModel) -> Runner:
    return model.open_runner(context_tokens=128, max_running=4, cache_bytes=2**24, quantise="none").runner


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_lean_batch_writes_what_generate_writes(
    name: str, way: str, tmp_path: Path, open_as: Callable[..., LeanModel]
) -> None:
    model = save(name, tmp_path)
    expected = [generated(model, prompt) for prompt in prompts()]
    runner = runner_of(open_as(way, read_checkpoint("tiny", tmp_path)))
    texts = prompts()
    decode_greedily(runner, texts, random.Random(2))
    assert texts == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_scores_are_those_of_transformers(
    name: str, way: str, tmp_path: Path, open_as: Callable[..., LeanModel]
) -> None:
    model = save(name, tmp_path)
    text = prompts()[1]
    expected = model(torch.tensor([text])).logits[0]
    runner = runner_of(open_as(way, read_checkpoint("tiny", tmp_path)))
    place = runner.open(text, None)
    found = np.asarray(runner.forward([Feed(place, text, scored=len(text))]))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not packing_works(torch.bfloat16), reason="this processor packs no bfloat16")
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3, tied", "Mistral"])
def test_in_bfloat16_the_large_decoder_is_as_near_to_the_truth_as_transformers(
    name: str, tmp_path: Path, open_as: Callable[..., LeanModel]
) -> None:
    found = checkpoint(name, tmp_path, dtype=torch.bfloat16)
    text = torch.tensor([prompts()[1]])
    exact = load_checkpoint(found, device="cpu", dtype="float32").model(text).logits[0]
    own = load_checkpoint(found, device="cpu", dtype="bfloat16").model(text).logits[0].float()
    runner = runner_of(open_as(LARGE, found, dtype="bfloat16"))
    place = runner.open(text[0].tolist(), None)
    lean = runner.forward([Feed(place, text[0].tolist(), scored=text.shape[1])]).float()
    assert (lean - exact).norm() < 1.2 * (own - exact).norm()


@pytest.mark.parametrize("way", WAYS)
def test_a_cached_beginning_changes_nothing(
    way: str, tmp_path: Path, open_as: Callable[..., LeanModel]
) -> None:
    model = save("Mistral", tmp_path)
    runner = runner_of(open_as(way, read_checkpoint("tiny", tmp_path)))
    first = prompts()[1]
    decode_greedily(runner, [first], random.Random(3))
    text = [*first, 5, 6, 7]
    expected = generated(model, text)
    place = runner.open(text, None)
    assert place.length == len(first) - 1
    runner.close(place)
    decode_greedily(runner, [text], random.Random(4))
    assert text == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_are_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    found = checkpoint("Llama", tmp_path, dtype=dtype)
    read = Tensors(found)
    for name, expected in load_file(tmp_path / "model.safetensors").items():
        assert np.array_equal(read(name), expected.float().numpy())


def test_a_lean_model_tells_of_itself_what_the_full_one_tells(tmp_path: Path) -> None:
    found = checkpoint("Qwen3, tied", tmp_path)
    lean, full = open_lean(found), load_checkpoint(found, device="cpu")
    for name in (
        "name", "version", "device", "dtype", "parameters", "vocabulary", "context_tokens", "sampling_defaults",
        "stop_token_ids",
    ):  # fmt: skip
        assert getattr(lean, name) == getattr(full, name), name


REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "another architecture": (
        "Llama",
        {"model_type": "gemma", "architectures": ["GemmaForCausalLM"]},
        "a gemma",
    ),
    "a word that nobody knows": ("Llama", {"embedding_multiplier": 2.0}, "embedding_multiplier"),
    "quantised weights": ("Llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    "stretched positions": (
        "Llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
        "yarn",
    ),
    "stretched positions, as they were written before": (
        "Llama",
        {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "linear",
    ),
    "positions that turn a part of the head": (
        "Llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "partial_rotary_factor",
    ),
    "another activation": ("Llama", {"hidden_act": "gelu"}, "activation"),
    "layers that take turns": (
        "Qwen3",
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        "turns",
    ),
    "a size that is not stated": ("Qwen3", {"head_dim": None}, "head_dim"),
    "a window that is not stated": ("Mistral", {"sliding_window": None}, "sliding_window"),
    "other tensors than the configuration says": ("Llama", {"intermediate_size": 48}, "tensors"),
    "a layer too few": ("Llama", {"num_hidden_layers": 4}, "tensors"),
    "a layer too many": ("Llama", {"num_hidden_layers": 2}, "tensors"),
    "a tokenizer with more tokens": ("Llama", {"vocab_size": 100}, "tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_left_to_transformers(case: str, tmp_path: Path) -> None:
    name, values, reason = REFUSED[case]
    save(name, tmp_path)
    change_config(tmp_path, **values)
    found = read_checkpoint("tiny", tmp_path)
    with pytest.raises(NotLean, match=reason):
        open_lean(found)
    assert find_lean(found) is None


def test_a_second_copy_of_a_tied_head_must_be_the_same(tmp_path: Path) -> None:
    save("Llama, tied", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for change, fits in ((0.0, True), (1.0, False)):
        head = tensors["model.embed_tokens.weight"] + change
        save_file(
            {**tensors, "lm_head.weight": head}, tmp_path / "model.safetensors", metadata={"format": "pt"}
        )
        assert (find_lean(read_checkpoint("tiny", tmp_path)) is not None) == fits


def test_other_devices_and_dtypes_are_for_transformers(tmp_path: Path) -> None:
    found = checkpoint("Llama", tmp_path)
    assert find_lean(found, device="cpu", dtype="float16") is None
    assert find_lean(found, device="auto", dtype="float32") is not None
