"""Dialogues of random words that take an exact number of tokens."""

import random
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from benchmarks.engine_peer import Prompt
from model.chat_format import ChatFormat
from model.request import ChatMessage

_WORD = re.compile(r"( [a-z]{3,}|[A-Z][a-z]+)")
_CANDIDATES = 2_000
_MOST_TRIES = 50


class Prompts:
    """Every prompt is new: no two have more in common than the template's own beginning."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> None:
        self._tokenizer = tokenizer
        self._format = ChatFormat(tokenizer)
        self._random = random.Random(seed)
        self._words = _lone_words(tokenizer, self._random)

    def of(self, tokens: int, history: tuple[ChatMessage, ...] = ()) -> Prompt:
        """A user's message after `history`, so long that the whole prompt has `tokens` tokens."""
        words = max(1, tokens - len(self._format.render((*history, ChatMessage("user", "")))))
        for _ in range(_MOST_TRIES):
            text = "".join(self._random.choices(self._words, k=words)).strip()
            messages = (*history, ChatMessage("user", text))
            ids = self._format.render(messages)
            if len(ids) == tokens:
                return Prompt(messages, tuple(ids))
            words = max(1, words + tokens - len(ids))
        raise ValueError(f"No message makes a prompt of {tokens} tokens; the last one had {len(ids)}.")

    def following(self, prompt: Prompt, reply: str, new_tokens: int) -> Prompt:
        """The next turn: the reply joins the history, and `new_tokens` come on top of what is known then."""
        history = (*prompt.messages, ChatMessage("assistant", reply))
        return self.of(self._length(prompt, history) + new_tokens, history)

    def decode(self, ids: Sequence[int]) -> str:
        """A reply as text, as a dialogue holds it."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _length(self, prompt: Prompt, history: tuple[ChatMessage, ...]) -> int:
        """Tokens up to the end of the reply itself: the template's own behind it are new to everybody."""
        marked = self._format.render((*history, ChatMessage("user", "")))
        plain = self._format.render((*prompt.messages, ChatMessage("assistant", ""), ChatMessage("user", "")))
        return len(prompt.ids) + len(marked) - len(plain)


def _lone_words(tokenizer: PreTrainedTokenizerBase, chance: random.Random) -> list[str]:
    """Texts that are one token wherever they stand."""
    texts = [
        tokenizer.decode([token]) for token in chance.sample(range(len(tokenizer)), len(tokenizer))[:20_000]
    ]
    words = [text for text in texts if _WORD.fullmatch(text)][:_CANDIDATES]
    return [word for word in words if len(tokenizer.encode(word * 3, add_special_tokens=False)) == 3]
