"""The pieces of a text together are the text, each can be read alone, and none changes while the text grows."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from bot.splitting import split_text

PROSE = st.text(alphabet=st.sampled_from("ab 。，\n.!你好👩‍👩‍👧é́"), max_size=400)
LINES = [
    *("word", "two words", "A sentence. Another one!", "你好，世界。", "👩‍👩‍👧 é́", "x" * 70, "", ""),
    *("# Heading", "- item", "1. first. Second", "  goes on", "> quoted", "~", "`"),
    *("```", "```python", "    ```", "~~~", "~~~text", "````", "print(1)", "    indented"),
    *("| a | b |", "|---|---|", "| 1 | 2 |", "c | d", "--|--"),
]
MARKDOWN = st.lists(st.sampled_from(LINES), max_size=60).map("\n".join)
LIMITS = st.integers(40, 120)
OPENING_FENCE = re.compile(r"[ \t]*(?:(?:[-*+]|\d+\.)[ \t]+)?(`{3,}(?!.*`)|~{3,})")


def joined(pieces: list[str], text: str) -> str:
    """The pieces without what cutting added: closed and opened fences, repeated headers of tables.

    `text` tells a line end from a fence that was put in its place. Whatever was added must stand in `text` before.
    """
    ways = {""}
    for piece in pieces:
        ways = {longer for there in ways for longer in _go_on(there, piece, text)}
        assert ways, f"{piece!r} does not go on after what came before"
    return max(ways, key=len)


def _go_on(there: str, piece: str, text: str) -> Iterator[str]:
    lines, rest = piece.split("\n"), text[len(there) :]
    closed_before = re.match(r"\n?[ \t]*(?:`{3,}|~{3,})[ \t]*(?:\n|\Z)", rest)
    for repeated in (0, 1, 2):
        opening = "".join(f"{line}\n" for line in lines[:repeated])
        if repeated and not _stands(opening, there):
            continue
        body = piece.removeprefix(opening)
        closed = re.fullmatch(r"(.*?)\n(?:`{3,9}|~{3,9})", body, re.DOTALL)
        for skipped in ("", "\n", closed_before.group() if closed_before else ""):
            for whole in (body, closed[1] if closed else body):
                if text.startswith(there + skipped + whole):
                    yield there + skipped + whole


def _stands(opening: str, there: str) -> bool:
    """Whether the lines of `opening` stand in `there` next to each other, but for indents and list marks."""
    before = [re.sub(r"^[ \t]*(?:(?:[-*+]|\d+\.)[ \t]+)?", "", line).rstrip() for line in there.split("\n")]
    wanted = [line.strip() for line in opening.split("\n")[:-1]]
    shortened = [re.sub(r"[^`~].*", "", line) for line in before]
    return any(
        lines[start : start + len(wanted)] == wanted
        for lines in (before, shortened, [line.strip() for line in there.split("\n")])
        for start in range(len(lines))
    )


def test_a_short_text_is_one_piece_and_an_empty_one_none() -> None:
    assert split_text("hello", 2000) == ["hello"]
    assert split_text("", 2000) == []


@given(PROSE, LIMITS)
def test_the_pieces_of_prose_joined_are_the_text_and_each_fits(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@given(MARKDOWN, LIMITS)
def test_the_pieces_of_markdown_joined_are_the_text_and_each_fits(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    there = joined(pieces, text)
    assert re.fullmatch(r"\n?[ \t]*(?:`*|~*)[ \t]*\n?", text[len(there) :])  # a fence that was closed before


@given(MARKDOWN | PROSE, MARKDOWN | PROSE, LIMITS)
def test_pieces_stay_what_they_were_while_the_text_grows(text: str, more: str, limit: int) -> None:
    before = split_text(text, limit)[:-1]
    assert split_text(text + more, limit)[: len(before)] == before


@given(MARKDOWN, LIMITS)
def test_every_piece_closes_the_code_blocks_it_opens(text: str, limit: int) -> None:
    for piece in split_text(text, limit)[:-1]:
        assert open_fence(piece) == ""


def open_fence(piece: str) -> str:
    """The fence that is open at the end, as CommonMark reads it (but for deep indents, which chats don't know)."""
    fence = ""
    for line in piece.split("\n"):
        words = line.strip()
        if fence and words.startswith(fence) and not words.strip(fence[0]):
            fence = ""
        elif not fence and (opened := OPENING_FENCE.match(line)):
            fence = opened[1]
    return fence


@given(MARKDOWN | PROSE, LIMITS)
def test_visible_characters_are_never_cut(text: str, limit: int) -> None:
    whole = set(regex.findall(r"\X", text)) | {"`", "~"} | set(regex.findall(r"\X", "python|text\n"))
    for piece in split_text(text, limit):
        assert set(regex.findall(r"\X", piece)) <= whole


def test_words_are_kept_whole() -> None:
    text = " ".join(f"word{number}" for number in range(500))
    assert all(piece.strip().split()[0].startswith("word") for piece in split_text(text, 200))
    assert [word for piece in split_text(text, 200) for word in piece.split()] == text.split()


def test_paragraphs_are_preferred_over_sentences() -> None:
    first = split_text("A sentence here. Another one.\n\nSecond paragraph goes on.", 45)[0]
    assert first.endswith("\n\n")


def test_an_emoji_of_several_code_points_is_never_cut() -> None:
    family = "👨‍👩‍👧‍👦"
    for piece in split_text(family * 60, 100):
        assert set(regex.findall(r"\X", piece)) == {family}


# Code.


@pytest.mark.parametrize(
    ("opening", "again", "closing"),
    [
        ("```python", "```python", "```"),
        ("~~~python", "~~~python", "~~~"),
        ("````md", "````md", "````"),
        ("    ```python", "```python", "```"),
        ("- ```python", "```python", "```"),
        (f"```{'x' * 60}", "```", "```"),
    ],
)
def test_a_cut_code_block_is_closed_and_opened_again_with_its_language(
    opening: str, again: str, closing: str
) -> None:
    code = "\n".join(f"print({number})" for number in range(30))
    pieces = split_text(f"{opening}\n{code}\n{closing}\nDone.", 120)
    assert pieces[0].startswith(f"{opening}\nprint(0)\n")
    assert all(piece.endswith(f"\n{closing}") for piece in pieces[:-1])
    assert all(piece.startswith(f"{again}\nprint(") for piece in pieces[1:])
    assert pieces[-1].endswith("Done.")
    inside = [line for piece in pieces for line in piece.split("\n") if line.startswith("print")]
    assert inside == code.split("\n")


def test_a_fence_of_another_kind_inside_a_block_is_code() -> None:
    code = "\n".join(["```python", "x = 1", "```"] * 10)
    pieces = split_text(f"~~~~\n{code}\n~~~~\nDone.", 60)
    assert all(piece.startswith("~~~~\n") and "\n~~~~" in piece for piece in pieces[:-1])


def test_a_cut_goes_before_a_code_block_rather_than_through_it() -> None:
    code = "\n".join(["x = 1"] * 8)
    first, second = split_text(f"{'Some words. ' * 5}\n```\n{code}\n```", 100)
    assert "```" not in first
    assert second == f"```\n{code}\n```"


def test_a_block_that_ends_at_the_cut_leaves_no_empty_block_behind() -> None:
    for length in range(20, 80):
        pieces = split_text(f"```\n{'x' * length}\n```\nand then some more words", 60)
        assert not any("```\n```" in piece for piece in pieces)


def test_a_comment_in_code_is_no_heading() -> None:
    code = "\n".join(f"# comment {number}" for number in range(20))
    assert len(split_text(f"```\n{code}\n```", 100)) == 3


# Tables.


HEADER = "| name | count |\n|---|---:|\n"


def test_a_table_that_must_be_cut_gets_its_header_again() -> None:
    rows = [f"| row {number} | {number} |" for number in range(40)]
    pieces = split_text(f"{HEADER}{chr(10).join(rows)}\n\nDone.", 120)
    assert all(piece.startswith(HEADER) for piece in pieces[:-1])
    assert [line for piece in pieces for line in piece.split("\n") if line.startswith("| row")] == rows
    assert joined(pieces, f"{HEADER}{chr(10).join(rows)}\n\nDone.").endswith("Done.")


def test_a_table_that_fits_in_the_next_piece_is_not_cut() -> None:
    table = HEADER + "\n".join(f"| row {number} | {number} |" for number in range(4))
    first, second = split_text(f"{'Some words. ' * 6}\n{table}", 110)
    assert "|" not in first
    assert second == table


def test_what_follows_a_table_has_no_header() -> None:
    for length in range(30, 100):
        pieces = split_text(f"{HEADER}| {'x' * length} | 1 |\n\n{'More words. ' * 20}", 140)
        assert not any("|---|" in piece and "| 1 |" not in piece for piece in pieces[1:])


def test_a_header_stays_with_its_table() -> None:
    for length in range(20, 120):
        pieces = split_text(f"{'x' * length}\n{HEADER}| a | 1 |\n| b | 2 |\n", 130)
        assert all(piece.count("| name") == piece.count("|---|") for piece in pieces)


def test_a_header_too_long_to_repeat_is_not_repeated() -> None:
    header = f"| {'x' * 40} | y |\n|---|---|\n"
    rows = "\n".join(f"| row {number} | {number} |" for number in range(20))
    assert sum("|---|" in piece for piece in split_text(header + rows, 120)) == 1


# Lists and headings.


def test_a_cut_goes_between_two_items_of_a_list() -> None:
    item = "- a first line of it\n  a second line\n\n  and a paragraph\n"
    for limit in range(70, 140):
        assert all(piece.startswith("- a first") for piece in split_text(item * 10, limit))


def test_the_number_of_an_item_stays_with_its_words() -> None:
    text = "\n".join(f"{number}. {'some words ' * 5}" for number in range(1, 12))
    for limit in range(60, 120):
        assert not any(re.search(r"\d\.\s*\Z", piece) for piece in split_text(text, limit))


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_a_heading_stays_with_what_follows(between: str) -> None:
    text = "".join(f"## Heading {number}{between}Some words of text.\n\n" for number in range(20))
    for limit in range(80, 160):
        for piece, following in pairwise(split_text(text, limit)):
            assert not piece.strip().split("\n")[-1].startswith("##")
            assert following.startswith("##")


# A long reply.


def paragraph(number: int) -> str:
    return f"Paragraph {number} says something, and then more of it. It has a second sentence, too.\n\n"


def listing(number: int) -> str:
    code = "\n".join(f"    total_{number} += {line}  # as many as there are" for line in range(60))
    return f"```python\ndef block_{number}():\n{code}\n```\n\n"


@pytest.mark.parametrize("part", [paragraph, listing, lambda number: paragraph(number) + listing(number)])
def test_a_reply_of_30000_characters_arrives_whole_and_in_order(part: Callable[[int], str]) -> None:
    text = "".join(part(number) for number in range(400))[:30_000]
    pieces = split_text(text, 1900)
    assert joined(pieces, text) == text
    assert len(pieces) < 30
    assert all(len(piece) <= 1900 for piece in pieces)
    assert all(len(piece) > 950 for piece in pieces[:-1])
    assert all(open_fence(piece) == "" for piece in pieces[:-1])


def test_a_reply_that_grows_letter_by_letter_never_changes_a_piece_that_is_full() -> None:
    text = "".join(paragraph(number) + listing(number) for number in range(2))
    full: list[str] = []
    for length in range(0, len(text), 3):
        pieces = split_text(text[:length], 600)
        assert pieces[: len(full)] == full or len(pieces) <= len(full)
        full = pieces[:-1]
