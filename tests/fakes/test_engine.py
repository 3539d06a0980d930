"""The fake engine keeps the engines' contract, and does what a test tells it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from model.errors import Overloaded
from model.protocol import Engine
from tests.fakes.engine import Answer, FakeEngine
from tests.model.engine_contract import EngineContract, ask, collect, text_of


class TestTheFakeEngineKeepsTheContract(EngineContract):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        yield FakeEngine(default="Hello! What a lovely day to talk about bicycles.")


async def test_answers_come_in_the_order_in_which_they_were_queued() -> None:
    engine = FakeEngine("one", "two")
    engine.queue("three")
    assert [text_of(await collect(engine, ask())) for _ in range(3)] == ["one", "two", "three"]
    assert [request.sampling.seed for request in engine.requests] == [7, 7, 7]


async def test_an_answer_can_wait_for_the_test_and_then_fail() -> None:
    event = asyncio.Event()
    engine = FakeEngine(Answer("before", event, Overloaded("Too much.", retry_after=3)))
    async with aclosing(engine.generate(ask())) as deltas:
        heard = [(await anext(deltas)).text, (await anext(deltas)).text]
        assert "".join(heard) == "before"
        event.set()
        with pytest.raises(Overloaded):
            await anext(deltas)
    assert engine.cancelled == []


async def test_what_was_cancelled_is_remembered() -> None:
    engine = FakeEngine("a long answer")
    async with aclosing(engine.generate(ask())) as deltas:
        await anext(deltas)
    assert engine.cancelled == engine.requests


async def test_the_finish_reason_can_be_chosen() -> None:
    deltas = await collect(FakeEngine(Answer("cut of", reason="length")), ask())
    assert deltas[-1].finish is not None
    assert deltas[-1].finish.reason == "length"


async def test_a_request_that_no_answer_was_queued_for_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="queued no answer"):
        await collect(FakeEngine(), ask())
