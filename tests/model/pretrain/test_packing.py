import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from model.pretrain.attention import SHORT_ROWS, attend
from model.pretrain.examples import Examples
from model.pretrain.network import Objective, block_diagonal, build_network
from model.pretrain.packing import IGNORED, build_batch, endless, learnt_in, pack, plan_epoch
from model.pretrain.tokenizer import train_tokenizer
from tests.model.pretrain.small_corpora import TINY


def make_examples(lengths: list[int], vocabulary: int = 300) -> Examples:
    random = np.random.default_rng(0)
    total = sum(lengths)
    return Examples(
        ids=random.integers(3, vocabulary, total).astype(np.int32),
        learnt=random.random(total) < 0.8,
        starts=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
    )


@given(st.lists(st.integers(2, 700), min_size=1, max_size=60), st.integers(0, 5))
@settings(deadline=None)
def test_every_example_stands_in_an_epoch_once_and_whole(lengths: list[int], seed: int) -> None:
    examples = make_examples(lengths)
    plans = plan_epoch(examples, context=768, micro_tokens=1024, seed=(seed,))
    assert sorted(index for plan in plans for row in plan.rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= plan.row_length for plan in plans for row in plan.rows)


def test_rows_of_short_examples_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(20, 200, 3000)
    rows = pack(range(3000), lengths, 256)
    assert lengths.sum() / (len(rows) * 256) > 0.98


def test_the_same_seed_gives_the_same_batches_and_each_epoch_others() -> None:
    examples = make_examples([30] * 50)
    steps = endless(examples, context=128, micro_tokens=256, group=2, seed=(1,))
    again = endless(examples, context=128, micro_tokens=256, group=2, seed=(1,))
    first = [next(steps) for _ in range(12)]
    assert first == [next(again) for _ in range(12)]
    assert first[:3] != first[3:6]


def test_a_corpus_smaller_than_a_step_fills_it_by_repeating() -> None:
    [group] = [next(endless(make_examples([9]), context=128, micro_tokens=128, group=3, seed=(0,)))]
    assert len(group) == 3
    assert len(set(map(repr, group))) == 1


def test_labels_are_the_next_tokens_that_are_learnt() -> None:
    examples = make_examples([5, 7])
    [plan] = plan_epoch(examples, context=64, micro_tokens=64, seed=(0,))
    batch = build_batch(examples, plan, padding=0)
    expected = [
        int(examples.ids[place + 1]) if examples.learnt[place + 1] else IGNORED
        for start, end in ((0, 5), (5, 12))
        for place in range(start, end - 1)
    ]
    found = [
        int(label)
        for segment in (1, 2)
        for label in batch.labels[0][batch.segments[0] == segment][:-1].tolist()
    ]
    assert sorted(found) == sorted(expected)
    assert int((batch.labels != IGNORED).sum()) == learnt_in(examples, plan)
    assert batch.positions[0][batch.segments[0] == 2].tolist()[:3] == [0, 1, 2]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["abc"], vocabulary=300, exact=False, context=128)


@pytest.mark.parametrize(
    ("mixed", "attention", "tolerance"),
    [(False, "sdpa", 1e-5), (True, "sdpa", 2e-2), (True, SHORT_ROWS, 2e-2)],
)
def test_packed_examples_lose_what_they_lose_alone(
    tokenizer: PreTrainedTokenizerBase, *, mixed: bool, attention: str, tolerance: float
) -> None:
    network = build_network(TINY, tokenizer, 128, seed=0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)  # far from uniform: attending elsewhere would show
    network.set_attn_implementation(attention)
    objective = Objective(network, mixed=mixed)
    examples = make_examples([20, 31, 44, 17, 60], vocabulary=len(tokenizer))
    packed = sum(
        float(objective(*build_batch(examples, plan, padding=0)).detach())
        for plan in plan_epoch(examples, context=128, micro_tokens=256, seed=(0,))
    )
    network.set_attn_implementation("sdpa")
    alone = 0.0
    for start, end in zip(examples.starts[:-1], examples.starts[1:], strict=True):
        ids = torch.from_numpy(examples.ids[start:end].astype(np.int64))
        logits = network(input_ids=ids[None], use_cache=False).logits[0, :-1].detach()
        learnt = torch.from_numpy(examples.learnt[start + 1 : end])
        alone += float(torch.nn.functional.cross_entropy(logits[learnt], ids[1:][learnt], reduction="sum"))
    assert packed == pytest.approx(alone, rel=tolerance)


@pytest.mark.parametrize("length", [64, 320])
def test_attention_of_short_rows_equals_the_one_of_torch_forwards_and_backwards(length: int) -> None:
    torch.manual_seed(0)
    made = [torch.randn(2, heads, length, 16, requires_grad=True) for heads in (4, 2, 2)]
    query, key, value = made
    segments = torch.arange(length)[None].repeat(2, 1) // 20
    mask = block_diagonal(segments, torch.float32)
    module = torch.nn.Module()
    module.num_key_value_groups = 2  # type: ignore[assignment]
    found, _ = attend(module, query, key, value, mask, scaling=0.25)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.25)
    torch.testing.assert_close(found.float(), expected, atol=3e-2, rtol=3e-2)
    ours = torch.autograd.grad(found.float().square().sum(), made)
    theirs = torch.autograd.grad(expected.square().sum(), made)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() / other.norm() < 0.02
