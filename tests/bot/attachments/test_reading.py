"""What is read of a file, and what is said of the rest."""

import codecs
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.attachments.reading import find_refusal, read_attachment
from bot.attachments.values import LONGEST_NAME, MOST_CHARACTERS, AttachmentText, safe_name
from tests.bot.attachments.documents import (
    lock_pdf,
    make_docx,
    make_pdf,
    make_pdf_of,
    part_of,
    with_body,
    with_part,
)

CHINESE = "项目进度说明：本周完成了接口联调，下周开始压力测试。"


def notes_of(read: AttachmentText, *, chinese: bool = False) -> list[str]:
    return [note.say(chinese=chinese) for note in read.notes]


def read_whole(name: str, data: bytes, media_type: str = "") -> str:
    read = read_attachment(name, media_type, data)
    assert notes_of(read) == []
    assert read.total == len(read.text)
    return read.text


# Text.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "gbk"])
def test_chinese_is_read_in_every_encoding_that_chinese_files_have(encoding: str) -> None:
    assert read_whole("notes.txt", f"# Plan\n{CHINESE}".encode(encoding)) == f"# Plan\n{CHINESE}"


def test_utf_16_is_read_by_its_mark_in_both_orders() -> None:
    assert read_whole("a.txt", codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be")) == CHINESE
    assert read_whole("a.txt", codecs.BOM_UTF16_LE + CHINESE.encode("utf-16-le")) == CHINESE


@pytest.mark.parametrize(
    "text",
    [
        "déjà vu, c'est très étonnant",
        "Größe und Müllers Mühe",
        "señor, ¿qué año?",
        "It’s “quoted” – and costs 5 €",
        "café",
    ],
)
def test_western_text_is_not_taken_for_chinese(text: str) -> None:
    assert read_whole("notes.txt", text.encode("cp1252")) == text


def test_a_log_with_a_broken_character_is_read_without_it_and_says_so() -> None:
    data = (CHINESE * 3).encode() + b"\xff\xfe ok\n"
    read = read_attachment("app.log", "text/plain", data)
    assert read.text == CHINESE * 3 + " ok"
    assert notes_of(read) == ["app.log: 2 broken characters were left out"]


def test_colours_and_control_characters_of_a_terminal_go_and_lines_end_alike() -> None:
    assert read_whole("build.log", b"\x1b[31merror\x1b[0m: no\r\nsecond\rthird\x07\x0cfourth\n") == (
        "error: no\nsecond\nthird\nfourth"
    )


@pytest.mark.parametrize("name", ["main.py", "README.md", "data.json", "noext", "page.html", "icon.svg"])
def test_code_and_markup_are_text_whatever_they_are_called(name: str) -> None:
    assert read_whole(name, b"<b>x = 1</b>\n", "application/octet-stream") == "<b>x = 1</b>"


def test_a_program_or_an_archive_is_not_text() -> None:
    for data in (b"\x7fELF\x02\x01\x01\0\0\0", b"\x1f\x8b\x08" + bytes(range(1, 256)), bytes([1, 2, 3] * 50)):
        read = read_attachment("data.bin", "application/octet-stream", data)
        assert (read.text, notes_of(read)) == ("", ["data.bin is not text"])
        assert notes_of(read, chinese=True) == ["data.bin 不是文本"]


def test_a_text_in_an_encoding_that_is_not_known_is_not_guessed_at() -> None:
    russian = "Сегодня хорошая погода, и все довольны".encode("cp1251")
    assert notes_of(read_attachment("a.txt", "text/plain", russian)) == ["a.txt is not text"]


@pytest.mark.parametrize(
    ("name", "media_type", "said"),
    [
        ("photo.png", "image/png", "photo.png is a picture, and pictures cannot be read"),
        ("voice.ogg", "audio/ogg", "voice.ogg is a recording, and recordings cannot be heard"),
        ("party.mp4", "video/mp4", "party.mp4 is a film, and films cannot be seen"),
    ],
)
def test_pictures_recordings_and_films_are_called_so_with_and_without_fetching_them(
    name: str, media_type: str, said: str
) -> None:
    refusal = find_refusal(name, media_type)
    assert refusal is not None
    assert refusal.english == said
    assert notes_of(read_attachment(name, media_type, b"\0\1\2\3" * 40)) == [said]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("main.ts", "video/mp2t"), ("icon.svg", "image/svg+xml"), ("a.md", ""), ("a.md", "text")],
)
def test_text_that_is_announced_as_something_else_is_fetched(name: str, media_type: str) -> None:
    assert find_refusal(name, media_type) is None


