import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.pretrain.normalise import normalise


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ＡＢＣ１２３", "ABC123"),
        ("ﾊﾛｰ ﾊﾞｽ", "ハロー バス"),
        ("ﬁne", "fine"),
        ("𝓱𝓮𝓵𝓵𝓸", "hello"),
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a\x00b\x1bc\u200bd\ufeff", "abcd"),
        ("one  two \t three   \nfour", "one two three\nfour"),
        ("a\n\n\n\n\nb", "a\n\nb"),
    ],
)
def test_variants_of_writing_become_one(written: str, normal: str) -> None:
    assert normalise(written) == normal


@pytest.mark.parametrize(
    "text",
    ["你好，世界！（真的？）……“好”：①", "x² + ½ = 25 ℃", "if x:\n    return 1", "👩‍👩‍👧 می‌خواهم", "a b\n\nc"],
)
def test_what_would_change_the_meaning_or_the_look_stays(text: str) -> None:
    assert normalise(text) == text


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
