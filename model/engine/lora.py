"""LoRA adapters beside one base model: each row of a batch is computed with the adapter that it asks for, or none.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); the scale of rank-stabilised LoRA is
Kalajdzievski's (2023). Folders are in PEFT's format. The base's weights are never touched.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from model.engine.packed import PackedLinear
from model.errors import BadRequest
from model.request import AdapterRef

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "biases of its own (lora_bias)",
    "modules_to_save": "whole modules of its own (modules_to_save)",
    "target_parameters": "parameters instead of modules (target_parameters)",
    "trainable_token_indices": "tokens of its own (trainable_token_indices)",
    "layer_replication": "repeated layers (layer_replication)",
    "alora_invocation_tokens": "activation by tokens (aLoRA)",
    "use_qalora": "QALoRA",
    "arrow_config": "routing between adapters (Arrow)",
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin a training that alter the base's weights: the adapter then fits only the altered ones."""


class Adapters:
    """The adapters that are attached to `model`. An attached one is known by its key: its name and a fingerprint.

    Weights that change under a name get another key; replies that began with the old ones go on with the old key,
    until that is released. Not for several threads at once, but for `read`.
    """

    def __init__(self, model: PreTrainedModel, *, base_version: str) -> None:
        self._model = model
        self._base_version = base_version
        self._attached: dict[str, LoraAdapter] = {}
        self.batch = Batch()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._attached)

    def attach(self, ref: AdapterRef) -> str:
        """Read the folder and serve it from now on; the key to ask for it with. The same weights have the same key.

        Raises `BadRequest` with every fault of the folder.
        """
        return self.add(self.read(ref))

    def read(self, ref: AdapterRef) -> "LoraAdapter":
        """Read and check a folder without attaching it. Takes long, and may run on any thread meanwhile."""
        return _read_adapter(self._model, ref, self._base_version)

    def add(self, adapter: "LoraAdapter") -> str:
        """Attach what was read. Takes a moment."""
        if adapter.key not in self._attached:
            self._attached[adapter.key] = adapter
            for name, pair in adapter.pairs.items():
                self._wrapped(name).pairs[adapter.key] = pair
        return adapter.key

    def release(self, key: str) -> None:
        """Forget the adapter; modules that no other one targets run as they did before. Unknown: `BadRequest`."""
        if key not in self._attached:
            raise BadRequest(f"There is no adapter {key!r}; there are {', '.join(self._attached) or 'none'}.")
        for name in self._attached.pop(key).pairs:
            wrapped = self._wrapped(name)
            del wrapped.pairs[key]
            wrapped.forget_stack()
            if not wrapped.pairs:
                self._model.set_submodule(name, wrapped.base)

    @contextmanager
    def applied(self, rows: Sequence[tuple[str | None, int]]) -> Iterator[None]:
        """For the forward passes inside: the key of an adapter, or None, and its number of tokens, in their order."""
        for key, _ in rows:
            if key is not None and key not in self._attached:
                raise BadRequest(
                    f"There is no adapter {key!r}; there are {', '.join(self._attached) or 'none'}."
                )
        self.batch = Batch(rows)
        try:
            yield
        finally:
            self.batch = Batch()

    def _wrapped(self, name: str) -> "AdaptedLinear":
        """The module, wrapped for these adapters: another engine may have served the model before."""
        module = self._model.get_submodule(name)
        if not isinstance(module, AdaptedLinear) or module.adapters is not self:
            module = AdaptedLinear(module.base if isinstance(module, AdaptedLinear) else module, self)
            self._model.set_submodule(name, module)
        return module


@dataclass(frozen=True, slots=True)
class Pair:
    """What an adapter adds to one module: x @ down.T @ up, scaled already."""

    down: Tensor
    """rank x in"""
    up: Tensor
    """rank x out"""


@dataclass(frozen=True, slots=True, eq=False)
class LoraAdapter:
    key: str
    pairs: Mapping[str, Pair]
    """By the names of modules."""


