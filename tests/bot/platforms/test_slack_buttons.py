"""Answers with buttons, as Slack's blocks: never more than Slack takes, and nothing in them pings."""

import pytest

from bot.controls import Controls, read_button
from bot.platforms.slack_buttons import Block, blocks_of
from tests.fakes.slack_blocks import check_blocks

FINISHED = Controls(7, candidates=(3, 4), shown=4)


def texts(blocks: list[Block]) -> list[str]:
    return [block["text"]["text"] for block in blocks if block["type"] == "section"]


def buttons(blocks: list[Block]) -> list[Block]:
    return [button for block in blocks for button in block.get("elements", [])]


def test_without_buttons_there_are_no_blocks() -> None:
    assert blocks_of("hello", "*Ada* asked:\n&gt; hi\n\n", None) == []


def test_while_it_is_being_written_it_can_only_be_stopped() -> None:
    (stop,) = buttons(blocks_of("hel", "", Controls(7, live=True)))
    assert (stop["text"]["text"], stop["style"], stop["action_id"]) == ("Stop", "danger", "parley:stop:7")


def test_afterwards_all_that_work_stand_there_with_ids_that_say_what_they_mean() -> None:
    found = buttons(blocks_of("hello", "", FINISHED))
    assert [button["text"]["text"] for button in found] == [
        "Again",
        "Continue",
        "◀ 2/2",
        "Why?",
        "What I saw",
        "👍",
        "👎",
    ]
    pressed = [read_button(button["action_id"]) for button in found]
    assert [press.name for press in pressed if press] == [
        "regenerate",
        "continue",
        "previous",
        "why",
        "context",
        "up",
        "down",
    ]


@pytest.mark.parametrize(
    "markdown",
    [
        "word " * 700,
        "&" * 3500,
        "<@U1> " * 580,
        "https://a.b " * 290,
        "**b** " * 580,
        "中文**要点**" * 430,
        "```python\n" + "x = 1 < 2 & 3\n" * 240 + "```",
        "# h\n" * 870,
        "\n\n\nhi\n\n\n",
    ],
)
def test_whatever_is_said_slack_takes_its_blocks(markdown: str) -> None:
    blocks = blocks_of(markdown, "*Ada* asked:\n&gt; hi\n\n", FINISHED)
    check_blocks(blocks)
    assert texts(blocks)[0] == "*Ada* asked:\n&gt; hi"
    assert all(block["text"]["verbatim"] for block in blocks if block["type"] == "section")


def test_a_text_is_one_section_where_it_fits_and_code_is_closed_where_it_is_cut() -> None:
    assert texts(blocks_of("one\n\n*two* **three**", "", FINISHED)) == ["one\n\n*two* *three*"]
    cut = texts(blocks_of("```\n" + "a line of code\n" * 230 + "```", "", FINISHED))
    assert len(cut) == 2
    assert all(text.startswith("```\n") and text.endswith("```") for text in cut)


def test_addresses_can_be_pressed_although_slack_does_not_look_for_them() -> None:
    markdown = "See https://a.b/c?d=1&e=2, [this](https://c.d) and `https://e.f`."
    (text,) = texts(blocks_of(markdown, "", FINISHED))
    assert text == "See <https://a.b/c?d=1&amp;e=2>, <https://c.d|this> and `https://e.f`."
