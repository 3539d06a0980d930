"""The prompt holds as much of the newest history as the budget allows, and always the question."""

from datetime import UTC, datetime
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from bot.prompt import STEADINESS, build_prompt
from model.request import ChatMessage
from storage.conversations import HistoryMessage
from tests.fakes.engine import FakeEngine


def said(number: int, words: int) -> HistoryMessage:
    role: Literal["user", "assistant"] = "user" if number % 2 else "assistant"
    text = " ".join(["word"] * words)
    return HistoryMessage(number, role, "Ada" if number % 2 else None, text, datetime(2026, 1, 1, tzinfo=UTC))


async def build(history: list[HistoryMessage], budget: int) -> tuple[int, ...]:
    prompt = await build_prompt(
        FakeEngine(), persona="Be kind.", history=history, token_budget=budget, named=True
    )
    assert prompt.left_out + len(prompt.message_ids) == len(history)
    assert len(prompt.messages) == len(prompt.message_ids) + 1
    return prompt.message_ids


async def test_everything_fits_a_large_budget() -> None:
    assert await build([said(1, 3), said(2, 3), said(3, 3)], 1000) == (1, 2, 3)


async def test_the_oldest_messages_are_left_out_first() -> None:
    # The persona takes 3 of the fake engine's tokens, each message 4.
    assert await build([said(1, 3), said(2, 3), said(3, 3)], 3 + 4 + 4) == (2, 3)


async def test_the_question_is_kept_even_when_it_is_over_the_budget() -> None:
    assert await build([said(1, 3), said(2, 3), said(3, 500)], 100) == (3,)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(0, 300))
async def test_nearly_as_much_is_kept_as_would_fit(lengths: list[int], budget: int) -> None:
    history = [said(number, words) for number, words in enumerate(lengths, start=1)]
    kept = len(await build(history, budget))

    def cost(count: int) -> int:
        return 3 + sum(words + 1 for words in lengths[-count:])

    most = max((count for count in range(1, len(lengths) + 1) if cost(count) <= budget), default=1)
    assert most - STEADINESS * most <= kept <= most
    assert kept == most or most < len(lengths)


async def test_in_a_long_conversation_half_of_the_prompts_begin_as_the_one_before() -> None:
    history = [said(number, 3) for number in range(1, 101)]
    starts = [(await build(history[:end], 3 + 4 * 20))[0] for end in range(40, 101, 2)]
    assert len(set(starts)) <= len(starts) / 2 + 1


async def test_without_a_persona_there_is_no_system_message() -> None:
    prompt = await build_prompt(FakeEngine(), persona="", history=[said(1, 2)], token_budget=50, named=False)
    assert prompt.messages == (ChatMessage("user", "word word"),)
