"""Batched = alone = transformers' generate, token for token, for many architectures and any order of pieces."""

import random
from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedModel

from model.engine.kv_cache import KVCache
from model.engine.lora import Adapters
from model.engine.memory import find_fault_in_batches
from model.engine.runner import BatchRunner, Feed, Runner, SingleRunner
from tests.model.engine.architectures import BATCHED, SINGLE, VOCABULARY, build

NEW_TOKENS = 24


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


def prompts() -> list[list[int]]:
    order = random.Random(1)
    return [[order.randrange(VOCABULARY) for _ in range(length)] for length in (5, 40, 23, 7)]


def generated(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """By transformers, with the attention that is written out."""
    model.set_attn_implementation("eager")
    whole = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens: list[int] = whole[0].tolist()
    return tokens


def decode_greedily(runner: Runner, texts: list[list[int]], order: random.Random) -> None:
    """Extend `texts` by NEW_TOKENS each; prompts go in in pieces, who takes part in a pass is drawn."""
    goals = [len(text) + NEW_TOKENS for text in texts]
    places = [runner.open(text, None) for text in texts]
    while any(len(text) < goal for text, goal in zip(texts, goals, strict=True)):
        feeds: dict[int, Feed] = {}
        for index, (text, goal, place) in enumerate(zip(texts, goals, places, strict=True)):
            if len(text) < goal and order.random() < 0.8:
                missing = text[place.length :]
                piece = missing[: order.randint(1, 9)]
                feeds[index] = Feed(place, piece, scored=int(len(piece) == len(missing)))
        if feeds:
            chosen = iter(runner.forward(list(feeds.values())).argmax(-1).tolist())
            for index, feed in feeds.items():
                if feed.scored:
                    texts[index].append(next(chosen))
    for place in places:
        runner.close(place)


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
