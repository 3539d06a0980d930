"""What was read of a file, what was not, and the limits. Knows no format and no platform."""

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

MOST_BYTES = 5 * 2**20
MOST_PAGES = 50
MOST_CHARACTERS = 60_000
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Note:
    """What was left out of a file, or why there is nothing of it: a clause without its full stop, in two languages."""

    english: str
    chinese: str

    def say(self, *, chinese: bool) -> str:
        return self.chinese if chinese else self.english


@dataclass(frozen=True, slots=True)
class AttachmentText:
    """At most `MOST_CHARACTERS` of the `total` characters that were found; none where nothing could be read."""

    name: str
    """Safe to show: one line, without brackets."""
    text: str = ""
    notes: tuple[Note, ...] = ()
    total: int = 0
    keep: Literal["begin", "end"] = "begin"
    """Which side stays where room is short: a document's begin, a log's end."""


def safe_name(name: str) -> str:
    """A file's name that fits a line and cannot end a marker. What is too long loses its middle."""
    printable = (" " if unicodedata.category(char)[0] in "CZ" else char for char in name)
    plain = " ".join("".join(printable).translate(_BRACKETS).split())
    if len(plain) > LONGEST_NAME:
        suffix = PurePosixPath(plain.replace("/", " ")).suffix[:12]
        plain = plain[: LONGEST_NAME - len(suffix) - 1].rstrip() + "…" + suffix
    return plain or "file"


_BRACKETS = str.maketrans(dict.fromkeys("[［【〔⟦", "(") | dict.fromkeys("]］】〕⟧", ")"))
