"""The words of a PDF (by pypdf) and of a Word document (by python-docx). Blocks, and raises what hostile files make the
libraries raise: it runs in a process of its own."""

import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from bot.attachments.values import MOST_CHARACTERS, MOST_PAGES, Note

MOST_UNPACKED = 64 * 2**20
"""Bytes of a Word document's parts together; its text is a small part of them."""
MOST_PARTS = 4000


class Unreadable(Exception):
    """There is nothing of the file. Carries the note for a person."""

    def __init__(self, english: str, chinese: str) -> None:
        super().__init__(english)
        self.note = Note(english, chinese)


def read_pdf(name: str, data: bytes) -> tuple[str, list[Note]]:
    """The text of the first pages, as many as the limits let through."""
    from pypdf import PdfReader

    reader = PdfReader(BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise locked(name)
    pages: list[str] = []
    length = 0
    for page in reader.pages[:MOST_PAGES]:
        pages.append(page.extract_text().strip())
        length += len(pages[-1])
        if length > MOST_CHARACTERS:
            break
    notes = []
    empty = [number for number, text in enumerate(pages, 1) if not text]
    if len(empty) == len(pages):
        raise Unreadable(
            f"{name} holds no text; its pages may be pictures", f"{name} 中没有文字，各页可能是图片"
        )
    if empty:
        english, chinese = _pages(empty)
        notes.append(Note(f"{name}: no text on {english}", f"{name}：{chinese}上没有文字"))
    left_out = range(len(pages) + 1, len(reader.pages) + 1)
    if left_out:
        english, chinese = _pages(left_out)
        were = "was" if len(left_out) == 1 else "were"
        notes.append(Note(f"{name}: {english} {were} left out", f"{name}：{chinese}没有读"))
    return "\n\n".join(filter(None, pages)), notes


def read_docx(name: str, data: bytes) -> tuple[str, list[Note]]:
    """The text of the body, with its tables, text boxes and inserted words; without what was struck out."""
    with zipfile.ZipFile(BytesIO(data)) as parts:
        unpacked = sum(part.file_size for part in parts.infolist())
        if unpacked > MOST_UNPACKED or len(parts.infolist()) > MOST_PARTS:
            raise Unreadable(
                f"{name} unpacks to {unpacked / 2**20:,.0f} MB, which is too much to read",
                f"{name} 解压后有 {unpacked / 2**20:,.0f} MB，太大了",
            )
    from docx import Document

    body = Document(BytesIO(data)).element.body
    text = "\n".join(_blocks(body))
    notes = []
    if pictures := _count(body, "blip"):
        notes.append(
            Note(
                f"{name}: {pictures} picture{'s' * (pictures > 1)} left out",
                f"{name}：有 {pictures} 张图片没有读",
            )
        )
    if _count(body, "footnoteReference") + _count(body, "endnoteReference"):
        notes.append(Note(f"{name}: the footnotes were left out", f"{name}：脚注没有读"))
    return text, notes


def locked(name: str) -> Unreadable:
    return Unreadable(f"{name} is locked with a password", f"{name} 有密码保护，打不开")


def _blocks(element: Any) -> Iterator[str]:
    """Paragraphs, and the rows of tables, wherever they are wrapped."""
    for child in element:
        match _kind(child):
            case "p":
                yield "".join(_pieces(child))
            case "tr":
                cells = (" ".join(_blocks(cell)) for cell in child if _kind(cell) in ("tc", "sdt"))
                yield " | ".join(cells)
            case "del" | "moveFrom" | "Fallback":
                pass
            case _:
                yield from _blocks(child)


def _pieces(paragraph: Any) -> Iterator[str]:
    for child in paragraph:
        match _kind(child):
            case "t":
                yield child.text or ""
            case "tab":
                yield "\t"
            case "br" | "cr":
                yield "\n"
            case "noBreakHyphen":
                yield "-"
            case "p" | "tbl":  # in a text box
                yield "\n"
                yield from _pieces(child)
            case "del" | "moveFrom" | "Fallback" | "pPr" | "rPr":
                pass
            case _:
                yield from _pieces(child)


def _kind(element: Any) -> str:
    """The name without its namespace, of which there are two; comments have none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _count(body: Any, kind: str) -> int:
    return sum(_kind(element) == kind for element in body.iter())


def _pages(numbers: Iterable[int]) -> tuple[str, str]:
    """Such as "pages 1, 3 to 5", in English and in Chinese; at most ten runs of them."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    english = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:10]]
    chinese = [str(first) if first == last else f"{first} 至 {last}" for first, last in runs[:10]]
    more = len(runs) > 10
    one = len(runs) == 1 and runs[0][0] == runs[0][1]
    return (
        f"{'page' if one else 'pages'} {', '.join(english)}{' and others' * more}",
        f"第 {'、'.join(chinese)} {'等' * more}页",
    )
