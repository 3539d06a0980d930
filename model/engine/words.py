"""The bytes of every token, and which tokens would complete a phrase. Knows no model and no scores."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]

PHRASES_KEPT = 1024
"""Tables of phrases per tokenizer; a phrase's table takes some kilobytes."""


class TokenTexts:
    """What each token of a tokenizer adds to a reply, in bytes: a character may be spread over several tokens.

    Special tokens add nothing. Where a tokenizer joins tokens in ways of its own (WordPiece), the bytes are those
    of the token after another one.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts
        self._phrases: dict[str, PhraseTable] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def bytes_of(self, token: int) -> bytes:
        """Rows that a model has beyond its tokenizer have no text."""
        return self._texts[token] if token < len(self._texts) else b""

    def text_of(self, token: int) -> str:
        return self.bytes_of(token).decode(errors="replace")

    def phrase(self, phrase: str) -> "PhraseTable":
        """The table of `phrase`, made once."""
        table = self._phrases.get(phrase)
        if table is None:
            if len(self._phrases) >= PHRASES_KEPT:
                self._phrases.clear()
            table = self._phrases[phrase] = PhraseTable(phrase.encode(), self)
        return table

    def starting_with(self, beginning: bytes) -> Ids:
        """Ids of the tokens whose text starts so."""
        ids, texts = self._sorted
        first = bisect_left(texts, beginning)
        last = bisect_left(texts, True, lo=first, key=lambda text: not text.startswith(beginning))
        return ids[first:last]

    def containing(self, part: bytes) -> Ids:
        return np.array([token for token, text in enumerate(self._texts) if part in text], dtype=np.int64)

    @cached_property
    def _sorted(self) -> tuple[Ids, list[bytes]]:
        ids = sorted(range(len(self._texts)), key=self._texts.__getitem__)
        return np.array(ids, dtype=np.int64), [self._texts[token] for token in ids]


class PhraseTable:
    """Knuth, Morris and Pratt's automaton of a phrase, fed with tokens.

    A state is how many bytes of the phrase the reply ends with; it begins at 0.
    """

    def __init__(self, phrase: bytes, texts: TokenTexts) -> None:
        self._phrase = phrase
        self._texts = texts
        self._shorter = _failure(phrase)
        self.always: Ids = texts.containing(phrase)
        """The tokens that hold the whole phrase themselves."""
        self._completing: dict[int, Ids] = {0: np.empty(0, dtype=np.int64)}

    def completing(self, state: int) -> Ids:
        """The tokens beside `always` that would complete the phrase in this state."""
        known = self._completing.get(state)
        if known is None:
            # What is left of the phrase, or of its shorter beginning that the reply ends with as well.
            longer = self._texts.starting_with(self._phrase[state:])
            known = np.union1d(longer, self.completing(self._shorter[state]))
            self._completing[state] = known
        return known

    def advance(self, state: int, token: int) -> int:
        for byte in self._texts.bytes_of(token):
            while state and (state == len(self._phrase) or self._phrase[state] != byte):
                state = self._shorter[state]
            state += self._phrase[state] == byte
        return state


_known: WeakKeyDictionary[Tokenizer, TokenTexts] = WeakKeyDictionary()


def token_texts(tokenizer: Tokenizer) -> TokenTexts:
    """The texts of a tokenizer, read once: half a second for 150,000 tokens."""
    texts = _known.get(tokenizer)
    if texts is None:
        texts = _known[tokenizer] = TokenTexts(_read(tokenizer))
    return texts


def _read(tokenizer: Tokenizer) -> list[bytes]:
    pieces: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    silent = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    silent.update(tokenizer.all_special_ids)
    to_bytes = _reader(tokenizer)
    return [
        b"" if piece is None or token in silent else to_bytes(token, piece)
        for token, piece in enumerate(pieces)
    ]


def _reader(tokenizer: Tokenizer) -> Callable[[int, str], bytes]:
    """How this tokenizer writes bytes in the names of its tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = repr(backend.decoder) if backend is not None else ""
    if "ByteLevel" in decoder:
        return _from_byte_level
    if "ByteFallback" in decoder or "Metaspace" in decoder:
        return _from_sentencepiece
    return _by_decoding(tokenizer)


def _from_byte_level(token: int, piece: str) -> bytes:
    """GPT-2's way: every byte has a printable character. A token with other characters is taken as it stands."""
    written = piece.translate(_BYTE_LEVEL)
    try:
        return written.encode("latin-1")
    except UnicodeEncodeError:
        return piece.encode()


def _from_sentencepiece(token: int, piece: str) -> bytes:
    """Spaces are written as U+2581, and bytes that are no character as <0xE4>."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


def _by_decoding(tokenizer: Tokenizer) -> Callable[[int, str], bytes]:
    def decode(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    anchor = next(iter(tokenizer.encode("a", add_special_tokens=False)), 0)
    before = decode([anchor])
    return lambda token, _: decode([anchor, token]).removeprefix(before).encode()


def _byte_level_alphabet() -> dict[int, int]:
    """From GPT-2's printable character to the byte it stands for; 256 marks what stands for none."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = dict.fromkeys(others, 256)
    table.update({byte: byte for byte in printable})
    table.update({256 + place: byte for place, byte in enumerate(others)})
    return table


_BYTE_LEVEL = _byte_level_alphabet()


def _failure(phrase: bytes) -> list[int]:
    """For every number of matched bytes, the next smaller one that the same ending matches."""
    shorter = [0, 0]
    length = 0
    for place in range(1, len(phrase)):
        while length and phrase[place] != phrase[length]:
            length = shorter[length]
        length += phrase[place] == phrase[length]
        shorter.append(length)
    return shorter
