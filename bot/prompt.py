"""Builds what the model sees: the persona, then as much of the newest history as the token budget holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.protocol import Engine
from model.request import ChatMessage
from storage.conversations import HistoryMessage

STEADINESS = 0.3
"""Share of the history that fits which may be left out besides."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`message_ids` are the stored messages that the model sees, oldest first; `left_out` older ones did not fit."""

    messages: tuple[ChatMessage, ...]
    message_ids: tuple[int, ...]
    left_out: int
    oldest_id: int
    """Of the messages that there were to choose from."""


async def build_prompt(
    engine: Engine, *, persona: str, history: Sequence[HistoryMessage], token_budget: int, named: bool
) -> Prompt:
    """A long run of newest messages whose rendered prompt takes at most `token_budget` tokens.

    It is the longest one, or begins up to `STEADINESS` of it later, so that the next prompts begin alike.
    `history` is oldest first and ends with the question, which is kept even if it alone is over the budget.
    `named` tells the model who speaks, as it must know wherever several people may talk.
    """
    system = (ChatMessage("system", persona),) if persona else ()
    dialogue = [_to_chat_message(message, named=named) for message in history]
    fewest, most = 1, len(dialogue)
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
    return ChatMessage("user", message.text, name=message.author_name if named else None)
