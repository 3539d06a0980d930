"""Cuts a long text into messages: at paragraphs, sentences or words; emoji and code blocks stay whole."""

import re

import regex

_FENCE_LINE = re.compile(r"^[ ]{0,3}```([^\n`]*)$", re.MULTILINE)
_CLOSE = "\n```"
_LONGEST_REOPENED_FENCE = 40

# Where to cut, best first; each pattern matches up to and including what stays with the earlier piece.
_CUTS = (
    re.compile(r"\n[ \t]*\n+"),
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"')\]]*\s+|[。！？][」』”）]*"),
    re.compile(r"\s+|[，、；：]"),
)


def split_text(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` characters that together are `text`; an empty text has none.

    A cut depends only on the text before the limit, so that the pieces of a growing text stay what they were,
    but for the last. A code block that is cut is closed in one piece and opened again in the next.
    """
    pieces: list[str] = []
    opening = ""
    while len(opening) + len(text) > limit:
        cut = _find_cut(text, limit - len(opening) - len(_CLOSE))
        piece, text = opening + text[:cut], text[cut:]
        fence = _open_fence(piece)
        if fence is None:
            opening = ""
        else:
            piece = piece.removesuffix("\n") + _CLOSE
            text, closed = _drop_closing_fence(text)
            opening = "" if closed else f"{fence}\n"
        pieces.append(piece)
    if opening + text:
        pieces.append(opening + text)
    return pieces


def _find_cut(text: str, room: int) -> int:
    window = text[:room]
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(window) if match.end() > room // 2]
        if ends:
            return ends[-1]
    return _whole_character_cut(text, room)


def _whole_character_cut(text: str, room: int) -> int:
    """The last border between two visible characters at or before `room` (UAX #29 grapheme clusters)."""
    start = max(0, room - 64)
    cut = start
    for match in regex.finditer(r"\X", text, pos=start, endpos=room + 64):
        if match.end() > room:
            break
        cut = match.end()
    while cut > start and text[cut - 1 : cut + 1] == "``":
        cut -= 1
    return cut if cut > start else room


def _open_fence(piece: str) -> str | None:
    """The opening line of the code block that `piece` ends in, or None outside one."""
    fence: str | None = None
    for match in _FENCE_LINE.finditer(piece):
        fence = match.group().strip() if fence is None else None
    if fence is not None and len(fence) > _LONGEST_REOPENED_FENCE:
        return "```"
    return fence


def _drop_closing_fence(text: str) -> tuple[str, bool]:
    match = re.match(r"\n?[ ]{0,3}```[ \t]*(?:\n|$)", text)
    return (text[match.end() :], True) if match else (text, False)
