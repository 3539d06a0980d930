"""Tokens become text: whole characters, nothing lost, nothing of the stop string."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.engine.text import ReplyText
from tests.model.tiny_models import make_tokenizer

tokenizer = cache(make_tokenizer)
SAMPLES = [
    "你好，世界",
    "🚲🚴‍♀️ naïve café",
    "a  b   c\n\n  d",
    "def f():\n    return '🙂'",
    "Ελληνικά и русский",
]


def stream(tokens: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """The deltas, the flushed rest among them, and whether a stop string ended the reply."""
    text = ReplyText(tokenizer(), stops)
    deltas = []
    for token in tokens:
        delta, stopped = text.push(token)
        deltas.append(delta)
        if stopped:
            return deltas, True
    return [*deltas, text.flush()], False


def encode(text: str) -> list[int]:
    """As words: what looks like a special token is no token here, for those are never shown."""
    tokens: list[int] = tokenizer().encode(text, add_special_tokens=False, split_special_tokens=True)
    return tokens


def decode(tokens: list[int]) -> str:
    text: str = tokenizer().decode(tokens, skip_special_tokens=True)
    return text


@settings(deadline=None, max_examples=200)
@given(tokens=st.lists(st.integers(0, 321), max_size=60))
def test_streamed_is_whole_even_for_broken_bytes(tokens: list[int]) -> None:
    assert "".join(stream(tokens)[0]) == decode(tokens).lstrip()


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=40) | st.sampled_from(SAMPLES))
def test_no_delta_holds_half_a_character(text: str) -> None:
    deltas, _ = stream(encode(text))
    assert "".join(deltas) == text.lstrip()
    assert all("\ufffd" not in delta for delta in deltas) or "\ufffd" in text


@pytest.mark.parametrize("text", SAMPLES)
def test_characters_come_as_soon_as_they_are_whole(text: str) -> None:
    reply = ReplyText(tokenizer(), ())
    shown, tokens = "", encode(text)
    for count, token in enumerate(tokens, start=1):
        shown += reply.push(token)[0]
        assert shown == decode(tokens[:count]).rstrip("\ufffd")


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(alphabet="ab\nU:", max_size=30),
    stops=st.lists(st.text(alphabet="ab\nU:", min_size=1, max_size=4)),
)
def test_a_reply_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    deltas, stopped = stream(encode(text), tuple(stops))
    found = [index for stop in stops if (index := text.find(stop)) >= 0]
    assert stopped == bool(found)
    shown = "".join(deltas)
    assert not any(stop in shown for stop in stops)
    assert text.lstrip().startswith(shown) or shown == ""


def test_text_that_only_resembled_a_stop_string_is_shown() -> None:
    assert "".join(stream(encode("a\nUse"), ("\nUser:",))[0]) == "a\nUse"


def test_a_stop_string_across_tokens_is_not_shown() -> None:
    deltas, stopped = stream(encode("Hello there\nUser: what"), ("\nUser:",))
    assert stopped
    assert "".join(deltas) == "Hello there"


def test_white_space_before_the_first_word_is_dropped() -> None:
    deltas, _ = stream(encode(" \n  Hello  there "))
    assert "".join(deltas) == "Hello  there "
