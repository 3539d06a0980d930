"""What goes into an engine and what comes out: plain frozen values, importable without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from model.errors import BadRequest

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]
ConstraintKind = Literal["json_schema", "regex", "grammar"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a dialogue. `name` is the speaker, told to the model only when it is set."""

    role: Role
    content: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a whole reply must be. `text` is a JSON schema, a regular expression, or a grammar in Lark's syntax.

    Whether it can be compiled shows when an engine takes it up, as a `BadRequest`.
    """

    kind: ConstraintKind
    text: str

    def __post_init__(self) -> None:
        if self.kind not in _CONSTRAINTS:
            raise BadRequest(f"constraint is one of {', '.join(_CONSTRAINTS)}, and not {self.kind!r}.")
        if not isinstance(self.text, str) or not self.text.strip():
            raise BadRequest(f"The {self.kind} of the constraint must be text, and is {self.text!r}.")

    @classmethod
    def from_mapping(cls, values: Mapping[Any, Any]) -> Self:
        """From `{"json_schema": {...}}`, `{"regex": "..."}` or `{"grammar": "..."}`; a schema may be its text."""
        if not isinstance(values, Mapping) or len(values) != 1:
            raise BadRequest(f"constraint names one of {', '.join(_CONSTRAINTS)}, and is {values!r}.")
        [(kind, value)] = values.items()
        if kind == "json_schema" and isinstance(value, Mapping | bool):
            value = json.dumps(value)
        return cls(kind, value)


_CONSTRAINTS = get_args(ConstraintKind)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, with the meaning that transformers' logits processors give these names.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0, `typical_p` 1, `repetition_penalty` 1 and
    `no_repeat_ngram_size` 0 switch each one off. `presence_penalty` and `frequency_penalty` count the reply alone,
    as OpenAI defines them. `logit_bias` holds pairs of a token id and what is added to its score.
    `max_tokens` bounds the reply in tokens; before `min_tokens` it cannot stop by itself. `stop` strings end the
    reply and are not part of it; `banned_phrases` never appear in it. A `constraint` shapes the whole of it.
    `logprobs` is how many of the likeliest tokens are told beside each chosen one; None tells nothing.
    The same `seed` gives the same text; None draws one, which the `Completion` then tells.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.05
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    banned_phrases: tuple[str, ...] = ()
    min_tokens: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None
    logprobs: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, lowest, highest in _RANGES:
            _check_number(name, getattr(self, name), lowest, highest)
        for name in _WHOLE:
            if not isinstance(getattr(self, name), int):
                raise BadRequest(f"{name} must be a whole number, and is {getattr(self, name)!r}.")
        for name in ("top_p", "typical_p"):
            if getattr(self, name) == 0:
                raise BadRequest(f"{name} must be above 0: at 0 no token could be chosen.")
        if self.min_tokens > self.max_tokens:
            raise BadRequest(
                f"min_tokens is {self.min_tokens}, which is more than max_tokens {self.max_tokens}."
            )
        if not all(self.stop):
            raise BadRequest("stop holds an empty string, which would end every reply at once.")
        self._check_biases()
        self._check_phrases()
        if self.logprobs is not None:
            _check_number("logprobs", self.logprobs, 0, MOST_LOGPROBS)
            if not isinstance(self.logprobs, int):
                raise BadRequest(f"logprobs must be a whole number, and is {self.logprobs!r}.")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise BadRequest(f"seed must lie between 0 and 2**63 - 1, and is {self.seed}.")

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Self:
        """Build from named values, as they stand in JSON: lists are taken for tuples, mappings for pairs.

        An unknown name is a `BadRequest` that lists the known ones.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise BadRequest(f"{name!r} is no sampling parameter; there are {', '.join(known)}.")
        values = dict(values)
        for name in ("stop", "banned_phrases"):
            if name in values:
                given = values[name]
                values[name] = (given,) if isinstance(given, str) else tuple(given)
        if "logit_bias" in values:
            given = values["logit_bias"]
            pairs = given.items() if isinstance(given, Mapping) else given
            values["logit_bias"] = tuple((_token(token), bias) for token, bias in pairs)
        if values.get("constraint") is not None and not isinstance(values["constraint"], Constraint):
            values["constraint"] = Constraint.from_mapping(values["constraint"])
        return cls(**values)

    def _check_biases(self) -> None:
        for token, bias in self.logit_bias:
            if isinstance(token, bool) or not isinstance(token, int) or token < 0:
                raise BadRequest(f"logit_bias takes token ids, and {token!r} is none.")
            _check_number(f"The logit_bias of token {token}", bias, -100, 100)
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise BadRequest("logit_bias names a token twice.")

    def _check_phrases(self) -> None:
        for phrase in self.banned_phrases:
            if not isinstance(phrase, str) or not phrase:
                raise BadRequest(f"banned_phrases must be texts, and one is {phrase!r}.")
            if "\ufffd" in phrase or any("\ud800" <= character <= "\udfff" for character in phrase):
                raise BadRequest(
                    f"The banned phrase {phrase!r} holds a character that stands for broken text."
                )


MOST_LOGPROBS = 20
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0.0, 5.0),
    ("top_k", 0, 1_000_000),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("typical_p", 0.0, 1.0),
    ("repetition_penalty", 0.1, 5.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("no_repeat_ngram_size", 0, 1_000_000),
    ("min_tokens", 0, 1_000_000),
    ("max_tokens", 1, 1_000_000),
)
_WHOLE = ("top_k", "no_repeat_ngram_size", "min_tokens", "max_tokens")


def _check_number(name: str, value: object, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise BadRequest(f"{name} must lie between {lowest} and {highest}, and is {value!r}.")


def _token(key: object) -> object:
    """JSON writes the keys of a mapping as strings."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter by name, and the folder that it is loaded from."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One turn for the engine. `conversation` keys cache reuse and fairness, and may be empty."""

    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams = SamplingParams()
    conversation: str = ""
    adapter: AdapterRef | None = None
    deadline_seconds: float | None = None
    """From the call on; None waits for as long as it takes."""


@dataclass(frozen=True, slots=True)
class Completion:
    """How a generation ended and what it cost. Times are in seconds."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seed: int
    queue_seconds: float
    first_token_seconds: float
    """From the call to the first token (TTFT)."""
    total_seconds: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely the model itself found a token: natural logarithms, before any of the sampling parameters."""

    token: int
    text: str
    """Its own text; a token that holds only part of a character shows U+FFFD."""
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens and their logarithms, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the reply. The last one, and only that one, carries `finish`; its text may be empty."""

    text: str
    finish: Completion | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of the tokens since the last piece, where the request asked for them; `text` may hold some of theirs back."""


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """What serves, and how busy it is."""

    model: str
    version: str
    device: str
    dtype: str
    parameters: int
    context_tokens: int
    """Prompt and reply together."""
    running: int = 0
    waiting: int = 0
    sampling_defaults: tuple[tuple[str, float], ...] = ()
    """What the checkpoint itself recommends, by the names of `SamplingParams`; empty where it says nothing."""
