"""When Parley talks, and why."""

from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat import Via
from bot.choices.table import QuietHours
from bot.triggers import HARD_BOT_TURNS, SOFT_BOT_TURNS, Habits, Heard, Judgement, Talk, draw, judge

NOON = datetime(2026, 1, 1, 12)
OVERHEARD = Heard("1", "nice weather", via=None, at=NOON)


def heard(**changes: object) -> Heard:
    return replace(OVERHEARD, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("via", ["mention", "reply", "dm", "command"])
@pytest.mark.parametrize("talk", ["called", "threads", "lively"])
def test_whoever_addresses_the_bot_is_answered(via: Via, talk: Talk) -> None:
    assert judge(heard(via=via), Habits(talk=talk)).speak


def test_a_channel_that_is_off_stays_silent_but_for_commands() -> None:
    off = Habits(talk="off", wake=("parley",), chance=1)

    assert judge(heard(via="mention"), off) == Judgement(False, "I am switched off in this channel")
    assert not judge(heard(text="parley?"), off).speak
    assert judge(heard(via="command"), off).speak


def test_what_nobody_said_to_the_bot_is_left_alone() -> None:
    assert judge(OVERHEARD, Habits()) == Judgement(False, "nobody addressed me")


def test_a_thread_is_answered_where_the_bot_takes_part_unless_it_must_be_called() -> None:
    assert judge(heard(via="thread", takes_part=True), Habits()).reason == "I take part in this thread"
    assert not judge(heard(via="thread", takes_part=False), Habits()).speak
    assert not judge(heard(via="thread", takes_part=True), Habits(talk="called")).speak
    assert not judge(heard(via="thread", takes_part=True, for_others=True), Habits()).speak


@pytest.mark.parametrize(
    ("text", "word", "called"),
    [
        ("Parley, are you there?", "parley", True),
        ("ok PARLEY", "parley", True),
        ("we parleyed at length", "parley", False),
        ("unparley parley", "parley", True),
        ("小聊你好", "小聊", True),
        ("hey computer!", "hey computer", True),
    ],
)
def test_a_wake_word_calls_as_a_whole_word(text: str, word: str, called: bool) -> None:
    assert judge(heard(text=text), Habits(wake=(word,))).speak is called


def test_bots_are_ignored_unless_a_place_allows_them() -> None:
    bot = heard(via="mention", from_bot=True)

    assert not judge(bot, Habits()).speak
    assert judge(bot, Habits(answers_bots=True)).speak


def test_a_talk_of_bots_gets_rare_and_then_ends() -> None:
    def answered(turns: int) -> int:
        bots = [heard(message_id=str(n), via="mention", from_bot=True, bot_turns=turns) for n in range(400)]
        return sum(judge(one, Habits(answers_bots=True)).speak for one in bots)

    assert answered(SOFT_BOT_TURNS - 1) == 400
    assert 60 < answered(SOFT_BOT_TURNS) < 140
    assert answered(HARD_BOT_TURNS) == 0


def test_lively_talks_with_its_chance_and_says_the_numbers() -> None:
    lively = Habits(talk="lively", chance=0.2)
    said = [judge(heard(message_id=str(n)), lively) for n in range(1000)]

    assert 150 < sum(one.speak for one in said) < 250
    assert all(one.unasked for one in said if one.speak)
    assert "the chance 0.200" in said[0].reason


def test_after_talking_unasked_the_chance_begins_at_nothing_and_recovers() -> None:
    lively = Habits(talk="lively", chance=1)

    assert not judge(heard(unasked_at=(NOON,)), lively).speak
    assert judge(heard(unasked_at=(NOON - timedelta(minutes=11),)), lively).speak


def test_unasked_talk_has_a_cap_and_quiet_hours() -> None:
    lively = Habits(talk="lively", chance=1, most_unasked=2)
    twice = (NOON - timedelta(minutes=40), NOON - timedelta(minutes=30))

    assert judge(heard(unasked_at=twice), lively).reason == "I talked unasked 2 times in the last hour"
    quiet = replace(lively, quiet=QuietHours(time(11), time(13)))
    assert judge(OVERHEARD, quiet).reason == "these are quiet hours"
    assert judge(heard(via="mention"), quiet).speak


@given(st.text(max_size=30))
def test_the_die_of_a_message_is_always_the_same(message_id: str) -> None:
    assert 0 <= draw(message_id) < 1
    assert draw(message_id) == draw(message_id)
