"""Typed commands, as people type them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage
from bot.commands.parse import check_options, names_command, question_of, read_command
from bot.commands.table import BY_NAME, CHINESE, COMMANDS, GROUPS

HERE = ConversationKey("discord", "1", "2")


def said(text: str) -> IncomingMessage:
    return IncomingMessage(HERE, "7", Author("3", "Ada"), text, datetime(2026, 1, 1, tzinfo=UTC), "mention")


def command(text: str) -> CommandCall:
    call = read_command(said(text))
    assert call is not None
    return call


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("!reset", "reset", {}),
        ("  /Reset ", "reset", {}),
        ("!sampling set temperature 0.3", "sampling set", {"setting": "temperature", "value": "0.3"}),
        (
            "!sampling set temperature 0.3 channel",
            "sampling set",
            {"setting": "temperature", "value": "0.3", "whom": "channel"},
        ),
        (
            "!settings set persona You are a pirate, always in this channel",
            "settings set",
            {"setting": "persona", "value": "You are a pirate, always in this", "where": "channel"},
        ),
        (
            "!bundle set tutor persona You teach.",
            "bundle set",
            {"name": "tutor", "setting": "persona", "value": "You teach."},
        ),
        (
            "!access allow Chat @friends of mine",
            "access allow",
            {"need": "chat", "subject": "@friends of mine"},
        ),
    ],
)
def test_a_typed_command_is_read_with_its_options(text: str, name: str, options: dict[str, object]) -> None:
    call = command(text)

    assert (call.name, call.options, call.fault) == (name, options, None)


@pytest.mark.parametrize(
    "text", ["reset", "what does /reset do?", "!wow", "! reset", "/", "!", "", "/123", "a!reset"]
)
def test_what_is_no_command_is_a_question(text: str) -> None:
    assert read_command(said(text)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!sampling", "After sampling comes one of: show, set, preset, save, reset."),
        ("!sampling sett temperature 1", "did you mean sampling set?"),
        ("!sampling set temperature", "sampling set needs value as well: sampling set setting value [whom]"),
        (
            "!access allow everything you",
            "need is one of chat, command, moderate, administer, not 'everything'.",
        ),
        ("!reset now please", "There is more than I understand in 'now please'."),
    ],
)
def test_a_wrong_command_says_what_is_wrong(text: str, words: str) -> None:
    assert words in str(command(text).fault)


def test_a_command_that_asks_the_model_is_its_question() -> None:
    assert read_command(said("!chat what is a bat?")) is None
    assert question_of(said("!chat what is a bat?")) == "what is a bat?"
    assert question_of(said("what is a bat?")) == "what is a bat?"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("reset", True),
        ("Reset ", True),
        ("reset my password", False),
        ("help me with my homework", False),
        ("sampling", True),
        ("sampling set temperature 1", True),
        ("sampling theory, what is it?", False),
        ("chat about cats", True),
        ("what is a bat?", False),
    ],
)
def test_after_a_slash_command_a_line_is_a_command_or_a_question(line: str, command: bool) -> None:
    assert names_command(line) is command


def test_options_that_came_by_name_are_read_too() -> None:
    assert check_options(BY_NAME["sampling set"], {"setting": "top_k", "value": " 3 "}) == {
        "setting": "top_k",
        "value": "3",
    }
    with pytest.raises(ValueError, match="whom is one of me, channel, workspace"):
        check_options(BY_NAME["sampling reset"], {"whom": "mars"})


@given(st.text(max_size=60))
def test_no_text_after_a_mark_makes_the_parser_fail(text: str) -> None:
    for line in (f"!{text}", *(f"/{name} {text}" for name in BY_NAME)):
        call = read_command(said(line))
        assert call is None or call.fault is None or call.fault.strip()


def test_the_table_fits_every_platform() -> None:
    assert len({command.name.split()[0] for command in COMMANDS}) <= 100
    for entry in COMMANDS:
        group = entry.name.split()[0] if " " in entry.name else None
        assert group is None or group in GROUPS
        assert len(entry.about) <= 100
        assert len(entry.options) <= 25
        assert all(word in CHINESE for word in entry.name.split())
        optional = [option.required for option in entry.options]
        assert optional == sorted(optional, reverse=True), f"{entry.name}: what is required comes first"
