"""The held-out prompts for the starter and the verdict on a reply. Pure: knows no engine, no weights, no corpus.

A prompt is a line of `starter_heldout_en.jsonl` or `starter_heldout_zh.jsonl`. `turns` are the person's texts, of
which the model answers each; the checks are for the last answer. `all_of` holds groups of patterns, and each group
must be met by one of its patterns; none of `none_of` may occur. Patterns are regular expressions without regard to
case, in which `\\b` separates Latin words and numbers from Chinese too. `examples` are right replies.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model.request import FinishReason

Language = Literal["en", "zh"]

FILES: dict[Language, Path] = {
    "en": Path(__file__).with_name("starter_heldout_en.jsonl"),
    "zh": Path(__file__).with_name("starter_heldout_zh.jsonl"),
}
MAX_CHARS: dict[Language, int] = {"en": 600, "zh": 300}
"""Where a prompt names no bound of its own: the persona asks for brief answers."""


@dataclass(frozen=True, slots=True)
class HeldOutPrompt:
    """One held-out prompt. `reply_language` "any" is for translations, and for answers of names alone."""

    id: str
    language: Language
    topic: str
    turns: tuple[str, ...]
    all_of: tuple[tuple[re.Pattern[str], ...], ...]
    none_of: tuple[re.Pattern[str], ...]
    reply_language: Language | Literal["any"]
    min_chars: int
    max_chars: int
    min_lines: int
    """Lines or sentences: a poem has more than one."""
    examples: tuple[str, ...]


def load_prompts() -> list[HeldOutPrompt]:
    """Every held-out prompt, English before Chinese. A misspelt key raises KeyError or ValueError."""
    return [
        parse_prompt(json.loads(line))
        for path in FILES.values()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def parse_prompt(row: dict[str, Any]) -> HeldOutPrompt:
    if unknown := row.keys() - HeldOutPrompt.__annotations__.keys():
        raise ValueError(f"The held-out prompt {row['id']} has unknown keys: {', '.join(sorted(unknown))}.")
    language: Language = row["language"]
    return HeldOutPrompt(
        id=row["id"],
        language=language,
        topic=row["topic"],
        turns=tuple(row["turns"]),
        all_of=tuple(_patterns(group) for group in row["all_of"]),
        none_of=_patterns(row.get("none_of", ())),
        reply_language=row.get("reply_language", language),
        min_chars=row.get("min_chars", 1),
        max_chars=row.get("max_chars", MAX_CHARS[language]),
        min_lines=row.get("min_lines", 1),
        examples=tuple(row["examples"]),
    )


def _patterns(texts: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text, re.IGNORECASE | re.ASCII) for text in texts)


# The verdict


def faults_of(prompt: HeldOutPrompt, reply: str, reason: FinishReason) -> list[str]:
    """What is wrong with `reply`, a phrase each; an empty list is a pass."""
    text = reply.strip().replace("’", "'")
    if not text:
        return ["is empty"]
    faults = [] if reason == "stop" else ["does not end by itself"]
    if "\ufffd" in text or "<|" in text:
        faults.append("holds broken characters or control tokens")
    if is_looping(text):
        faults.append("repeats itself")
    if prompt.reply_language != "any" and not is_in_language(text, prompt.reply_language):
        faults.append(f"is not in the language {prompt.reply_language!r}")
    return faults + _faults_of_size(prompt, text) + _faults_of_content(prompt, text)


def _faults_of_size(prompt: HeldOutPrompt, text: str) -> list[str]:
    faults = []
    if not prompt.min_chars <= len(text) <= prompt.max_chars:
        faults.append(f"has {len(text)} characters, not {prompt.min_chars} to {prompt.max_chars}")
    if (lines := len(_sentences(text))) < prompt.min_lines:
        faults.append(f"has {lines} lines, not {prompt.min_lines}")
    return faults


def _faults_of_content(prompt: HeldOutPrompt, text: str) -> list[str]:
    missing = [group for group in prompt.all_of if not any(pattern.search(text) for pattern in group)]
    found = [pattern for pattern in prompt.none_of if pattern.search(text)]
    return [f"lacks {' or '.join(pattern.pattern for pattern in group)}" for group in missing] + [
        f"holds {pattern.pattern}" for pattern in found
    ]


_CHINESE = r"[\u3400-\u9fff]"
_LATIN = r"[a-z]+(?:'[a-z]+)?"
_WORD = re.compile(rf"{_CHINESE}|{_LATIN}|\d+", re.IGNORECASE)


def is_in_language(text: str, language: Language) -> bool:
    """Whether most of `text` is in `language`. A Chinese character counts as a word does.

    Chinese may hold names and commands; nothing but them, or numbers alone, is in either language.
    """
    chinese = len(re.findall(_CHINESE, text))
    latin = len(re.findall(_LATIN, text, re.IGNORECASE))
    letters = sum(character.isalpha() for character in text)
    ascii_letters = sum(character.isascii() and character.isalpha() for character in text)
    if not letters:
        return any(character.isdigit() for character in text)
    if language == "zh":
        return chinese >= 0.5 * (chinese + latin)
    return latin >= 0.7 * (chinese + latin) and ascii_letters >= 0.7 * letters


def is_looping(text: str) -> bool:
    """Whether `text` says the same over and over: a run of words again and again, or a sentence three times."""
    words = [word.lower() for word in _WORD.findall(text)]
    sentences = Counter(tuple(_WORD.findall(sentence.lower())) for sentence in _sentences(text))
    return (
        re.search(r"(\S)\1{19}", text) is not None
        or any(count >= 3 and len(sentence) >= 3 for sentence, count in sentences.items())
        or any(_longest_run(words, size) >= (6 if size == 1 else 4) for size in range(1, 9))
        or any(count >= 4 for count in Counter(zip(*(words[i:] for i in range(5)), strict=False)).values())
    )


def _longest_run(words: Sequence[str], size: int) -> int:
    """How many times in a row some `size` words stand at most."""
    longest = run = 1
    same = 0
    for index in range(size, len(words)):
        same = same + 1 if words[index] == words[index - size] else 0
        run = same // size + 1
        longest = max(longest, run)
    return longest


def _sentences(text: str) -> list[str]:
    return [piece for piece in re.split(r"[\n.!?/。！？；]+", text) if piece.strip()]


# The overlap with what the starter was trained on


def find_overlap(prompts: Iterable[HeldOutPrompt], corpus: Iterable[str]) -> list[str]:
    """The held-out texts that somebody also says in the corpus, but for case, punctuation and spaces."""
    heldout = {normalise(text): text for prompt in prompts for text in prompt.turns}
    found = {heldout[known] for known in map(normalise, corpus) if known in heldout}
    return sorted(found)


def normalise(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
