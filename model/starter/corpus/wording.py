"""How people really type: small letters, missing signs, slips, courtesy. Knows text, and no topic."""

import re
import tomllib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from model.starter.corpus.templates import KEEP_CASE, VALUE_BEGIN, VALUE_END, bare
from model.starter.corpus.words import FOLDER, UNFIT, Language

_VALUES = re.compile(f"({VALUE_BEGIN}[^{VALUE_END}]*{VALUE_END})")


@cache
def read_habits(language: Language) -> dict[str, Any]:
    """The part of `typing.toml` for one language."""
    habits: dict[str, Any] = tomllib.loads((FOLDER / "typing.toml").read_text(encoding="utf-8"))[language]
    return habits


def written(text: str, language: Language) -> str:
    """An answer, as written carefully: a capital at the beginning, no private signs."""
    clean = bare(text).strip()
    return clean[:1].upper() + clean[1:] if language == "en" and clean[:1].islower() else clean


def typed(
    text: str, language: Language, random: Random, *, plain: bool = False, request: bool = False
) -> str:
    """A message, as somebody might type it. `plain` adds no words and makes no slips; a `request` asks for
    something, also where it is no question."""
    words = text.strip()
    if not plain and random.random() < (0.3 if request else 0.22):
        words = _with_courtesy(words, language, random, request)
    typed_text = (
        _type_english(words, random, plain) if language == "en" else _type_chinese(words, random, plain)
    )
    return bare(typed_text).strip() or bare(text).strip()


def _with_courtesy(text: str, language: Language, random: Random, request: bool) -> str:
    habits = read_habits(language)
    before, after = habits.get("request_openings", []), habits.get("request_closings", [])
    if request and before and random.random() < 0.5:
        if random.random() < 0.7:
            return str(random.choice(before)) + text
        return text.rstrip(".!") + str(random.choice(after))
    if not bare(text).endswith(("?", "？")):
        return str(random.choice(habits["openings"])) + text
    if random.random() < 0.35:
        closing: str = random.choice(habits["closings"])
        return text.rstrip("?？" if closing[0] not in "啊呀" else "?？呢吗啊呀") + closing
    return str(random.choice(habits["openings"] + habits["question_openings"])) + text


def _type_english(text: str, random: Random, plain: bool) -> str:
    dice = random.random()
    if random.random() < 0.5 and not plain:
        text = _vary(text, "en", "same_meaning", 6, random)
    if dice < 0.42:
        return _capitalised(text)
    if not plain and dice < 0.52:
        text = _vary(text, "en", "chat", 5, random)
    if not plain and dice > 0.9:
        text = _with_slip(text, random)
    if random.random() < 0.55:
        text = text.rstrip(".?!") if not bare(text).endswith("...") else text
    if random.random() < 0.6:
        text = _outside_kept(text, str.lower)
    if random.random() < 0.35:
        text = re.sub(r"(?<=[a-z])['’](?=[a-z])", "", text)
    if random.random() < 0.2:
        text = re.sub(r", ", " ", text)
    if dice > 0.985 and not plain:
        text = _outside_kept(text, str.upper)
    return text if random.random() < 0.5 else _capitalised(text)


def _type_chinese(text: str, random: Random, plain: bool) -> str:
    if not plain and random.random() < 0.25:
        text = _vary(text, "zh", "same_meaning", 3, random)
    if random.random() < 0.45:
        return text
    if not plain and random.random() < 0.06:
        text = _vary(text, "zh", "chat", 3, random)
    if random.random() < 0.6:
        text = text.rstrip("。？！?!")
    if random.random() < 0.3:
        text = text.replace("？", "?").replace("！", "!")
    if random.random() < 0.2:
        text = text.replace("，", random.choice((" ", ",")))
    return text


def _vary(text: str, language: Language, habit: str, tries: int, random: Random) -> str:
    """`text` with up to `tries` of that habit's replacements, outside values."""
    boundary = r"\b" if language == "en" else ""
    forms = [
        (f"{boundary}{pattern}{boundary}", replacement)
        for pattern, replacement in random.sample(read_habits(language)[habit], tries)
    ]
    return _replace_outside_values(text, forms)


def _capitalised(text: str) -> str:
    at = 1 if text.startswith(VALUE_BEGIN) else 0
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]


def _outside_kept(text: str, change: Callable[[str], str]) -> str:
    kept = VALUE_BEGIN + KEEP_CASE
    return "".join(piece if piece.startswith(kept) else change(piece) for piece in _VALUES.split(text))


def _replace_outside_values(text: str, forms: list[tuple[str, str]]) -> str:
    pieces = _VALUES.split(text)
    for pattern, replacement in forms:
        pieces = [
            piece
            if piece.startswith(VALUE_BEGIN)
            else re.sub(pattern, replacement, piece, flags=re.IGNORECASE)
            for piece in pieces
        ]
    return "".join(pieces)


def _with_slip(text: str, random: Random) -> str:
    """One slip of the finger, in a word of four letters or more that is no value."""
    pieces = _VALUES.split(text)
    words = [
        (index, match.start(), match.end())
        for index, piece in enumerate(pieces)
        if not piece.startswith(VALUE_BEGIN)
        for match in re.finditer(r"[A-Za-z]{4,}", piece)
    ]
    if not words:
        return text
    index, start, end = random.choice(words)
    at = random.randrange(start + 1, end - 1)
    piece = pieces[index]
    slips = (
        piece[:at] + piece[at + 1 :],
        piece[:at] + piece[at] + piece[at:],
        piece[:at] + piece[at + 1] + piece[at] + piece[at + 2 :],
    )
    slip = random.choice(slips)
    pieces[index] = (
        piece if any(part in slip.lower() and part not in piece.lower() for part in UNFIT) else slip
    )
    return "".join(pieces)
