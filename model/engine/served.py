"""The seam to models: what the engine asks of one, whoever computes it. Imports neither torch nor transformers."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from model.chat_format import ChatFormat
from model.engine.runner import Runner
from model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from model.engine.lora import Adapters

Quantisation = Literal["none", "int8", "int4"]


class Opened(NamedTuple):
    runner: Runner
    adapters: "Adapters | None"
    """None where the model takes none as it is computed here: see `ServedModel.in_full`."""


class ServedModel(Protocol):
    """A model in memory: `LoadedModel` is transformers' own, `LeanModel` the lean way."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def parameters(self) -> int: ...

    @property
    def vocabulary(self) -> int:
        """How many scores it gives."""
        ...

    @property
    def context_tokens(self) -> int: ...

    @property
    def sampling_defaults(self) -> tuple[tuple[str, float], ...]: ...

    @property
    def stop_token_ids(self) -> frozenset[int]: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def format(self) -> ChatFormat: ...

    def open_runner(
        self, *, context_tokens: int, max_running: int, cache_bytes: int | None, quantise: Quantisation
    ) -> Opened:
        """Make it ready to serve. Raises `ModelUnusable`."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """What the engine's thread is in while it computes."""
        ...

    def in_full(self) -> "ServedModel":
        """The same model in a form that takes adapters. May take seconds, and as much memory again for a while."""
        ...
