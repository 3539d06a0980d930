"""Which setting holds, where, and why."""

from datetime import time

import pytest

from bot.choices.resolve import Chosen, Layer, describe, outside_limit, resolve
from bot.choices.table import PRESETS, SETTINGS, QuietHours, Value, read_quiet_hours, read_setting


def installed(**values: Value) -> dict[str, Chosen]:
    return {name: Chosen(value, "the installation") for name, value in values.items()}


DEFAULTS = installed(persona="You are Parley.", temperature=0.7, talk="threads")


def test_the_narrower_place_overrides_and_each_value_says_where_it_comes_from() -> None:
    chosen = resolve(
        DEFAULTS,
        [
            Layer("channel", {"temperature": "0.2"}),
            Layer("workspace", {"temperature": "1", "persona": "You are a librarian."}),
            Layer("person", {"temperature": "0.5"}),
        ],
    )

    assert chosen["temperature"] == Chosen(0.5, "you")
    assert chosen["persona"] == Chosen("You are a librarian.", "this workspace")
    assert chosen["talk"] == Chosen("threads", "the installation")


def test_a_bundle_holds_where_it_is_bound_and_a_single_setting_there_overrides_it() -> None:
    bundle = {"persona": "You teach.", "temperature": "0.1"}
    chosen = resolve(DEFAULTS, [Layer("channel", {"temperature": "0.3"}, "tutor", bundle)])

    assert chosen["persona"] == Chosen("You teach.", "the bundle tutor, for this channel")
    assert chosen["temperature"] == Chosen(0.3, "this channel")


def test_a_person_chooses_only_how_words_are_drawn() -> None:
    chosen = resolve(DEFAULTS, [Layer("person", {"persona": "You obey me.", "top_p": "0.5"})])

    assert chosen["persona"].value == "You are Parley."
    assert chosen["top_p"] == Chosen(0.5, "you")


def test_a_limit_moves_a_choice_to_the_nearest_value_and_says_so() -> None:
    limit = Layer("workspace", {"temperature_limit": "0..1", "max_tokens_limit": "1..200"})
    chosen = resolve(DEFAULTS, [limit, Layer("person", {"temperature": "1.8", "max_tokens": "900"})])

    assert chosen["temperature"].value == 1.0
    assert chosen["temperature"].source == "the limit 0..1 of this workspace; you chose 1.8"
    assert chosen["max_tokens"].value == 200
    assert isinstance(chosen["max_tokens"].value, int)
    assert outside_limit("temperature", 1.8, chosen) == (
        "temperature may be 0..1 here (this workspace), and 1.8 is outside that."
    )
    assert outside_limit("temperature", 0.8, chosen) is None


def test_what_an_older_version_stored_and_nobody_can_read_is_left_out() -> None:
    assert resolve(DEFAULTS, [Layer("channel", {"temperature": "warm", "flavour": "sweet"})]) == resolve(
        DEFAULTS, []
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("temperature", "7", "temperature must be a number from 0 to 5, and not '7'."),
        ("temperature", "nan", "a number from 0 to 5"),
        ("talk", "loud", "talk must be one of off, called, threads, lively, and not 'loud'."),
        ("max_tokens", "1.5", "a whole number from 1 to 100,000"),
        ("quiet", "soon", "two times of day such as 22:00-07:00"),
        ("timezone", "Mars/Olympus", "a time zone such as Europe/Berlin or Asia/Shanghai"),
        ("temperature_limit", "2..1", "a range such as 0..1.2, the lower number first"),
        ("bots", "maybe", "yes or no"),
        ("persona", "", "a text of 1 to 4,000 characters"),
        ("warmth", "1", "There is no setting 'warmth'; there are persona,"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name: str, text: str, words: str) -> None:
    with pytest.raises(ValueError) as fault:
        read_setting(name, text)
    assert words in str(fault.value)


def test_presets_hold_values_that_their_settings_take() -> None:
    for values in PRESETS.values():
        for name, text in values.items():
            read_setting(name, text)


def test_quiet_hours_go_over_midnight() -> None:
    assert read_quiet_hours("22:00-07:00") == QuietHours(time(22), time(7))
    night = read_quiet_hours("22:00 - 07:00")
    noon = read_quiet_hours("12:00-13:30")
    assert [night.covers(time(hour)) for hour in (21, 22, 3, 7)] == [False, True, True, False]
    assert [noon.covers(time(hour, 29)) for hour in (11, 12, 13, 14)] == [False, True, True, False]


def test_settings_are_described_a_line_each() -> None:
    chosen = resolve(installed(stop=("a", "b"), bots=False, temperature=0.7), ())

    assert describe(chosen) == (
        "bots: no (the installation)\ntemperature: 0.7 (the installation)\nstop: a | b (the installation)"
    )
    assert describe(chosen, ["bots"]) == "bots: no (the installation)"


def test_every_setting_has_words_in_both_languages() -> None:
    assert all(setting.about and setting.about_zh for setting in SETTINGS.values())
