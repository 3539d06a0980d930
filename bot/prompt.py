"""Builds what the model sees, in a fixed order: persona and house rules, a summary of what is long past, as much of the
newest history as the token budget holds, and the question with what belongs to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.protocol import Engine
from model.request import ChatMessage
from storage.conversations import HistoryMessage

STEADINESS = 0.3
"""Share of the history that fits which may be left out besides."""
BACKGROUND_SHARE = 0.15
"""Of the token budget, for what others said in the channel meanwhile."""
LONGEST_REFERENCE = 600


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was said in the channel, and not to the bot."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around the history."""

    persona: str
    rules: str = ""
    summary: str = ""
    """Told where a part of the conversation does not fit."""
    background: Sequence[Said] = ()
    """The newest of what was said in the channel, oldest first."""
    reply_to: Said | None = None
    """What the question replies to, where the history does not show it."""
    attachments: str = ""
    """The files of the question, rendered."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`message_ids` are the stored messages that the model sees, oldest first; `left_out` older ones did not fit."""

    messages: tuple[ChatMessage, ...]
    message_ids: tuple[int, ...]
    left_out: int
    oldest_id: int
    """Of the messages that there were to choose from."""


async def build_prompt(
    engine: Engine,
    *,
    surroundings: Surroundings,
    history: Sequence[HistoryMessage],
    token_budget: int,
    named: bool,
) -> Prompt:
    """A long run of newest messages whose rendered prompt takes at most `token_budget` tokens.

    It is the longest one, or begins up to `STEADINESS` of it later, so that the next prompts begin alike.
    `history` is oldest first and ends with the question, which is kept even if it alone is over the budget.
    `named` tells the model who speaks, as it must know wherever several people may talk.
    """
    system = _system(surroundings, summary="")
    dialogue = [_to_chat_message(message, named=named) for message in history]
    background = await _fit_background(engine, surroundings.background, int(token_budget * BACKGROUND_SHARE))
    dialogue[-1] = replace(
        dialogue[-1], content=_question_text(dialogue[-1].content, surroundings, background)
    )
    fewest, most = 1, len(dialogue)
    if await engine.count_tokens((*system, *dialogue)) <= token_budget:
        fewest = most
    else:
        system, most = _system(surroundings, surroundings.summary), max(most - 1, 1)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if await engine.count_tokens((*system, *dialogue[-middle:])) <= token_budget:
            fewest = middle
        else:
            most = middle - 1
    start = _steady_start([message.id for message in history], fewest)
    return Prompt(
        messages=(*system, *dialogue[start:]),
        message_ids=tuple(message.id for message in history[start:]),
        left_out=start,
        oldest_id=history[0].id,
    )


def _system(surroundings: Surroundings, summary: str) -> tuple[ChatMessage, ...]:
    """What changes seldom, so that what the engine has computed of it serves again."""
    paragraphs = [surroundings.persona]
    if surroundings.rules:
        paragraphs.append(f"Rules of this place:\n{surroundings.rules}")
    if summary:
        paragraphs.append(f"What was said earlier, in short:\n{summary}")
    text = "\n\n".join(filter(None, paragraphs))
    return (ChatMessage("system", text),) if text else ()


def _question_text(question: str, surroundings: Surroundings, background: Sequence[Said]) -> str:
    """What belongs to this question alone stands with it, at the prompt's end."""
    paragraphs: list[str] = []
    if background:
        lines = "\n".join(_line(said) for said in background)
        paragraphs.append(f"[said in this channel lately, not to you]\n{lines}\n[end of what was said]")
    if surroundings.reply_to is not None:
        referred = _line(surroundings.reply_to)
        shown = referred if len(referred) <= LONGEST_REFERENCE else f"{referred[:LONGEST_REFERENCE]} ..."
        paragraphs.append(f"[in reply to]\n{shown}\n[end of the reference]")
    return "\n\n".join(filter(None, (*paragraphs, question, surroundings.attachments)))


def _line(said: Said) -> str:
    """One line: nobody can begin another speaker's, or end the block."""
    return f"{_flat(said.name)}: {_flat(said.text)}".replace("[", "(").replace("]", ")")


def _flat(text: str) -> str:
    return " ".join(text.split())


async def _fit_background(engine: Engine, background: Sequence[Said], budget: int) -> Sequence[Said]:
    """The newest of it that takes at most `budget` tokens."""
    kept = list(background)
    while kept:
        lines = "\n".join(map(_line, kept))
        taken = await engine.count_tokens((ChatMessage("user", lines),))
        if taken <= budget:
            break
        kept = kept[max(1, len(kept) - len(kept) * budget // taken) :]
    return kept


def _steady_start(ids: Sequence[int], most: int) -> int:
    """Where to begin so that at most `most` messages follow: at the roundest number (in binary) near there.

    While messages come in, that one stays the roundest for several turns. What the engine has computed of the
    conversation then serves again, where a window that slides with each message would make it compute all anew.
    """
    if most == len(ids):
        return 0
    first = len(ids) - most
    candidates = range(first, first + int(STEADINESS * most) + 1)
    return max(candidates, key=lambda index: (ids[index] & -ids[index], -index))


def _to_chat_message(message: HistoryMessage, *, named: bool) -> ChatMessage:
    if message.role == "assistant":
        return ChatMessage("assistant", message.text)
    text = f"{message.text}\n\n{message.attachments}".strip() if message.attachments else message.text
    return ChatMessage("user", text, name=message.author_name if named else None)
