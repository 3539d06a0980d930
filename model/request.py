"""What goes into an engine and what comes out: plain frozen values, importable without torch."""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from model.errors import BadRequest

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a dialogue. `name` is the speaker, told to the model only when it is set."""

    role: Role
    content: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, with the meaning that transformers' logits processors give these names.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 switch each one off.
    `max_tokens` bounds the reply in tokens. `stop` strings end the reply and are not part of it. The same `seed`
    gives the same text; None draws one, which the `Completion` then tells.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.05
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not lowest <= value <= highest
            ):
                raise BadRequest(f"{name} must lie between {lowest} and {highest}, and is {value!r}.")
        for name in ("top_k", "max_tokens"):
            if not isinstance(getattr(self, name), int):
                raise BadRequest(f"{name} must be a whole number, and is {getattr(self, name)!r}.")
        if self.top_p == 0:
            raise BadRequest("top_p must be above 0: at 0 no token could be chosen.")
        if not all(self.stop):
            raise BadRequest("stop holds an empty string, which would end every reply at once.")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise BadRequest(f"seed must lie between 0 and 2**63 - 1, and is {self.seed}.")

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Self:
        """Build from named values; an unknown name is a `BadRequest` that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise BadRequest(f"{name!r} is no sampling parameter; there are {', '.join(known)}.")
        if "stop" in values:
            values = {**values, "stop": tuple(values["stop"])}
        return cls(**values)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0.0, 5.0),
    ("top_k", 0, 1_000_000),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.1, 5.0),
    ("max_tokens", 1, 1_000_000),
)


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
class Delta:
    """A piece of the reply. The last one, and only that one, carries `finish`; its text may be empty."""

    text: str
    finish: Completion | None = None


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
