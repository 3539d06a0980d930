"""Batched = alone = transformers' generate, token for token, for many architectures and any order of pieces."""

import random
from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedModel

from model.engine.kv_cache import KVCache
from model.engine.lora import Adapters
from model.engine.passes import BatchRunner, SingleRunner
from model.engine.trial import find_fault_in_batches
from tests.model.engine.architectures import BATCHED, SINGLE, build
from tests.model.engine.decoding import decode_greedily, generated, prompts


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def batch_runner(model: PreTrainedModel) -> BatchRunner:
    cache = KVCache(
        slot_tokens=128, budget_tokens=1000, slots=6, dtype=model.dtype, device=torch.device("cpu")
    )
    return BatchRunner(model, cache, Adapters(model, base_version="test"))


def single_runner(model: PreTrainedModel) -> SingleRunner:
    return SingleRunner(model, Adapters(model, base_version="test"), kept=4)


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_writes_what_generate_writes(name: str) -> None:
    model = build(BATCHED[name])
    expected = [generated(model, prompt) for prompt in prompts()]
    texts = prompts()
    decode_greedily(batch_runner(model), texts, random.Random(2))
    assert texts == expected


@pytest.mark.parametrize("name", SINGLE)
def test_one_after_another_writes_what_generate_writes(name: str) -> None:
    model = build(SINGLE[name])
    expected = [generated(model, prompt) for prompt in prompts()]
    texts = prompts()
    decode_greedily(single_runner(model), texts, random.Random(2))
    assert texts == expected


@pytest.mark.parametrize("name", ["Llama", "Mistral with a sliding window", "GPT-2"])
def test_a_cached_beginning_changes_nothing(name: str) -> None:
    model = build(BATCHED[name])
    runner = batch_runner(model)
    first = prompts()[1]
    decode_greedily(runner, [first], random.Random(3))
    expected = generated(model, [*first, 5, 6, 7])
    text = [*first, 5, 6, 7]
    model.set_attn_implementation("parley")
    place = runner.open(text, None)
    assert place.length == len(first) - 1
    runner.close(place)
    decode_greedily(runner, [text], random.Random(4))
    assert text == expected


@pytest.mark.parametrize("name", SINGLE)
def test_a_conversation_with_a_state_goes_on_where_it_ended(name: str) -> None:
    model = build(SINGLE[name])
    runner = single_runner(model)
    text = prompts()[1]
    decode_greedily(runner, [text], random.Random(3))
    longer = [*text, 5, 6, 7]
    expected = generated(model, longer)
    place = runner.open(longer, None)
    assert place.length == len(text) - 1
    runner.close(place)
    decode_greedily(runner, [longer], random.Random(4))
    assert longer == expected


@pytest.mark.parametrize("name", BATCHED)
def test_these_are_found_fit_for_batches(name: str) -> None:
    assert find_fault_in_batches(build(BATCHED[name])) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Qwen3.5 with linear attention", "linear_attention"), ("GPT-OSS with attention sinks", "differ")],
)
def test_others_are_found_unfit_and_why(name: str, reason: str) -> None:
    assert reason in str(find_fault_in_batches(build(SINGLE[name])))
