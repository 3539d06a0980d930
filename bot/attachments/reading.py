"""What is in a file: its text, within the limits, and notes on what was left out. Blocks; `child.py` runs it apart."""

import re
from pathlib import PurePosixPath

from bot.attachments.decoding import clean, decode
from bot.attachments.documents import Unreadable, locked, read_docx, read_pdf
from bot.attachments.values import MOST_CHARACTERS, AttachmentText, Note, safe_name

_LOG = re.compile(
    r"(?:\A|[._ -])(?:logs?|out|err|stdout|stderr|trace(?:back)?)[\d._-]*(?:\.te?xt)?\Z", re.IGNORECASE
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Office before 2007, and what it locks since."""
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_CODE = {".ts", ".mts", ".cts"}
"""TypeScript, which bears the suffix of a kind of film."""


def read_attachment(name: str, media_type: str, data: bytes) -> AttachmentText:
    """Never raises: a note says why something cannot be read. The bytes tell what it is; `media_type` only words it."""
    name = safe_name(name)
    try:
        text, notes = _read(name, media_type, data)
    except Unreadable as refusal:
        return AttachmentText(name, notes=(refusal.note,))
    except MemoryError:
        note = Note(f"{name} takes too much memory to read", f"{name} 太占内存，读不了")
        return AttachmentText(name, notes=(note,))
    except Exception as error:  # whatever a library says of a broken file
        if type(error).__name__ in ("DependencyError", "FileNotDecryptedError"):  # of pypdf
            return AttachmentText(name, notes=(locked(name).note,))
        return AttachmentText(name, notes=(Note(f"{name} is damaged", f"{name} 已损坏，读不了"),))
    text = clean(text).strip("\n")
    if not text.strip():
        return AttachmentText(name, notes=(*notes, Note(f"{name} is empty", f"{name} 是空的")))
    if _LOG.search(name):
        return AttachmentText(name, text[-MOST_CHARACTERS:], tuple(notes), len(text), "end")
    return AttachmentText(name, text[:MOST_CHARACTERS], tuple(notes), len(text))


def find_refusal(name: str, media_type: str) -> Note | None:
    """Why a file of this kind need not even be fetched."""
    name = safe_name(name)
    main = media_type.partition("/")[0]
    if main not in ("image", "audio", "video") or media_type.startswith("image/svg"):
        return None
    return None if PurePosixPath(name).suffix.lower() in _CODE else _not_text(name, media_type)


def _read(name: str, media_type: str, data: bytes) -> tuple[str, list[Note]]:
    if b"%PDF-" in data[:1024]:
        return read_pdf(name, data)
    if data.startswith(b"PK\x03\x04") and b"word/" in data:
        return read_docx(name, data)
    if data.startswith(_OLE):
        if _ENCRYPTED in data:
            raise locked(name)
        raise Unreadable(
            f"{name} is in a format of old Office versions; .docx and PDF can be read",
            f"{name} 是旧版 Office 格式，请改存为 .docx 或 PDF",
        )
    decoded = decode(data)
    if decoded is None:
        note = _not_text(name, media_type)
        raise Unreadable(note.english, note.chinese)
    text, unreadable = decoded
    if not unreadable:
        return text, []
    left_out = Note(
        f"{name}: {unreadable:,} broken characters were left out",
        f"{name}：有 {unreadable:,} 个损坏的字符没有读",
    )
    return text, [left_out]


def _not_text(name: str, media_type: str) -> Note:
    match media_type.partition("/")[0]:
        case "image":
            return Note(f"{name} is a picture, and pictures cannot be read", f"{name} 是图片，读不了")
        case "audio":
            return Note(f"{name} is a recording, and recordings cannot be heard", f"{name} 是录音，听不了")
        case "video":
            return Note(f"{name} is a film, and films cannot be seen", f"{name} 是视频，看不了")
        case _:
            return Note(f"{name} is not text", f"{name} 不是文本")
