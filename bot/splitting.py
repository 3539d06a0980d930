"""Cuts a long text into messages where it hurts least: emoji, code, tables, lists and headings hold together."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import regex

_FENCE = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?((`{3,9})(?!`)[^`]*|(~{3,9})(?!~).*)")
_TABLE_DELIMITER = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_BEGIN_OF_DELIMITER = re.compile(r"[ \t|:-]*")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_HEADING = re.compile(r"[ ]{0,3}#{1,6}[ \t]")
_MARKS = re.compile(r"[ \t]*(?:(?:[-*+>]|\d{1,9}[.)])[ \t]+)*")
_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*[^\S\n]+|[。！？][」』”）]*")
_WORD_END = re.compile(r"[^\S\n]+|[，、；：]")
_SHARE_TO_REPEAT = 1 / 4
"""The longest opening of a block that is repeated, as a share of the limit."""

# How much a cut hurts, best first.
_PARAGRAPH, _LINE, _IN_ITEM, _IN_BLOCK, _IN_CODE, _SENTENCE, _WORD, _EARLY, _WORD_IN_BLOCK = range(9)


@dataclass(frozen=True, slots=True)
class _Block:
    """What goes on at a place of the text."""

    opening: str = ""
    """What a piece that begins here starts with."""
    fence: str = ""
    """What closes the code block."""
    table: bool = False
    item: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    at: int
    text: str
    """Without its end; cut off where `complete` is false."""
    complete: bool
    before: _Block
    after: _Block

    @property
    def blank(self) -> bool:
        return not self.text.strip()

    @property
    def is_code(self) -> bool:
        return bool(self.before.fence or self.after.fence)


class _Cut(NamedTuple):
    at: int
    inside: _Block
    pain: int = 0


def split_text(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` characters (40 or more) that together are `text`; an empty text has none.

    A cut depends only on the text before the limit, so that the pieces of a growing text stay what they were,
    but for the last. A code block that is cut is closed in one piece and opened again in the next; a table that is
    cut begins again with its header.
    """
    pieces: list[str] = []
    inside = _Block()
    while len(inside.opening) + len(text) > limit:
        cut = _find_cut(text[: limit - len(inside.opening)], inside, int(limit * _SHARE_TO_REPEAT))
        piece, text = inside.opening + text[: cut.at], text[cut.at :]
        inside = cut.inside
        if inside.fence:
            piece = piece.removesuffix("\n") + _closing(inside)
            text, inside = _drop_closing_fence(text, inside)
        elif inside.table and "|" not in text[: limit - len(inside.opening)].partition("\n")[0]:
            inside = _Block()
        pieces.append(piece)
    if text:
        pieces.append(inside.opening + text)
    return pieces


