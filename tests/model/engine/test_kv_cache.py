"""The KV cache: what was computed is found again, nothing is read under another key, nothing leaks."""

from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.engine.kv_cache import WORTH_COPYING, KVCache, OutOfSlots, Slot

LAYERS, HEADS, SIZE = 2, 2, 4


def make_cache(*, slots: int = 4, slot_tokens: int = 128, budget_tokens: int = 400) -> KVCache:
    return KVCache(
        slot_tokens=slot_tokens,
        budget_tokens=budget_tokens,
        slots=slots,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def values_of(tokens: list[int], layer: int) -> torch.Tensor:
    """What a model would compute: here the token's own number, so that a mix-up shows."""
    return torch.tensor(tokens, dtype=torch.float32)[None, :, None].expand(HEADS, -1, SIZE) + 1000 * layer


def compute(cache: KVCache, slot: Slot, tokens: list[int]) -> None:
    """Write what is missing of `tokens`, and check that every layer reads all of them back."""
    new = tokens[slot.length :]
    for layer in range(LAYERS):
        values = values_of(new, layer)
        keys, read = cache.write(layer, slot, slot.length, values, -values)
        assert torch.equal(keys, values_of(tokens, layer))
        assert torch.equal(read, -values_of(tokens, layer))
    slot.advance(new)


def opened(cache: KVCache, tokens: list[int], key: str = "") -> Slot:
    slot = cache.open(tokens, key)
    compute(cache, slot, tokens)
    return slot


def test_the_next_turn_goes_on_where_the_last_one_ended() -> None:
    cache = make_cache()
    first = list(range(60))
    cache.close(opened(cache, first))
    slot = cache.open([*first, 7, 8, 9], "")
    assert slot.length == 60


def test_at_least_the_last_token_is_computed_again() -> None:
    cache = make_cache()
    cache.close(opened(cache, list(range(60))))
    assert cache.open(list(range(60)), "").length == 59


def test_another_conversation_copies_the_system_prompt_and_leaves_the_first_as_it_was() -> None:
    cache = make_cache()
    system = list(range(WORTH_COPYING + 4))
    one, two = [*system, *range(100, 150)], [*system, *range(200, 250)]
    cache.close(opened(cache, one))
    slot = cache.open(two, "")
    assert slot.length == len(system)
    compute(cache, slot, two)
    assert cache.open([*one, 1], "").length == len(one)


def test_a_running_sequence_can_be_copied_from() -> None:
    cache = make_cache()
    tokens = list(range(40))
    opened(cache, tokens)
    slot = cache.open([*tokens, 99], "")
    assert slot.length == 40
    compute(cache, slot, [*tokens, 99])


def test_what_another_key_computed_is_not_read() -> None:
    cache = make_cache()
    cache.close(opened(cache, list(range(60)), key="v1"))
    assert cache.open(list(range(60)), "v2").length == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = make_cache(slots=3)
    texts = [list(range(start, start + 60)) for start in (0, 100, 200)]
    for tokens in texts:
        cache.close(opened(cache, tokens))
    cache.close(cache.open(texts[0], ""))
    opened(cache, list(range(300, 360)))
    assert cache.open(texts[0], "").length == 59
    assert cache.open(texts[1], "").length == 0


def test_memory_is_taken_from_those_who_rest_before_those_who_run() -> None:
    cache = make_cache(budget_tokens=100)
    cache.close(opened(cache, list(range(60))))
    running = opened(cache, list(range(200, 230)))
    cache.reserve(70)
    assert cache.committed == 30
    with pytest.raises(OutOfSlots):
        cache.reserve(71)
    assert running.length == 30


def test_more_sequences_than_slots_must_wait() -> None:
    cache = make_cache(slots=1)
    slot = opened(cache, list(range(20)))
    with pytest.raises(OutOfSlots):
        cache.open(list(range(20)), "")
    cache.close(slot)
    assert cache.open(list(range(20)), "") is slot


def test_a_prompt_that_cannot_fit_beside_what_runs_must_wait() -> None:
    cache = make_cache(budget_tokens=100)
    opened(cache, list(range(60)))
    with pytest.raises(OutOfSlots):
        cache.open(list(range(200, 250)), "")


def test_forgetting_a_key_drops_what_rests_under_it() -> None:
    cache = make_cache()
    cache.close(opened(cache, list(range(60)), key="v1"))
    cache.forget("v1")
    assert cache.committed == 0
    assert cache.open(list(range(60)), "v1").length == 0


class AnySchedule(RuleBasedStateMachine):
    """Whatever comes in whatever order: each running sequence reads its own values, and the budget holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = make_cache(slots=4, slot_tokens=64, budget_tokens=160)
        self.running: list[tuple[Slot, list[int]]] = []

    @rule(
        start=st.sampled_from([0, 500]),
        common=st.integers(0, 40),
        own=st.integers(1, 20),
        tail=st.integers(0, 3),
        key=st.sampled_from(["a", "b"]),
    )
    def open(self, start: int, common: int, own: int, tail: int, key: str) -> None:
        tokens = [*range(start, start + common), *range(10_000 * (tail + 1), 10_000 * (tail + 1) + own)]
        try:
            slot = self.cache.open(tokens, key)
        except OutOfSlots:
            assert self.running
            return
        assert all(slot is not other for other, _ in self.running)
        try:
            self.cache.reserve(len(tokens))
        except OutOfSlots:
            self.cache.close(slot)
            return
        compute(self.cache, slot, tokens)
        self.running.append((slot, tokens))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), token=st.integers(0, 99))
    def write_one(self, data: Any, token: int) -> None:
        slot, tokens = data.draw(st.sampled_from(self.running))
        if len(tokens) == slot.capacity:
            return
        try:
            self.cache.reserve(1)
        except OutOfSlots:
            return
        tokens.append(token)
        compute(self.cache, slot, tokens)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), kept=st.floats(0, 1))
    def truncate(self, data: Any, kept: float) -> None:
        slot, tokens = data.draw(st.sampled_from(self.running))
        del tokens[max(1, int(kept * len(tokens))) :]
        slot.length = len(tokens)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        self.cache.close(self.running.pop(index)[0])

    @invariant()
    def the_budget_holds(self) -> None:
        assert self.cache.committed <= self.cache.budget_tokens

    def teardown(self) -> None:
        """When all have left, everything is free again."""
        for slot, _ in self.running:
            self.cache.close(slot)
        self.cache.reserve(self.cache.budget_tokens)
        assert self.cache.committed == 0


TestAnySchedule = AnySchedule.TestCase
TestAnySchedule.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
