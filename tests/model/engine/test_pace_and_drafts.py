"""The pace of prompts beside streams, and guesses at what follows."""

from model.engine.drafts import MOST, PAUSE, Drafts
from model.engine.pace import Pace


def test_a_prompt_alone_is_computed_in_large_pieces() -> None:
    assert Pace().prompt_tokens(streaming=False) == Pace.MOST


def test_beside_a_stream_a_step_takes_no_longer_than_the_slowdown_allows() -> None:
    pace = Pace()
    for _ in range(30):
        pace.record(writing=1, prompt_tokens=0, seconds=0.05)
        pace.record(writing=1, prompt_tokens=64, seconds=0.05 + 64 * 0.001)
    tokens = pace.prompt_tokens(streaming=True)
    assert 0.05 + tokens * 0.001 <= Pace.SLOWDOWN * 0.05 + 0.001
    assert tokens > 50


def test_however_slow_the_machine_a_prompt_goes_on() -> None:
    pace = Pace()
    for _ in range(30):
        pace.record(writing=1, prompt_tokens=0, seconds=0.01)
        pace.record(writing=1, prompt_tokens=16, seconds=10)
    assert pace.prompt_tokens(streaming=True) == Pace.LEAST


def test_what_stood_there_before_is_guessed_again() -> None:
    assert Drafts().propose([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], most=10) == [4, 5, 6, 7][:MOST]


def test_the_last_place_counts() -> None:
    assert Drafts().propose([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], most=1) == [5]


def test_nothing_is_guessed_where_nothing_fits() -> None:
    drafts = Drafts()
    assert drafts.propose([1, 2, 3, 4, 5], most=4) == []
    assert drafts.propose([1, 2, 3, 1, 2, 3], most=0) == []
    assert drafts.propose([1], most=4) == []


def test_guesses_come_as_the_text_grows() -> None:
    drafts, text = Drafts(), [1, 2, 3, 4]
    assert drafts.propose(text, most=4) == []
    text += [9, 1, 2]
    assert drafts.propose(text, most=4) == []
    text.append(3)
    assert drafts.propose(text, most=2) == [4, 9]


def test_bad_guessing_pauses() -> None:
    drafts, text = Drafts(), [1, 2, 3, 4, 1, 2, 3]
    while drafts.propose(text, most=4):
        drafts.record(proposed=4, taken=0)
    assert [drafts.propose(text, most=4) for _ in range(PAUSE - 1)] == [[]] * (PAUSE - 1)
    assert drafts.propose(text, most=4)
