import regex
from hypothesis import given
from hypothesis import strategies as st

from bot.splitting import split_text

PROSE = st.text(alphabet=st.sampled_from("ab 。，\n.!你好👩‍👩‍👧é́"), max_size=400)


def test_a_short_text_is_one_piece_and_an_empty_one_none() -> None:
    assert split_text("hello", 2000) == ["hello"]
    assert split_text("", 2000) == []


@given(PROSE, st.integers(40, 90))
def test_the_pieces_of_prose_joined_are_the_text_and_each_fits(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@given(
    st.lists(st.sampled_from(["word", "two words", "```", "```python", "print(1)", ""]), max_size=60),
    st.integers(50, 80),
)
def test_every_piece_closes_the_code_blocks_it_opens(lines: list[str], limit: int) -> None:
    pieces = split_text("\n".join(lines), limit)
    assert all(len(piece) <= limit for piece in pieces)
    for piece in pieces[:-1]:
        assert sum(line.strip().startswith("```") for line in piece.split("\n")) % 2 == 0


@given(PROSE, PROSE, st.integers(40, 90))
def test_pieces_stay_what_they_were_while_the_text_grows(text: str, more: str, limit: int) -> None:
    before = split_text(text, limit)[:-1]
    assert split_text(text + more, limit)[: len(before)] == before


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


def test_a_cut_code_block_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"print({number})" for number in range(30))
    pieces = split_text(f"Look:\n```python\n{code}\n```\nDone.", 120)
    assert pieces[0].endswith("\n```")
    assert pieces[1].startswith("```python\nprint(")
    assert pieces[-1].endswith("Done.")
    inside = [line for piece in pieces for line in piece.split("\n") if line.startswith("print")]
    assert inside == code.split("\n")


def test_a_block_that_ends_at_the_cut_leaves_no_empty_block_behind() -> None:
    for length in range(20, 80):
        pieces = split_text(f"```\n{'x' * length}\n```\nand then some more words", 60)
        assert not any("```\n```" in piece for piece in pieces)
