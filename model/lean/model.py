"""Whether a checkpoint can go the lean way, and the model that this makes. What cannot is for `model.loading`."""

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.chat_format import ChatFormat
from model.checkpoint import Checkpoint
from model.engine.kv_cache import KVCache
from model.engine.room import free_memory, size_cache
from model.engine.served import Opened, Quantisation, ServedModel
from model.errors import ModelUnusable
from model.fitting import check_memory, choose_device, choose_dtype, recommended_sampling
from model.hardware import one_thread, torch_computing
from model.lean.runner import Decoder, LeanRunner
from model.lean.shape import EMBEDDING, HEAD, NotLean, Shape, read_shape
from model.lean.small import SmallDecoder
from model.lean.tokenizer import LeanTokenizer
from model.lean.weights import Tensors, check_tensors
from model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SMALL = 30_000_000
"""Parameters below which numpy computes, and the processor serves also where there is a GPU: calls cost most."""


@dataclass(frozen=True, slots=True, eq=False)
class LeanModel:
    """A `ServedModel` on the processor, without transformers; small ones without torch."""

    checkpoint: Checkpoint
    shape: Shape
    decoder: Decoder
    tokenizer: Tokenizer
    format: ChatFormat
    dtype: str
    stop_token_ids: frozenset[int]
    sampling_defaults: tuple[tuple[str, float], ...]
    small: bool
    device: str = "cpu"

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def version(self) -> str:
        return f"{self.checkpoint.name}@{self.checkpoint.fingerprint}"

    @property
    def parameters(self) -> int:
        twice = self.shape.tied and HEAD in self.checkpoint.tensors
        return self.checkpoint.parameters - (self.shape.vocabulary * self.shape.hidden if twice else 0)

    @property
    def vocabulary(self) -> int:
        return self.shape.vocabulary

    @property
    def context_tokens(self) -> int:
        return self.shape.positions

    def open_runner(
        self, *, context_tokens: int, max_running: int, cache_bytes: int | None, quantise: Quantisation
    ) -> Opened:
        if quantise != "none":
            raise ModelUnusable(f"{self.name} is served without transformers, and cannot be in {quantise}.")
        cache = self._size_cache(cache_bytes or free_memory(self.device), context_tokens)
        cache.make_layers(len(self.shape.windows), self.shape.kv_heads, self.shape.head_size)
        return Opened(LeanRunner(self.decoder, cache), adapters=None)

    def computing(self) -> AbstractContextManager[None]:
        return nullcontext() if self.small else torch_computing(self.device, self.parameters)

    def in_full(self) -> ServedModel:
        from model.loading import load_checkpoint  # torch and transformers, which take seconds

        return load_checkpoint(self.checkpoint, device=self.device, dtype=self.dtype)

    def _size_cache(self, free: int, context_tokens: int) -> KVCache:
        numbers = 2 * len(self.shape.windows) * self.shape.kv_heads * self.shape.head_size
        if self.small:
            kind = np.dtype(np.float32)
            return size_cache(
                self.name,
                bytes_per_token=numbers * kind.itemsize,
                free=free,
                context_tokens=context_tokens,
                dtype=kind,
                device=None,
            )
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return size_cache(
            self.name,
            bytes_per_token=numbers * dtype.itemsize,
            free=free,
            context_tokens=context_tokens,
            dtype=dtype,
            device=torch.device("cpu"),
        )


def find_lean(checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto") -> LeanModel | None:
    """The checkpoint as a lean model, or None where it, the device or the dtype is for transformers.

    Raises `ModelUnusable` where the memory does not hold it.
    """
    try:
        return open_lean(checkpoint, device=device, dtype=dtype)
    except NotLean as reason:
        log.debug("%s is computed by transformers: %s", checkpoint.name, reason)
        return None


def open_lean(checkpoint: Checkpoint, *, device: str = "auto", dtype: str = "auto") -> LeanModel:
    """As `find_lean`. Raises `NotLean`."""
    config = _read_json(checkpoint.folder / "config.json")
    shape = read_shape(config)
    check_tensors(checkpoint, shape)
    small = checkpoint.parameters < SMALL and device in ("auto", "cpu") and dtype in ("auto", "float32")
    decoder: Decoder
    if small:
        chosen = "float32"
        tensors = Tensors(checkpoint)
        if (
            shape.tied
            and HEAD in checkpoint.tensors
            and not np.array_equal(tensors(HEAD), tensors(EMBEDDING))
        ):
            raise NotLean("its head should be its embedding, and is another")
        tokenizer = _open_tokenizer(checkpoint, shape)
        decoder = SmallDecoder(shape, tensors)
    else:
        target = choose_device(device)
        chosen = choose_dtype(dtype, target, checkpoint)
        if target.kind != "cpu" or chosen == "float16":
            raise NotLean(f"it is served on {target.name} in {chosen}")
        check_memory(checkpoint, target, chosen)
        tokenizer = _open_tokenizer(checkpoint, shape)
        with one_thread():
            decoder = _open_large(checkpoint, shape, chosen)
    return LeanModel(
        checkpoint=checkpoint,
        shape=shape,
        decoder=decoder,
        tokenizer=tokenizer,
        format=(format_ := ChatFormat(tokenizer)),
        dtype=chosen,
        stop_token_ids=format_.stop_token_ids | _stated_ends(checkpoint, config),
        sampling_defaults=recommended_sampling(checkpoint),
        small=small,
    )


def _open_large(checkpoint: Checkpoint, shape: Shape, dtype: str) -> Decoder:
    import torch

    from model.lean.large import LargeDecoder

    with torch.inference_mode():
        tensor = _reader(checkpoint, getattr(torch, dtype))
        if shape.tied and HEAD in checkpoint.tensors and not torch.equal(tensor(HEAD), tensor(EMBEDDING)):
            raise NotLean("its head should be its embedding, and is another")
        return LargeDecoder(shape, tensor, getattr(torch, dtype))


def _reader(checkpoint: Checkpoint, dtype: Any) -> "Callable[[str], Tensor]":
    from safetensors import safe_open

    files: list[Any] = [safe_open(path, framework="pt") for path in checkpoint.weights]
    places = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - it is no mapping

    def read(name: str) -> "Tensor":
        tensor: Tensor = places[name].get_tensor(name)
        return tensor.to(dtype)

    return read


def _open_tokenizer(checkpoint: Checkpoint, shape: Shape) -> Tokenizer:
    """The lean one, else the one that transformers makes."""
    try:
        tokenizer: Tokenizer = LeanTokenizer(checkpoint.folder)
    except NotLean as reason:
        log.debug("the tokenizer of %s is transformers': %s", checkpoint.name, reason)
        from model.loading import load_tokenizer

        tokenizer = load_tokenizer(checkpoint)
    if len(tokenizer) > shape.vocabulary:
        raise NotLean("its tokenizer has more tokens than the model")
    return tokenizer


def _stated_ends(checkpoint: Checkpoint, config: dict[str, Any]) -> frozenset[int]:
    """Tokens that end a reply by generation_config.json, or by config.json where there is none."""
    path = checkpoint.folder / "generation_config.json"
    told = (_read_json(path) if path.exists() else config).get("eos_token_id")
    return frozenset(told if isinstance(told, list) else [] if told is None else [told])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotLean(f"its {path.name} cannot be read ({error})") from error
    if not isinstance(told, dict):
        raise NotLean(f"its {path.name} holds no object")
    return told
