"""Constraints on a whole reply: JSON schemas, regular expressions and grammars, compiled by llguidance.

Knows no scores: a `Matcher` tells which tokens may come next.
"""

from copy import copy
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.errors import BadRequest
from model.request import Constraint
from model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

COMPILED_KEPT = 64
"""Compiled constraints per tokenizer: a command that wants JSON sends the same schema every time."""

# As json.dumps writes it. Free white space would let a model go on with it for ever.
_JSON_STYLE: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


class Matcher:
    """How far a reply has come within its constraint."""

    def __init__(self, matcher: "LLMatcher", constraint: Constraint) -> None:
        self._matcher = matcher
        self._constraint = constraint

    @property
    def satisfied(self) -> bool:
        """The reply may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def complete(self) -> bool:
        """The reply must end here."""
        return bool(self._matcher.is_stopped())

    def mask(self, vocabulary: int) -> npt.NDArray[np.bool_]:
        """Which of the model's tokens may come next. Stop tokens are the caller's: see `satisfied`.

        Raises `BadRequest` where the constraint became too complex, or a token outside of it was accepted.
        """
        packed = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise _refused(self._constraint, self._matcher.get_error())
        mask = np.zeros(vocabulary, dtype=np.bool_)
        allowed = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")[:vocabulary]
        mask[: len(allowed)] = allowed
        return mask

    def accept(self, token: int) -> None:
        """A token that `mask` did not allow shows as a `BadRequest` of the next `mask`."""
        self._matcher.consume_token(token)


def compile_constraint(constraint: Constraint, tokenizer: Tokenizer) -> Matcher:
    """A new `Matcher` at its start. Takes milliseconds, the first of a tokenizer up to seconds: not for an event loop.

    Raises `BadRequest` with the constraint and the reason where it cannot be compiled.
    """
    with _lock:
        known = _known.get(tokenizer)
        if known is None:
            known = _known[tokenizer] = _Compiler(tokenizer)
    return known.compile(constraint)


class _Compiler:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = _wrap(tokenizer)
        self._compiled: dict[Constraint, LLMatcher] = {}

    def compile(self, constraint: Constraint) -> Matcher:
        from llguidance import LLMatcher

        compiled = self._compiled.get(constraint)
        if compiled is None:
            compiled = LLMatcher(self._tokenizer, _grammar(constraint), log_level=0)
            if compiled.is_error():
                raise _refused(constraint, compiled.get_error())
            if len(self._compiled) >= COMPILED_KEPT:
                self._compiled.clear()
            self._compiled[constraint] = compiled
        return Matcher(compiled.deep_copy(), constraint)


_known: WeakKeyDictionary[Tokenizer, _Compiler] = WeakKeyDictionary()
_lock = Lock()


def _wrap(tokenizer: Tokenizer) -> "LLTokenizer":
    """From the description that the tokenizers library itself writes; the library is imported when first needed."""
    from llguidance import LLTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BadRequest(
            "This model's tokenizer cannot serve constraints: Only fast tokenizers are supported."
        )
    plain = copy(backend)
    plain.no_padding()
    plain.no_truncation()
    try:
        return LLTokenizer(plain.to_str(), eos_token=tokenizer.eos_token_id)
    except ValueError as error:
        raise BadRequest(f"This model's tokenizer cannot serve constraints: {error}.") from error


def _grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher

    if constraint.kind == "regex":
        return LLMatcher.grammar_from_regex(constraint.text)
    if constraint.kind == "grammar":
        return LLMatcher.grammar_from_lark(constraint.text)
    try:
        return LLMatcher.grammar_from_json_schema(constraint.text, defaults=_JSON_STYLE)
    except ValueError as error:
        raise _refused(constraint, str(error)) from error


def _refused(constraint: Constraint, reason: str) -> BadRequest:
    text = constraint.text if len(constraint.text) <= 200 else f"{constraint.text[:200]}..."
    return BadRequest(f"The {constraint.kind} {text!r} cannot be used: {' '.join(reason.split())}")
