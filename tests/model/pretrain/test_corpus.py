import json
from pathlib import Path

import pytest

from model.errors import PretrainError
from model.pretrain.corpus import Dialogue, Text, load_corpus, read_documents
from model.request import ChatMessage
from tests.model.pretrain.small_corpora import dialogues, texts, write_lines


def test_json_lines_hold_texts_and_dialogues_with_names(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Hi  there\u200b", "name": "Ann"},
        {"role": "assistant", "content": "Hello, Ann."},
    ]
    path = write_lines(
        tmp_path / "a.jsonl", [{"text": "Once. "}, {"messages": messages, "topic": "greeting"}]
    )
    assert list(read_documents(path)) == [
        Text("Once."),
        Dialogue((ChatMessage("user", "Hi there", "Ann"), ChatMessage("assistant", "Hello, Ann."))),
    ]


def test_a_text_file_is_parted_at_its_separators(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One.\n\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n", encoding="utf-8-sig")
    assert list(read_documents(path)) == [Text("One.\n\nStill one."), Text("Two.")]


def test_a_text_file_without_separators_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(
        "\n\n".join(f"Paragraph {number}. " + "x" * 900 for number in range(10)), encoding="utf-8"
    )
    pieces = list(read_documents(path))
    assert [piece.text.count("Paragraph") for piece in pieces if isinstance(piece, Text)] == [4, 4, 2]


def test_duplicates_are_dropped_and_the_sides_share_nothing(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", dialogues())
    write_lines(tmp_path / "b.jsonl", dialogues()[:7])
    (tmp_path / "notes.md").write_text("not for learning")
    corpus = load_corpus(tmp_path, held_out=0.2)
    assert (corpus.duplicates, corpus.skipped_files) == (7, 1)
    assert len(corpus.train) + len(corpus.held_out) == 80
    assert not set(corpus.train) & set(corpus.held_out)


def test_the_split_does_not_depend_on_files_or_order_and_survives_additions(tmp_path: Path) -> None:
    one = load_corpus(write_lines(tmp_path / "one.jsonl", dialogues()), held_out=0.2)
    two = load_corpus(write_lines(tmp_path / "two.jsonl", dialogues()[::-1]), held_out=0.2)
    more = load_corpus(write_lines(tmp_path / "more.jsonl", dialogues() + texts()), held_out=0.2)
    assert one == two
    assert one.digest != more.digest
    assert set(one.held_out) <= set(more.held_out)


def test_each_kind_of_document_is_represented_on_both_sides(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", dialogues()[:2] + texts()[:2])
    corpus = load_corpus(path, held_out=0.01)
    for side in (corpus.train, corpus.held_out):
        assert {type(document) for document in side} == {Text, Dialogue}


def test_near_duplicates_are_dropped_when_asked_for(tmp_path: Path) -> None:
    story = "Once upon a time a small boat sailed over the wide grey sea to find the island of the lost cats"
    path = write_lines(
        tmp_path / "a.jsonl",
        [{"text": f"{story}{end}"} for end in (".", "!", " again.")]
        + [{"text": "Something else altogether."}],
    )
    assert load_corpus(path, held_out=0.1).near_duplicates == 0
    assert load_corpus(path, held_out=0.1, near_duplicates=0.8).near_duplicates == 2


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"", "is empty"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.txt", b"One line only.\n", "too small: 1 document"),
        ("a.txt", "grün".encode("latin-1"), "not UTF-8: byte 0xfc at position 2"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt", b"\x7fELF\x00\x01", "not text: it holds a zero byte at position 4"),
        ("a.pdf", b"%PDF", "is a .txt or .jsonl file or a folder of them"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2: not JSON"),
        ("a.jsonl", b"[1]", "line 1: a line is"),
        ("a.jsonl", b'{"text": 3}', "line 1: a line is"),
        ("a.jsonl", b'{"messages": [{"role": "bot", "content": "x"}]}', "the role 'bot' is none of"),
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', "a message is"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": " "}]}', "a message of the user is empty"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "x", "name": 3}]}', "the name 3 is no text"),
        ("a.jsonl", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PretrainError, match=sentence.replace(".", r"\.").replace("[", r"\[")) as caught:
        load_corpus(path, held_out=0.1)
    assert name in str(caught.value)


def test_missing_paths_and_folders_without_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="There is no corpus at"):
        load_corpus(tmp_path / "nowhere", held_out=0.1)
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(PretrainError, match=r"holds no \.txt or \.jsonl file"):
        load_corpus(tmp_path, held_out=0.1)


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a\u2028b"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_documents(path)) == [Text("a\nb")]
