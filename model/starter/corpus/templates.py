"""Template files: blocks of questions and answers, read and expanded. Knows the notation, and no topic.

A file is a list of blocks. `== id` begins one; after it may stand `weight=3` (how often it is drawn within its
file, default 1), `table=countries` (each run takes one row of that table), `chain` (its turns follow each other;
otherwise every later turn is an optional follow-up of the first, in any order), `translated` (the block of the
same id in the other language says the same), `plain` (the wording of its questions is left as it is, but for
capitals and full stops) and `each` (every turn is a block of its own, with `.1`, `.2` after the id). `?` lines
are wordings of one user message, `!` lines the answers to it; the next `?` line after a `!` line begins the next
turn. `#` begins a comment.

Within a line, `{a|b|}` chooses, `<TELL>` chooses among the phrases of that name, `<slot>` takes the value of the
table's row or a word of the list of that name, `<slot.2>` that of a second row or word, `a(n)` becomes the article
that fits, `\\n` a new line, and a backslash takes any other sign as it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import MappingProxyType

VALUE_BEGIN, VALUE_END, KEEP_CASE = "\ue000", "\ue001", "\ue002"
"""Private signs around the value of a slot, so that slips spare it; with the third, small letters do as well."""

_SLOT = re.compile(r"<([a-z_]+(?:\.\d)?)>")
_PHRASES = re.compile(r"(?<!\\)<([A-Z_]+)>")
_ARTICLE = re.compile(rf"\b([Aa])\(n\) ([{VALUE_BEGIN}{KEEP_CASE}\"“*]*)(\w+)")
_NO_SIGNS = {ord(sign): None for sign in (VALUE_BEGIN, VALUE_END, KEEP_CASE)}
_SOUNDS_LIKE_CONSONANT = re.compile(r"(?:uni|use|usu|euro|one\b|once)", re.IGNORECASE)


class TemplateError(ValueError):
    """A line of a template file that cannot be read; the message names file, block and line."""


@dataclass(frozen=True, slots=True)
class Slot:
    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple["Template", ...]


Template = tuple[str | Slot | Choice, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """The wordings of one user message, and the answers to it."""

    questions: tuple[Template, ...]
    answers: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Block:
    id: str
    topic: str
    turns: tuple[Turn, ...]
    weight: float = 1.0
    table: str | None = None
    chain: bool = False
    translated: bool = False
    plain: bool = False


def parse_template(text: str, phrases: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Template:
    """Read one line; an unbalanced brace, or a name that `phrases` lacks, is a `TemplateError`."""
    for name in _PHRASES.findall(text):
        if name not in phrases:
            raise TemplateError(f"{text!r} names the phrases <{name}>, and there are none of that name.")
    text = _PHRASES.sub(lambda match: "{" + "|".join(phrases[match[1]]) + "}", text)
    template, rest = _parse_sequence(text, 0)
    if rest != len(text):
        raise TemplateError(f"{text!r} has a sign too many at column {rest + 1}.")
    return template


def expand(template: Template, random: Random, value_of: Callable[[str], str]) -> str:
    """One wording of `template`; the values of slots stand between `VALUE_BEGIN` and `VALUE_END`."""
    return fit_articles("".join(_expand_parts(template, random, value_of)))


def fit_articles(text: str) -> str:
    return _ARTICLE.sub(_article, text)


def bare(text: str) -> str:
    """`text` without the private signs around values."""
    return text.translate(_NO_SIGNS)


def slots_of(template: Template) -> set[str]:
    """The names of all slots in `template`."""
    names: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            names.add(part.name)
        elif isinstance(part, Choice):
            names.update(*(slots_of(option) for option in part.options))
    return names


def read_blocks(path: Path, phrases: Mapping[str, Sequence[str]] = MappingProxyType({})) -> list[Block]:
    """All blocks of one file; its name is their topic."""
    blocks: list[Block] = []
    header = ""
    lines: list[tuple[str, Template]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, text = line.partition(" ")
        if mark == "==":
            if header:
                blocks.extend(_build_blocks(header, lines, path.stem))
            header, lines = text, []
        elif mark in ("?", "!"):
            lines.append((mark, _parse_line(text.strip(), phrases, path, number)))
        elif line.strip() and not line.startswith("#"):
            raise TemplateError(
                f"{path.name}, line {number}: a line begins with ==, ?, ! or #, not {mark!r}."
            )
    if header:
        blocks.extend(_build_blocks(header, lines, path.stem))
    return blocks


def _parse_line(text: str, phrases: Mapping[str, Sequence[str]], path: Path, number: int) -> Template:
    try:
        return parse_template(text, phrases)
    except TemplateError as error:
        raise TemplateError(f"{path.name}, line {number}: {error}") from error


def _build_blocks(header: str, lines: list[tuple[str, Template]], topic: str) -> list[Block]:
    words = header.split()
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    turns = _build_turns(lines)
    if not turns or not all(turn.questions and turn.answers for turn in turns):
        raise TemplateError(f"Block {words[0]!r} of {topic!r} has a turn without question or answer.")
    block = Block(
        id=words[0],
        topic=topic,
        turns=tuple(turns),
        weight=float(options.get("weight", "1")),
        table=options.get("table"),
        chain="chain" in words,
        translated="translated" in words,
        plain="plain" in words,
    )
    if "each" in words:
        return [
            replace(block, id=f"{block.id}.{number}", turns=(turn,)) for number, turn in enumerate(turns, 1)
        ]
    return [block]


def _build_turns(lines: list[tuple[str, Template]]) -> list[Turn]:
    turns: list[Turn] = []
    previous = ""
    for mark, template in lines:
        if mark == "?" and previous != "?":
            turns.append(Turn((), ()))
        last = turns.pop() if turns else Turn((), ())
        if mark == "?":
            turns.append(Turn((*last.questions, template), last.answers))
        else:
            turns.append(Turn(last.questions, (*last.answers, template)))
        previous = mark
    return turns


def _parse_sequence(text: str, at: int, *, nested: bool = False) -> tuple[Template, int]:
    parts: list[str | Slot | Choice] = []
    literal = ""
    while at < len(text) and not (nested and text[at] in "|}"):
        slot = _SLOT.match(text, at)
        if text[at] == "\\" and at + 1 < len(text):
            literal += "\n" if text[at + 1] == "n" else text[at + 1]
            at += 2
        elif slot or text[at] == "{":
            parts, literal = [*parts, *([literal] if literal else [])], ""
            part, at = (Slot(slot[1]), slot.end()) if slot else _parse_choice(text, at + 1)
            parts.append(part)
        elif text[at] == "}":
            break
        else:
            literal += text[at]
            at += 1
    return (*parts, *([literal] if literal else [])), at


def _parse_choice(text: str, at: int) -> tuple[Choice, int]:
    options: list[Template] = []
    while True:
        option, at = _parse_sequence(text, at, nested=True)
        options.append(option)
        if at >= len(text):
            raise TemplateError(f"{text!r} opens a brace that is never closed.")
        at += 1
        if text[at - 1] == "}":
            return Choice(tuple(options)), at


def _expand_parts(template: Template, random: Random, value_of: Callable[[str], str]) -> list[str]:
    parts: list[str] = []
    for part in template:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, Slot):
            parts.append(f"{VALUE_BEGIN}{value_of(part.name)}{VALUE_END}")
        else:
            parts.extend(_expand_parts(random.choice(part.options), random, value_of))
    return parts


def _article(match: re.Match[str]) -> str:
    word = match[3]
    vowel = word[0].lower() in "aeiou" and not _SOUNDS_LIKE_CONSONANT.match(word)
    silent_h = word.lower() in ("hour", "honest", "honour", "heir")
    return f"{match[1]}{'n' if vowel or silent_h else ''} {match[2]}{word}"
