"""The seam to tokenizers: what Parley asks of one. transformers' fast tokenizers are such, and `LeanTokenizer`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class AddedToken(Protocol):
    @property
    def content(self) -> str: ...

    @property
    def special(self) -> bool: ...


class Tokenizer(Protocol):
    """With the names that transformers gives these."""

    @property
    def chat_template(self) -> Any: ...

    @property
    def name_or_path(self) -> str: ...

    @property
    def model_max_length(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Tokens that stand beside the vocabulary, by their ids."""
        ...

    def __len__(self) -> int: ...

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def decode(self, tokens: list[int], **options: Any) -> str: ...

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]: ...

    def get_chat_template(self) -> str: ...

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> str: ...
