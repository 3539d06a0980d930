"""Attachments as the model reads them: blocks between markers that no file can fake, cut to a number of tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.attachments.values import AttachmentText, Note
from model.protocol import Engine
from model.request import ChatMessage

_MARKER = re.compile(r"[\[［【〔⟦](?=[\W_]{0,8}(?:end[\W_]{1,8}of\b|attachment\b))", re.IGNORECASE)
_LINE = 200
"""Characters that are given up so that a cut falls between two lines."""


@dataclass(frozen=True, slots=True)
class RenderedAttachments:
    """`text` follows the words of the message; the notes are to be told with the answer."""

    text: str
    notes: tuple[Note, ...]


async def render_attachments(
    engine: Engine, texts: Sequence[AttachmentText], *, token_budget: int, chinese: bool
) -> RenderedAttachments:
    """All of them in at most `token_budget` tokens: each gets an equal share, and what the short ones leave."""
    blocks = [""] * len(texts)
    notes: list[tuple[Note, ...]] = [()] * len(texts)
    left = token_budget
    waiting = sorted(range(len(texts)), key=lambda index: len(texts[index].text))
    for served, index in enumerate(waiting):
        share = left // (len(texts) - served)
        blocks[index], notes[index], taken = await _fit(engine, texts[index], share, chinese=chinese)
        left -= taken
    return RenderedAttachments(
        "\n\n".join(filter(None, blocks)), tuple(note for own in notes for note in own)
    )


def render_attachment(attachment: AttachmentText, shown: str, notes: Sequence[Note], *, chinese: bool) -> str:
    """The block of one file. Its last line is its only end marker, and its first line its only begin."""
    said = [f"({note.say(chinese=chinese)})" for note in notes]
    lines = [_MARKER.sub("(", line) for line in (*said, shown) if line]
    return "\n".join((f"[attachment {attachment.name}]", *lines, f"[end of {attachment.name}]"))


def tell(notes: Sequence[Note], *, chinese: bool) -> str:
    """The paragraph at the end of an answer that says what was not read; empty where all was."""
    if not notes:
        return ""
    said = [note.say(chinese=chinese) for note in notes]
    return f"\n\n（{'；'.join(said)}。）" if chinese else f"\n\n({'; '.join(said)}.)"


async def _fit(
    engine: Engine, attachment: AttachmentText, share: int, *, chinese: bool
) -> tuple[str, tuple[Note, ...], int]:
    """The block, what it leaves out, and its tokens. No block where even one without text would take too many."""
    length = len(attachment.text)
    while True:
        shown = _cut(attachment, length)
        notes = (*attachment.notes, *_cut_note(attachment, len(shown)))
        block = render_attachment(attachment, shown, notes, chinese=chinese)
        taken = await engine.count_tokens((ChatMessage("user", block),))
        if taken <= share:
            return block, notes, taken
        if not shown:
            return "", notes, 0
        # The next guess assumes that all of it is as dense, and always gets shorter.
        length = min(len(shown) * max(share, 0) // taken, len(shown) * 49 // 50)


def _cut(attachment: AttachmentText, length: int) -> str:
    text = attachment.text
    if length >= len(text):
        return text
    if attachment.keep == "end":
        kept = text[len(text) - length :]
        line_end = kept.find("\n", 0, _LINE)
        return kept[line_end + 1 :]
    kept = text[:length]
    line_end = kept.rfind("\n", max(length - _LINE, 0))
    return kept if line_end < 0 else kept[:line_end]


def _cut_note(attachment: AttachmentText, shown: int) -> tuple[Note, ...]:
    name, total = attachment.name, attachment.total
    if shown >= total:
        return ()
    if not shown:
        return (Note(f"{name} does not fit what can be read at once", f"{name} 放不进一次能读的长度"),)
    side, chinese_side = ("last", "最后") if attachment.keep == "end" else ("first", "前")
    return (
        Note(
            f"{name}: only the {side} {shown:,} of {total:,} characters were read",
            f"{name}：共 {total:,} 个字符，只读了{chinese_side} {shown:,} 个",
        ),
    )