def test_an_empty_file_is_called_empty() -> None:
    for data in (b"", b" \n\r\n", codecs.BOM_UTF8, make_docx()):
        assert notes_of(read_attachment("a.txt", "text/plain", data)) == ["a.txt is empty"]


def test_a_document_keeps_its_begin_and_a_log_its_end() -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    document = read_attachment("book.md", "text/markdown", text.encode())
    log = read_attachment("book.log", "text/plain", text.encode())
    assert document.total == log.total == len(text.rstrip())
    assert document.text == text[:MOST_CHARACTERS]
    assert log.text == text.rstrip()[-MOST_CHARACTERS:]


@pytest.mark.parametrize(
    ("name", "keep"),
    [
        ("app.log", "end"),
        ("app.log.1", "end"),
        ("latest.log.txt", "end"),
        ("console-log.txt", "end"),
        ("build_2026.out", "end"),
        ("log", "end"),
        ("catalog.txt", "begin"),
        ("blog.md", "begin"),
        ("login.py", "begin"),
        ("changelog.md", "begin"),
    ],
)
def test_a_log_is_known_by_its_name(name: str, keep: str) -> None:
    assert read_attachment(name, "text/plain", b"words").keep == keep


# PDF.


def test_the_pages_of_a_pdf_are_read_in_order() -> None:
    assert read_whole("report.pdf", make_pdf("First page", "Second page")) == "First page\n\nSecond page"


def test_a_pdf_is_known_by_its_bytes_and_not_by_its_name() -> None:
    assert read_whole("report.txt", make_pdf("Words"), "text/plain") == "Words"


def test_pages_after_the_fiftieth_are_left_out_and_named() -> None:
    read = read_attachment("report.pdf", "application/pdf", make_pdf(*[f"Page {n}" for n in range(1, 121)]))
    assert read.text.endswith("Page 50")
    assert notes_of(read) == ["report.pdf: pages 51 to 120 were left out"]
    assert notes_of(read, chinese=True) == ["report.pdf：第 51 至 120 页没有读"]


def test_pages_after_the_last_character_that_is_kept_are_left_out_and_named() -> None:
    read = read_attachment("report.pdf", "application/pdf", make_pdf(*["word " * 8000] * 4))
    assert len(read.text) == MOST_CHARACTERS
    assert notes_of(read) == ["report.pdf: pages 3 to 4 were left out"]


def test_a_scanned_pdf_holds_no_text_and_single_scanned_pages_are_named() -> None:
    scan = read_attachment("scan.pdf", "application/pdf", make_pdf_of([b"q Q", b"q Q"]))
    assert notes_of(scan) == ["scan.pdf holds no text; its pages may be pictures"]
    mixed = read_attachment("mixed.pdf", "application/pdf", make_pdf("One", "", "", "Four", ""))
    assert mixed.text == "One\n\nFour"
    assert notes_of(mixed) == ["mixed.pdf: no text on pages 2 to 3, 5"]


def test_a_locked_pdf_is_called_locked_and_one_with_an_empty_password_is_read() -> None:
    locked = read_attachment("secret.pdf", "application/pdf", lock_pdf(make_pdf("Words"), "sesame"))
    assert (locked.text, notes_of(locked)) == ("", ["secret.pdf is locked with a password"])
    assert read_whole("open.pdf", lock_pdf(make_pdf("Words"), "")) == "Words"


def test_a_broken_pdf_is_called_damaged() -> None:
    for data in (b"%PDF-1.7\n", b"%PDF-1.4\ntrailer << /Root 9 0 R >>\nstartxref\n99999\n%%EOF"):
        assert notes_of(read_attachment("a.pdf", "application/pdf", data)) == ["a.pdf is damaged"]


def test_a_pdf_whose_pages_lead_back_to_themselves_ends() -> None:
    data = make_pdf("Words").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
    assert notes_of(read_attachment("loop.pdf", "application/pdf", data))


# Word.


def test_the_paragraphs_and_tables_of_a_word_document_are_read() -> None:
    data = make_docx("Title", CHINESE, table=[["name", "age"], ["Ada", "36"]])
    assert read_whole("a.docx", data) == f"Title\n{CHINESE}\nname | age\nAda | 36"


