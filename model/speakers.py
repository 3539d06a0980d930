"""Who spoke and what they wrote, made safe to stand in a prompt. Knows no tokens and no template."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from model.request import ChatMessage

Turn = dict[str, str]
"""What a chat template reads: `role`, `content`, and for the plain template `label`."""

LABELS = {"system": "System", "user": "User", "assistant": "Assistant"}
LONGEST_NAME = 40
OMITTED = "…"
"""Stands in for the user where a template demands one before the first reply."""

_LINE_START = r"(?:(?<=[\n\r\v\f\x85\u2028\u2029])|\A)"


def label_of(message: ChatMessage) -> str:
    """The speaker's name, made so that it can neither end its label nor pass for another role."""
    if message.role != "user" or message.name is None:
        return LABELS[message.role]
    printable = (
        " " if unicodedata.category(char)[0] in "CZ" else char
        for char in unicodedata.normalize("NFKC", message.name)
        if char != ":"
    )
    name = " ".join("".join(printable).split())[:LONGEST_NAME].rstrip()
    reserved = {LABELS["system"].casefold(), LABELS["assistant"].casefold()}
    return f"User {name}" if name.casefold() in reserved else name or LABELS["user"]


def whole_characters(content: str) -> str:
    """Without halves of surrogate pairs, which no tokenizer accepts."""
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def guard(content: str, labels: set[str]) -> str:
    """Indent each line that begins as a speaker's would: nobody writes another one's lines."""
    if not labels:
        return content
    speaker = "|".join(map(re.escape, sorted(labels)))
    return re.sub(rf"{_LINE_START}(?=(?:{speaker})\s*[:：])", " ", content, flags=re.IGNORECASE)


def alternate(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Neighbours of one role become one message, and a reply that opens the dialogue gets something to answer."""
    current: Turn = {}
    for turn in turns:
        if turn["role"] == current.get("role"):
            current = {**current, "content": f"{current['content']}\n\n{turn['content']}"}
            continue
        if current:
            yield current
        if turn["role"] == "assistant" and current.get("role") != "user":
            yield {"role": "user", "content": OMITTED}
        current = turn
    yield current
