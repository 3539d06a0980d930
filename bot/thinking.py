"""What a reasoning model thinks aloud before its answer is told from the answer, and hidden, folded or shown."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from bot.chat import Reply

Thinking = Literal["hidden", "folded", "shown"]
LONGEST_FOLDED = 300
"""Characters of a thought that is folded into one line."""
ONLY_THOUGHT = "I thought about that until I had to stop, and have no answer. Please ask for less at once."


class _Marks(NamedTuple):
    opening: str
    closings: tuple[str, ...]
    """Of those that begin alike, the longest first."""


_MARKS = (
    _Marks("<think>", ("</think>",)),  # DeepSeek, Qwen, SmolLM and most others
    _Marks("<seed:think>", ("</seed:think>",)),
    _Marks("[THINK]", ("[/THINK]",)),  # Magistral
    _Marks(
        "<|channel|>analysis<|message|>",  # gpt-oss
        ("<|end|><|start|>assistant<|channel|>final<|message|>", "<|channel|>final<|message|>"),
    ),
)
_OPENINGS = tuple(marks.opening for marks in _MARKS)
_CLOSINGS = tuple(closing for marks in _MARKS for closing in marks.closings)
_LONE_CLOSING = re.compile(rf"^[ \t]*({'|'.join(map(re.escape, _CLOSINGS))})", re.MULTILINE)


class Thoughts:
    """Passes an answer on to `reply` as it comes, and what was thought before it as `thinking` says."""

    def __init__(self, reply: Reply, thinking: Thinking, *, opened: bool = False) -> None:
        """`opened`: the prompt ends inside a thought, so the model begins there."""
        self._reply = reply
        self._thinking = thinking
        self._reader = _Reader(opened=opened)
        self._thought = ""
        self._shown_thought = ""
        self._answer = ""

    async def append(self, text: str) -> str:
        """Take in what the model wrote. The answer so far, without thoughts."""
        await self._show(self._reader.read(text))
        return self._answer

    async def end(self, otherwise: str) -> str:
        """Show what was held back, or a sentence where there is no answer: `otherwise` without a thought, too."""
        await self._show(self._reader.rest())
        if not self._answer.strip():
            await self._reply.append(self._apart(ONLY_THOUGHT if self._reader.has_thought else otherwise))
        return self._answer

    async def _show(self, read: Iterator[tuple[str, str]]) -> None:
        visible = ""
        for kind, text in read:
            if kind == "withdrawn":
                await self._reply.replace("")
                self._answer = visible = ""
            if kind != "answer":
                visible += self._think(text)
            else:
                visible += text if self._answer else self._apart(text)
                self._answer += text
        if visible:
            await self._reply.append(visible)

    def _think(self, text: str) -> str:
        """What a thought adds to what people see."""
        if self._thinking == "hidden" or self._shown_thought.endswith(_MORE):
            return ""
        self._thought += text
        before = self._shown_thought
        self._shown_thought = show_thought(self._thought, self._thinking)
        return self._shown_thought[len(before) :]

    def _apart(self, text: str) -> str:
        return f"\n\n{text}" if self._shown_thought else text


_MORE = " ..."


def show_thought(thought: str, thinking: Thinking) -> str:
    """A quote: of one line, or of all. What is shown of a longer thought begins with what is shown of a shorter one.

    Code is not marked as such: the mark of a quote in each line would be part of it.
    """
    thought = thought.strip().replace("`", "'")
    if thinking == "hidden" or not thought:
        return ""
    if thinking == "shown":
        return "> " + thought.replace("\n", "\n> ")
    line = " ".join(thought.split())
    return f"> {line}" if len(line) <= LONGEST_FOLDED else f"> {line[:LONGEST_FOLDED]}{_MORE}"


class _Reader:
    """Tells thoughts from the answer: "thought", "answer", or "withdrawn" for what looked like an answer until now.

    A thought begins where an answer would, so that an answer may speak of these marks. One that is closed without
    having been opened was opened by the prompt.
    """

    def __init__(self, *, opened: bool) -> None:
        self.has_thought = opened
        self._closings: tuple[str, ...] = _CLOSINGS if opened else ()
        """What ends the thought that is being read."""
        self._held = ""
        """Read, but it may be the beginning of a mark."""
        self._answer = ""

    def read(self, text: str) -> Iterator[tuple[str, str]]:
        self._held += text
        while self._held:
            before = self._held, self._answer
            if self._closings:
                yield from self._read_thought()
            elif not self._answer:
                self._read_beginning()
            else:
                yield from self._read_answer()
            if (self._held, self._answer) == before:
                return

    def rest(self) -> Iterator[tuple[str, str]]:
        held, self._held = self._held, ""
        if held.strip():
            yield ("thought" if self._closings else "answer"), held

    def _read_thought(self) -> Iterator[tuple[str, str]]:
        end, closing = _first(self._held, self._closings)
        if closing:
            text, self._held, self._closings = self._held[:end], self._held[end + len(closing) :], ()
            text += "\n"
        else:
            kept = _possible_mark(self._held, self._closings)
            text, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        if text:
            yield "thought", text

    def _read_beginning(self) -> None:
        """White space, perhaps a mark, or the answer's first words, which are left for the next step."""
        self._held = self._held.lstrip()
        for marks in _MARKS:
            if self._held.startswith(marks.opening):
                self._held, self._closings = self._held.removeprefix(marks.opening), marks.closings
                self.has_thought = True
                return
        if self._held and not any(opening.startswith(self._held) for opening in _OPENINGS):
            self._answer = "\n"

    def _read_answer(self) -> Iterator[tuple[str, str]]:
        kept = ""
        if not self.has_thought:
            line = self._held.rfind("\n") + 1
            if (found := self._find_lone_closing()) is not None:
                yield "withdrawn", (self._answer + self._held[: found.start()]).strip()
                self._held, self._answer, self.has_thought = self._held[found.end() :], "", True
                return
            if (line or self._answer.endswith("\n")) and _may_close(self._held[line:]):
                kept = self._held[line:]
        text, self._held = self._held[: len(self._held) - len(kept)], kept
        self._answer += text
        if text:
            yield "answer", text

    def _find_lone_closing(self) -> re.Match[str] | None:
        """At the beginning of a line, where nothing before speaks of an opening one."""
        begin = 0 if self._answer.endswith("\n") else self._held.find("\n") + 1
        if begin == 0 and not self._answer.endswith("\n"):
            return None
        found = _LONE_CLOSING.search(self._held, begin)
        before = self._answer + self._held[: found.start()] if found else ""
        return found if not any(opening in before for opening in _OPENINGS) else None


def _first(text: str, marks: tuple[str, ...]) -> tuple[int, str]:
    """Where the first of the marks stands, and which; of several there, the one that is named first."""
    found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
    return min(found, key=lambda place: place[0]) if found else (0, "")


def _possible_mark(text: str, marks: tuple[str, ...]) -> int:
    """Characters at the end of `text` that may be the beginning of a mark."""
    longest = min(max(map(len, marks)) - 1, len(text))
    return next(
        (length for length in range(longest, 0, -1) if any(m.startswith(text[-length:]) for m in marks)), 0
    )


def _may_close(line: str) -> bool:
    words = line.lstrip(" \t")
    return any(closing.startswith(words) for closing in _CLOSINGS)