def test_inserted_words_text_boxes_and_form_fields_are_read_and_struck_out_ones_are_not() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = (
        f"<w:p>{run.format('kept ')}<w:ins>{run.format('added')}</w:ins>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        f"<w:sdt><w:sdtContent><w:p>{run.format('a field')}</w:p></w:sdtContent></w:sdt>"
        f"<w:p><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:txbxContent><w:p>{run.format('boxed')}</w:p>"
        f"</w:txbxContent></mc:Choice><mc:Fallback><w:p>{run.format('boxed')}</w:p></mc:Fallback>"
        "</mc:AlternateContent></w:r></w:p>"
    )
    assert read_whole("a.docx", with_body(make_docx(), body)) == "kept added\na field\n\nboxed"


def test_pictures_and_footnotes_of_a_word_document_are_named_as_left_out() -> None:
    body = "<w:p><w:r><w:t>words</w:t><a:blip/><a:blip/><w:footnoteReference/></w:r></w:p>"
    read = read_attachment("a.docx", "", with_body(make_docx(), body))
    assert (read.text, notes_of(read)) == (
        "words",
        ["a.docx: 2 pictures left out", "a.docx: the footnotes were left out"],
    )


def test_a_word_document_that_unpacks_to_very_much_is_not_unpacked() -> None:
    bomb = with_part(make_docx("words"), "word/media/image1.png", b"\0" * (65 * 2**20))
    assert len(bomb) < 200_000
    assert notes_of(read_attachment("bomb.docx", "", bomb)) == [
        "bomb.docx unpacks to 66 MB, which is too much to read"
    ]


def test_entities_of_a_word_document_neither_grow_nor_reach_for_files() -> None:
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    for entities, used in (
        (f'<!ENTITY e0 "ha">{grown}', "&e11;"),
        ('<!ENTITY x SYSTEM "file:///etc/passwd">', "&x;"),
    ):
        body = with_body(make_docx(), f"<w:p><w:r><w:t>{used}</w:t></w:r></w:p>")
        xml = f"<!DOCTYPE w [{entities}]>".encode() + part_of(body, "word/document.xml")
        read = read_attachment("bomb.docx", "", with_part(body, "word/document.xml", xml))
        assert len(read.text) < 100
        assert "root" not in read.text


def test_a_locked_or_old_office_file_is_called_so() -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    assert notes_of(read_attachment("old.doc", "", ole)) == [
        "old.doc is in a format of old Office versions; .docx and PDF can be read"
    ]
    locked = ole + "EncryptedPackage".encode("utf-16-le")
    assert notes_of(read_attachment("a.docx", "", locked)) == ["a.docx is locked with a password"]


def test_an_archive_that_only_looks_like_a_word_document_is_called_damaged() -> None:
    data = make_docx("words")
    for broken in (data[: len(data) // 2], with_part(data, "[Content_Types].xml", "<no/>")):
        assert notes_of(read_attachment("a.docx", "", broken)) == ["a.docx is damaged"]


# Whatever comes.


GOOD = st.sampled_from(
    [make_pdf("Some words", "and more"), make_docx("words", table=[["a"]]), CHINESE.encode("utf-16")]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with a few bytes changed, and an end missing."""
    data = bytearray(draw(GOOD))
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(len(data) // 2, len(data)))])


STARTS = st.sampled_from([b"", b"%PDF-1.7\n", b"PK\x03\x04word/", codecs.BOM_UTF16_LE, codecs.BOM_UTF8])


@given(name=st.text(max_size=80), data=st.builds(bytes.__add__, STARTS, st.binary(max_size=400)) | damaged())
def test_any_bytes_give_text_or_a_note_and_never_an_error(name: str, data: bytes) -> None:
    read = read_attachment(name, "", data)
    assert read.text or read.notes
    assert "\0" not in read.text
    assert read.text.encode().decode() == read.text
    assert all(len(note.splitlines()) == 1 for note in notes_of(read))


@given(st.text(max_size=2000))
def test_any_utf8_text_comes_back_but_for_its_controls(text: str) -> None:
    read = read_attachment("a.md", "", text.encode("utf-8", "replace"))
    again = read_attachment("a.md", "", read.text.encode())
    if read.text:
        assert again == replace(read, notes=())


@given(st.text(max_size=200))
def test_a_safe_name_is_one_short_line_without_brackets(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= LONGEST_NAME
    assert len(safe.splitlines()) == 1
    assert not set(safe) & set("[]［］【】〔〕⟦⟧\0\u202e")
    assert safe_name(safe) == safe


def test_a_long_name_keeps_its_suffix() -> None:
    assert safe_name("a" * 300 + ".pdf").endswith("a….pdf")
