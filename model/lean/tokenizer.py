"""A tokenizer straight from tokenizer.json, and its chat template through jinja2: both exactly as in transformers.

What transformers would change after reading the file is refused, as are templates with more than the usual words.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Backend

from model.lean.shape import NotLean
from model.tokenizer import AddedToken

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_KNOWN = {
    *_NAMED, "backend", "clean_up_tokenization_spaces", "extra_special_tokens", "is_local", "local_files_only",
    "model_max_length", "tokenizer_class", "chat_template", "name_or_path",
}  # fmt: skip
_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Those that take tokenizer.json as it is; the others build the tokenizer anew."""
_UNUSUAL = re.compile(r"\bgeneration\b(?!_)|\bnamespace\b|\bdict\b")
_NOT_STATED = int(1e30)


class LeanTokenizer:
    """As `model.tokenizer.Tokenizer`."""

    def __init__(self, folder: Path) -> None:
        """Raises `NotLean`."""
        config = _read(folder / "tokenizer_config.json")
        if config.get("tokenizer_class") not in _CLASSES:
            raise NotLean(f"its tokenizer is a {config.get('tokenizer_class')}")
        if unknown := sorted(config.keys() - _KNOWN):
            raise NotLean(f"its tokenizer's configuration names {', '.join(unknown)}")
        for name in ("special_tokens_map.json", "added_tokens.json", "additional_chat_templates"):
            if (folder / name).exists():
                raise NotLean(f"its tokenizer has a {name}")
        try:
            self.backend_tokenizer = Backend.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more exact
            raise NotLean(f"its tokenizer.json cannot be read ({error})") from error
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        self.name_or_path = str(folder)
        self.model_max_length = int(config.get("model_max_length") or _NOT_STATED)
        self._added = self.backend_tokenizer.get_added_tokens_decoder()
        self._special = {name: config[name] for name in _NAMED if config.get(name) is not None}
        ids = [self._special_id(token) for token in self._special.values()]
        extra = [self._special_id(token) for token in config.get("extra_special_tokens") or ()]
        self.all_special_ids = list(dict.fromkeys([*ids, *extra]))
        self.bos_token_id, self.eos_token_id = (
            self._special_id(self._special[name]) if name in self._special else None
            for name in ("bos_token", "eos_token")
        )
        self.chat_template = _read_template(folder, config)

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        return self._added

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True, **_: Any) -> list[int]:
        ids: list[int] = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, tokens: list[int], *, skip_special_tokens: bool = False, **_: Any) -> str:
        text: str = self.backend_tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        return text

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.backend_tokenizer.id_to_token(token) for token in ids]

    def get_chat_template(self) -> str:
        if self.chat_template is None:
            raise ValueError("This tokenizer has no chat template.")
        return self.chat_template

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> str:
        """The text, never tokens. `options`: chat_template, add_generation_prompt, and what the template reads."""
        values = {"tools": None, "documents": None, **self._special, **options}
        return self._compile(values.pop("chat_template")).render(messages=conversation, **values)

    def _compile(self, template: str) -> Template:
        if template not in self._compiled:
            self._compiled[template] = self._environment.from_string(template)
        return self._compiled[template]

    @cached_property
    def _compiled(self) -> dict[str, Template]:
        return {}

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        """A template comes from a stranger: it cannot reach out of the sandbox."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment

    def _special_id(self, token: Any) -> int:
        token_id = self.backend_tokenizer.token_to_id(token) if isinstance(token, str) else None
        if token_id is None or token_id not in self._added or not self._added[token_id].special:
            raise NotLean(f"its tokenizer.json does not have {token!r} among its special tokens")
        return int(token_id)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotLean(f"its {path.name} cannot be read ({error})") from error
    if not isinstance(told, dict):
        raise NotLean(f"its {path.name} holds no object")
    return told


def _read_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.exists() else config.get("chat_template")
    if template is not None and (not isinstance(template, str) or _UNUSUAL.search(template)):
        raise NotLean("its chat template is an unusual one")
    return template


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own would escape what HTML needs escaped."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
