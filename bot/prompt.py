"""Builds what the model sees: the persona, then as much of the newest history as the token budget holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.protocol import Engine
from model.request import ChatMessage
from storage.conversations import HistoryMessage


@dataclass(frozen=True, slots=True)
class Prompt:
    """`message_ids` are the stored messages that the model sees, oldest first; `left_out` older ones did not fit."""

    messages: tuple[ChatMessage, ...]
    message_ids: tuple[int, ...]
    left_out: int


async def build_prompt(
    engine: Engine, *, persona: str, history: Sequence[HistoryMessage], token_budget: int, named: bool
) -> Prompt:
    """The longest run of newest messages whose rendered prompt takes at most `token_budget` tokens.

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
    return Prompt(
        messages=(*system, *dialogue[-fewest:]),
        message_ids=tuple(message.id for message in history[-fewest:]),
        left_out=len(history) - fewest,
    )


def _to_chat_message(message: HistoryMessage, *, named: bool) -> ChatMessage:
    if message.role == "assistant":
        return ChatMessage("assistant", message.text)
    return ChatMessage("user", message.text, name=message.author_name if named else None)
