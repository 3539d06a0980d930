"""Text made uniform without changing what it says. Pure."""

import re
import unicodedata

# NFKC only where it merely undoes a typographic variant: full-width letters and digits, half-width kana, Latin
# ligatures, mathematical letters. Elsewhere it changes what is said ("x²" to "x2", "①" to "1") or how Chinese looks
# ("，" to ","), so the rest gets NFC alone.
_VARIANTS = re.compile(
    "[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff65-\uff9f\ufb00-\ufb06\U0001d400-\U0001d7ff]+"
)

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# Controls, and the invisible format characters that carry no meaning; joiners stay, for scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"
)
_INNER_RUNS = re.compile(r"(?<=\S)[ \t]+")
_BLANK_LINES = re.compile(r"\n{3,}")


def normalise(text: str) -> str:
    """`text` in NFC, with plain letters, spaces and line ends, without controls; indentation stays."""
    text = _SPACES.sub(" ", _LINE_ENDS.sub("\n", unicodedata.normalize("NFC", text)))
    text = _VARIANTS.sub(lambda variant: unicodedata.normalize("NFKC", variant[0]), _INVISIBLE.sub("", text))
    lines = (_INNER_RUNS.sub(" ", line).rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()
