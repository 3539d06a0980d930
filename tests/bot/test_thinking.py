"""A model's thoughts are told from its answer however the stream is cut, and never part of what is remembered."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.thinking import LONGEST_FOLDED, ONLY_THOUGHT, Thinking, Thoughts, show_thought
from tests.fakes.reply import FakeReply

OTHERWISE = "I have nothing to say."
WAYS: tuple[Thinking, ...] = ("hidden", "folded", "shown")
HARMONY = "<|channel|>analysis<|message|>Hm, five?<|end|><|start|>assistant<|channel|>final<|message|>Twelve."


async def show(
    deltas: Sequence[str], thinking: Thinking = "hidden", *, opened: bool = False
) -> tuple[str, str]:
    """What people see, and what is remembered."""
    reply = FakeReply()
    thoughts = Thoughts(reply, thinking, opened=opened)
    for delta in deltas:
        await thoughts.append(delta)
    answer = await thoughts.end(OTHERWISE)
    return reply.text, answer


@pytest.mark.parametrize("thinking", WAYS)
async def test_an_answer_without_thoughts_is_shown_as_it_is(thinking: Thinking) -> None:
    text = "Hello.\n\n- one < two\n</div>\n"
    assert await show([text], thinking) == (text, text)


@pytest.mark.parametrize(
    "written",
    [
        "<think>\nHm, five?\n</think>\n\nTwelve.",
        "\n<think>Hm, five?</think>Twelve.",
        "<seed:think>Hm, five?</seed:think>Twelve.",
        "[THINK]Hm, five?[/THINK]Twelve.",
        HARMONY,
        "<think></think>\n<think>Hm, five?</think> Twelve.",
    ],
)
async def test_each_kind_of_mark_is_known(written: str) -> None:
    assert await show([written], "hidden") == ("Twelve.", "Twelve.")
    assert await show([written], "folded") == ("> Hm, five?\n\nTwelve.", "Twelve.")


async def test_nothing_is_shown_of_a_hidden_thought_while_it_is_written() -> None:
    reply = FakeReply()
    thoughts = Thoughts(reply, "hidden")
    for delta in ("<th", "ink>Let me", " see.\nSo", "</thin"):
        assert await thoughts.append(delta) == ""
    assert reply.text == ""
    assert await thoughts.append("k>\n\nYes") == "Yes"
    assert reply.text == "Yes"


async def test_a_folded_thought_is_one_line_of_limited_length_that_grows() -> None:
    reply = FakeReply()
    thoughts = Thoughts(reply, "folded")
    await thoughts.append("<think>First,\n\n```py")
    assert reply.text == "> First, '''py"
    await thoughts.append("\n" + "and then " * 100)
    assert len(reply.text) == len("> ") + LONGEST_FOLDED + len(" ...")
    await thoughts.append("</think>Yes.")
    assert reply.text.endswith(" ...\n\nYes.")
    assert reply.text.count("\n") == 2


async def test_a_shown_thought_is_quoted_line_by_line() -> None:
    shown, answer = await show(["<think>\nFirst this.\n\nThen that.\n", "</think>\n\nYes."], "shown")
    assert shown == "> First this.\n> \n> Then that.\n\nYes."
    assert answer == "Yes."


async def test_a_thought_that_the_prompt_has_opened_is_one_from_the_first_word_on() -> None:
    assert await show(["Hm,", " five?\n", "</think>\n\nTwelve."], opened=True) == ("Twelve.", "Twelve.")


async def test_a_thought_that_turns_out_to_be_one_is_withdrawn() -> None:
    written = ["Hm,", " five?\n", "</thi", "nk>\n\nTwelve."]
    assert await show(written) == ("Twelve.", "Twelve.")
    assert await show(written, "folded") == ("> Hm, five?\n\nTwelve.", "Twelve.")


@pytest.mark.parametrize(
    "text",
    [
        "It writes <think> first.\n</think>\nis the end.",
        "The end is </think>, in a line.",
        "```\n<think>\nHm.\n</think>\n```\nThat is how.",
    ],
)
async def test_an_answer_may_speak_of_the_marks(text: str) -> None:
    assert await show(list(text)) == (text, text)


@pytest.mark.parametrize("thinking", WAYS)
async def test_an_answer_that_is_only_a_thought_ends_in_a_sentence(thinking: Thinking) -> None:
    shown, answer = await show(["<think>Hm, ", "but then"], thinking)
    assert shown.endswith(ONLY_THOUGHT)
    assert ("Hm" in shown) == (thinking != "hidden")
    assert answer == ""


async def test_no_answer_and_no_thought_ends_in_the_other_sentence() -> None:
    assert await show(["\n", " "]) == (OTHERWISE, "")


MARKS = "<think> </think> [THINK] [/THINK] <|channel|> <|channel|>final<|message|> <|end|> <thi nk> </ <"
PARTS = st.sampled_from(
    [*MARKS.split(), "\n", "\n\n", " ", "Hm. ", "a thought ", "你好", "`", "<think>Hm</think>"]
)
WRITTEN = st.lists(PARTS, max_size=20).map("".join)


@given(WRITTEN, st.lists(st.integers(0, 200), max_size=20), st.sampled_from(WAYS), st.booleans())
def test_however_the_stream_is_cut_the_same_is_shown_and_remembered(
    text: str, cuts: list[int], thinking: Thinking, opened: bool
) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    deltas = [text[start:end] for start, end in pairwise(places)]
    whole = asyncio.run(show([text], thinking, opened=opened))
    assert asyncio.run(show(deltas, thinking, opened=opened)) == whole
    assert asyncio.run(show(list(text), thinking, opened=opened)) == whole


@given(st.text(st.sampled_from("ab `\n你"), max_size=600), st.integers(0, 600), st.sampled_from(WAYS))
def test_what_is_shown_of_a_thought_only_grows(thought: str, length: int, thinking: Thinking) -> None:
    assert show_thought(thought, thinking).startswith(show_thought(thought[:length], thinking))