def _find_cut(seen: str, inside: _Block, longest_opening: int) -> _Cut:
    """The cut that hurts least, if possible in the second half of what a piece can hold; of equal ones the last."""
    lines = _read_lines(seen, inside, longest_opening)
    between = [cut for cut in _cuts_between(lines) if cut.at <= len(seen) - len(_closing(cut.inside))]
    late = [cut for cut in between if cut.at > len(seen) // 2]
    early = [cut._replace(pain=_EARLY) for cut in between]
    if cuts := late or [*_cuts_within(seen, lines), *early]:
        return min(cuts, key=lambda cut: (cut.pain, -cut.at))
    room = len(seen) - max(1, *(len(_closing(line.before)) for line in lines))
    at = _whole_character_cut(seen, room)
    return _Cut(at=at, inside=next(line.before for line in reversed(lines) if line.at <= at))


def _read_lines(seen: str, inside: _Block, longest_opening: int) -> list[_Line]:
    lines: list[_Line] = []
    at, previous = 0, ""
    texts = seen.split("\n")
    for number, text in enumerate(texts):
        complete = number < len(texts) - 1
        after = _after(text, inside, previous, longest_opening) if complete else inside
        lines.append(_Line(at, text, complete, inside, after))
        at, previous, inside = at + len(text) + 1, text, after
    return lines


def _after(line: str, inside: _Block, previous: str, longest_opening: int) -> _Block:
    """What goes on after `line`, if `inside` does before it."""
    if inside.fence:
        closes = line.strip().startswith(inside.fence) and not line.strip().strip(inside.fence[0])
        return _Block(item=inside.item) if closes else inside
    in_item = bool(_ITEM.match(line)) or (inside.item and (not line.strip() or line[0] in " \t"))
    if opened := _FENCE.fullmatch(line):
        fence, opening = opened[2] or opened[3], f"{opened[1].strip()}\n"
        return _Block(opening if len(opening) <= longest_opening else f"{fence}\n", fence, item=in_item)
    if inside.table and "|" in line:
        return inside
    if "|" in line and "|" in previous and _TABLE_DELIMITER.fullmatch(line):
        header = f"{previous}\n{line}\n"
        return _Block(header if len(header) <= longest_opening else "", table=True)
    return _Block(item=in_item)


def _cuts_between(lines: Sequence[_Line]) -> Iterator[_Cut]:
    """At line ends, but for those where something would be torn from what it belongs to."""
    last_words = _Line(0, "", True, _Block(), _Block())
    for previous, line in pairwise(lines):
        last_words = previous if not previous.blank else last_words
        inside = line.before
        if inside.fence:
            if previous.before.fence:
                yield _Cut(line.at, inside, _IN_BLOCK if previous.blank else _IN_CODE)
        elif inside.table and ("|" in line.text or not line.complete):
            if previous.before.table:
                yield _Cut(line.at, inside, _IN_BLOCK)
        elif not (_is_heading(last_words) or _may_be_header(previous, line)):
            goes_on = inside.item and (not line.text or line.text[0] in " \t") and not _ITEM.match(line.text)
            pain = _IN_ITEM if goes_on else _PARAGRAPH if previous.blank and not line.blank else _LINE
            yield _Cut(line.at, _Block(item=inside.item), pain)


def _is_heading(line: _Line) -> bool:
    return not line.is_code and _HEADING.match(line.text) is not None


def _may_be_header(previous: _Line, line: _Line) -> bool:
    """Whether a table may begin with `previous`, as far as one can see of the line after it."""
    delimiter = _TABLE_DELIMITER if line.complete else _BEGIN_OF_DELIMITER
    return "|" in previous.text and delimiter.fullmatch(line.text) is not None


def _cuts_within(seen: str, lines: Sequence[_Line]) -> Iterator[_Cut]:
    """After sentences and words of the second half, but not right behind the marks at the beginning of a line."""
    for line in lines:
        if line.after.fence and not line.before.fence:
            continue
        marks, inside = _MARKS.match(line.text), line.before
        begin = max(line.at + (marks.end() if marks else 0), len(seen) // 2)
        held = inside.fence or inside.table or _is_heading(line)
        if _ITEM.match(line.text) and not held:
            inside = _Block(item=True)
        for pain, pattern in ((_SENTENCE, _SENTENCE_END), (_WORD, _WORD_END)):
            for end in (
                line.at + match.end() for match in pattern.finditer(line.text, max(begin - line.at, 0))
            ):
                if begin < end < len(seen) - len(_closing(inside)) and _is_border(seen, end):
                    yield _Cut(end, inside, _WORD_IN_BLOCK if held else pain)


def _is_border(text: str, at: int) -> bool:
    """Whether no accent follows. What stands before `at` begins a visible character."""
    match = regex.match(r"\X", text, pos=at - 1)
    return match is not None and match.end() == at


def _closing(inside: _Block) -> str:
    return f"\n{inside.fence}" if inside.fence else ""


def _whole_character_cut(text: str, room: int) -> int:
    """The last border between two visible characters at or before `room` (UAX #29 grapheme clusters)."""
    start = max(0, room - 64)
    cut = start
    for match in regex.finditer(r"\X", text, pos=start, endpos=room + 64):
        if match.end() > room:
            break
        cut = match.end()
    while cut > start and text[cut - 1 : cut + 1] in ("``", "~~"):
        cut -= 1
    return cut if cut > start else room


def _drop_closing_fence(text: str, inside: _Block) -> tuple[str, _Block]:
    """What was closed at a cut need not be closed after it."""
    fence = re.escape(inside.fence[0])
    match = re.match(rf"\n?[ \t]{{0,16}}{fence}{{{len(inside.fence)},9}}[ \t]{{0,16}}(?:\n|$)", text)
    return (text[match.end() :], _Block(item=inside.item)) if match else (text, inside)
