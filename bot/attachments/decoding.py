"""From bytes to text: which encoding a file is in, and whether it is text at all."""

import codecs
import re

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,32}[A-Za-z]")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SAMPLE = 20_000
"""Characters that are looked at to tell what a file is."""


def decode(data: bytes) -> tuple[str, int] | None:
    """The text, and how many of its characters were unreadable; None for what is not text.

    UTF-8, UTF-16 and UTF-32 with their marks, GB18030, and last Western European, which takes any byte for a letter.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _plain(_try(data, encoding))
    if b"\0" in data:
        return None
    for attempt in (_try(data, "utf-8"), _nearly_utf8(data), _chinese(data), _western(data)):
        if attempt is not None:
            return _plain(attempt)
    return None


def clean(text: str) -> str:
    """Lines end with \\n; there is nothing that a database or a tokenizer would refuse, nor a terminal's colours."""
    lines = re.sub(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", _ANSI.sub("", text))
    return _NOT_TEXT.sub("", lines)


def _plain(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    sample = _ANSI.sub("", text[:_SAMPLE])
    strange = sum(not (char.isprintable() or char.isspace()) for char in sample)
    if strange * 20 > len(sample):
        return None
    return clean(text).replace("\ufffd", ""), text.count("\ufffd")


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _nearly_utf8(data: bytes) -> str | None:
    """A log has a broken character here and there, and is UTF-8 all the same where ten are whole for each of them."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = sum(char > "\x7f" for char in text) - broken
    return text if whole >= 10 * broken else None


def _chinese(data: bytes) -> str | None:
    """GB18030 takes much Western text, too, and makes rare characters of it: most must be everyday ones."""
    text = _try(data, "gb18030")
    if text is None:
        return None
    letters = [char for char in text if char > "\x7f"][:_SAMPLE]
    everyday = sum(map(_is_everyday, letters))
    return text if everyday * 10 >= 7 * len(letters) else None


def _is_everyday(char: str) -> bool:
    """Whether it is among GB 2312's signs or its 3,755 most used characters: rows 1 to 55."""
    try:
        return char.encode("gb2312")[0] <= 0xD7
    except UnicodeEncodeError:
        return False


def _western(data: bytes) -> str | None:
    """Windows-1252 where it can be, else Latin-1. Where every third byte is a special letter, it is neither."""
    if sum(byte > 0x7F for byte in data) * 3 > len(data):
        return None
    return _try(data, "cp1252") or data.decode("latin-1")