class Batch:
    """Which rows belong to which adapter, for the passes inside `Adapters.applied`. Read by every adapted module."""

    def __init__(self, rows: Sequence[tuple[str | None, int]] = ()) -> None:
        self.keys = tuple(dict.fromkeys(key for key, _ in rows if key is not None))
        self.alike = len({key for key, _ in rows}) == 1
        self._rows = rows
        self._foreign: dict[tuple[int, ...], Tensor] = {}

    def foreign(self, ranks: tuple[int, ...], device: torch.device) -> Tensor:
        """Tokens x all ranks: where a rank belongs to another adapter than the token's. Mostly made once a pass."""
        if ranks not in self._foreign:
            columns = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
            self._foreign[ranks] = (self._owners[:, None] != columns).to(device)
        return self._foreign[ranks]

    @cached_property
    def _owners(self) -> Tensor:
        numbers = {key: number for number, key in enumerate(self.keys)}
        return torch.repeat_interleave(
            torch.tensor([-1 if key is None else numbers[key] for key, _ in self._rows]),
            torch.tensor([tokens for _, tokens in self._rows]),
        )


class AdaptedLinear(nn.Module):
    """A linear layer, and what the adapters of the batch add to their own rows: nothing to those without one."""

    def __init__(self, base: nn.Module, adapters: Adapters) -> None:
        super().__init__()
        self.base = base
        self.adapters = adapters
        self.pairs: dict[str, Pair] = {}
        self._stack: tuple[tuple[str, ...], tuple[int, ...], Pair | None] = ((), (), None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        batch = self.adapters.batch
        if not batch.keys:
            return y
        ranks, pair = self._stacked(batch.keys)
        if pair is None:
            return y
        # All adapters at once: two products, however many there are. What belongs to others counts as zero.
        inner = linear(x.reshape(-1, x.shape[-1]), pair.down)
        if not batch.alike:
            inner.masked_fill_(batch.foreign(ranks, x.device), 0)
        y.view(-1, y.shape[-1]).addmm_(inner, pair.up)
        return y

    def forget_stack(self) -> None:
        self._stack = ((), (), None)

    def _stacked(self, keys: tuple[str, ...]) -> tuple[tuple[int, ...], Pair | None]:
        """The pairs of `keys` below each other; kept, because the next pass mostly has the same adapters."""
        if self._stack[0] != keys:
            pairs = [self.pairs.get(key) for key in keys]
            present = [pair for pair in pairs if pair is not None]
            stack = present[0] if len(present) == 1 else None
            if len(present) > 1:
                stack = Pair(
                    torch.cat([pair.down for pair in present]), torch.cat([pair.up for pair in present])
                )
            self._stack = (keys, tuple(0 if pair is None else len(pair.down) for pair in pairs), stack)
        return self._stack[1:]


def _read_adapter(model: PreTrainedModel, ref: AdapterRef, base_version: str) -> LoraAdapter:
    folder = Path(ref.path)
    faults: list[str] = []
    if not folder.is_dir():
        raise _refusal(ref, [f"there is no folder {folder}"])
    config = _read_config(folder, faults)
    tensors = _read_tensors(folder, faults)
    if faults:
        raise _refusal(ref, faults)
    faults += _find_unsupported(config)
    found = _sort_tensors(tensors, faults)
    numbers = list(_find_bad_numbers(config))
    ranks = {name: None if numbers else _of_module(config, "rank_pattern", name, "r") for name in found}
    faults += numbers
    faults += [
        fault for name, sides in found.items() if (fault := _find_misfit(model, name, sides, ranks[name]))
    ]
    if not tensors:
        faults.append(f"{WEIGHTS} holds no tensors")
    if faults:
        raise _refusal(ref, faults)
    pairs = {
        name: _to_pair(model, sides["A"], sides["B"], _scale(config, name, sides["A"].shape[0]))
        for name, sides in sorted(found.items())
    }
    return LoraAdapter(f"{ref.name}@{_fingerprint(base_version, pairs)}", pairs)


def _read_config(folder: Path, faults: list[str]) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{CONFIG} cannot be read ({error.strerror})")
        return {}
    except ValueError as error:
        faults.append(f"{CONFIG} is no JSON ({error})")
        return {}
    if not isinstance(config, dict):
        faults.append(f"{CONFIG} holds no object")
        return {}
    return config


def _read_tensors(folder: Path, faults: list[str]) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = " (adapter_model.bin could run code, and is never opened)" if pickled else ""
        faults.append(f"there is no {WEIGHTS}{why}")
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        faults.append(f"{WEIGHTS} cannot be read ({error})")
        return {}


def _find_unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    kind = config.get("peft_type")
    if kind != "LORA":
        yield f"it is of the type {kind!r}, and only LORA is served"
    for name, what in _UNSUPPORTED.items():
        if config.get(name):
            yield f"it uses {what}, which is not served"
    if config.get("bias", "none") != "none":
        yield f"it changes biases (bias={config['bias']!r}), which is not served"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        yield f"it was begun with {start!r}, which alters the base's weights"


def _find_bad_numbers(config: Mapping[str, Any]) -> Iterator[str]:
    """In the rank and in alpha, and in what says of some modules that they have others."""
    for name, patterns in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        of_modules = config.get(patterns) or {}
        if not isinstance(of_modules, dict) or not all(map(_is_pattern, of_modules)):
            yield f"its {patterns} must name modules by regular expressions, and is {of_modules!r}"
            of_modules = {}
        for value in (config.get(name), *of_modules.values()):
            whole = name == "r"
            known = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not known or not 0 < value < math.inf:
                what = "a whole number" if whole else "a number"
                yield f"its {name} must be {what} above 0, and is {value!r}"


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _sort_tensors(tensors: Mapping[str, Tensor], faults: list[str]) -> dict[str, dict[str, Tensor]]:
    """By module and side, A or B."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            faults.append(f"the tensor {name} is neither a lora_A nor a lora_B of a linear module")
        elif not tensor.is_floating_point():
            faults.append(f"the tensor {name} is of the type {tensor.dtype}")
        elif not bool(tensor.isfinite().all()):
            faults.append(f"the tensor {name} holds values that are no numbers")
        else:
            found.setdefault(match["module"], {})[match["side"]] = tensor
    return found


def _find_misfit(
    model: PreTrainedModel, name: str, sides: Mapping[str, Tensor], rank: int | None
) -> str | None:
    """Why the model cannot take the tensors for `name`; `rank` is None where the configuration states none."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return f"the model has no module {name}"
    module = module.base if isinstance(module, AdaptedLinear) else module
    if not isinstance(module, nn.Linear | Conv1D | PackedLinear):
        return f"the module {name} is a {type(module).__name__}, and only linear ones can be adapted"
    if module is model.get_output_embeddings():
        return f"the module {name} is the model's head, which cannot be adapted"
    if set(sides) != {"A", "B"}:
        return f"the module {name} has a lora_{min(sides)} alone"
    inputs, outputs = (
        (module.nx, module.nf) if isinstance(module, Conv1D) else (module.in_features, module.out_features)
    )
    down, up = list(sides["A"].shape), list(sides["B"].shape)
    if rank is not None and (down, up) != ([rank, inputs], [outputs, rank]):
        return (
            f"the module {name} takes a lora_A of {rank} x {inputs} and a lora_B of {outputs} x {rank}, "
            f"and the file has {' x '.join(map(str, down))} and {' x '.join(map(str, up))}"
        )
    return None


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    alpha = float(_of_module(config, "alpha_pattern", name, "lora_alpha"))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(config: Mapping[str, Any], patterns: str, name: str, default: str) -> Any:
    """As PEFT reads its patterns: a key is a regular expression for the end of a module's name."""
    for pattern, value in (config.get(patterns) or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return config[default]


def _to_pair(model: PreTrainedModel, down: Tensor, up: Tensor, scale: float) -> Pair:
    """In the model's own precision; the scale is multiplied in before anything is rounded."""
    target = {"device": model.device, "dtype": model.dtype}
    return Pair(down.to(**target).contiguous(), (up.float() * scale).t().contiguous().to(**target))


def _fingerprint(base_version: str, pairs: Mapping[str, Pair]) -> str:
    """Of what is computed: the weights with their scale, and the base that they are added to."""
    digest = hashlib.sha256(base_version.encode())
    for name, pair in pairs.items():
        for tensor in (pair.down, pair.up):
            digest.update(f"\0{name}\0{list(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _refusal(ref: AdapterRef, faults: Sequence[str]) -> BadRequest:
    """One sentence with every fault; what is wrong in each layer alike is told once."""
    alike = Counter(re.sub(r"(?<=\.)\d+(?=\.)", "*", fault) for fault in faults)
    first = {re.sub(r"(?<=\.)\d+(?=\.)", "*", fault): fault for fault in reversed(faults)}
    told = [
        first[shape] if count == 1 else f"{shape} ({count} modules alike)" for shape, count in alike.items()
    ]
    return BadRequest(f"The adapter {ref.name!r} cannot be used: {'; '.join(told)}.")
