"""From tokens to text that may be shown: whole characters, up to the stop string. Cost is linear in the tokens."""

from collections.abc import Sequence

from model.tokenizer import Tokenizer

UNFINISHED = "\ufffd"
"""How a decoder writes the bytes of a character that is not complete yet."""
_MOST_UNFINISHED = 3


class ReplyText:
    """One reply as it grows. White space before its first word belongs to the template and is dropped."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._characters = _Characters(tokenizer)
        self._stops = tuple(stops)
        self._held = ""
        self._began = False

    def push(self, token: int) -> tuple[str, bool]:
        """What can be shown now, and whether a stop string has ended the reply."""
        self._held += self._characters.push(token)
        ends = [end for stop in self._stops if (end := self._held.find(stop)) >= 0]
        if ends:
            text, self._held = self._held[: min(ends)], ""
            return self._from_first_word(text), True
        shown = len(self._held) - self._possible_stop()
        text, self._held = self._held[:shown], self._held[shown:]
        return self._from_first_word(text), False

    def flush(self) -> str:
        """What was held back and now turns out to belong to the reply."""
        text = self._held + self._characters.flush()
        self._held = ""
        return self._from_first_word(text)

    def _possible_stop(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _from_first_word(self, text: str) -> str:
        if not self._began:
            text = text.lstrip()
            self._began = bool(text)
        return text


class _Characters:
    """Decodes a window of tokens: a token's text can depend on the one before it, and a character on several."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []  # the last tokens whose text is complete
        self._window: list[int] = []  # the tokens since
        self._shown = 0  # characters of before + window that were given out

    def push(self, token: int) -> str:
        self._window.append(token)
        text = self._decode(self._before + self._window)
        unfinished = min(len(text) - len(text.rstrip(UNFINISHED)), _MOST_UNFINISHED)
        complete = len(text) - unfinished
        new = text[self._shown : complete]
        self._shown = max(self._shown, complete)
        if not unfinished and new:
            self._before, self._window = self._window, []
            self._shown = len(self._decode(self._before))
        return new

    def flush(self) -> str:
        text = self._decode(self._before + self._window)[self._shown :]
        self._shown += len(text)
        return text

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
