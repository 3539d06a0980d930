"""Tensors of a checkpoint by name, as numpy's arrays in float32. The files are in safetensors' format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.lean.shape import EMBEDDING, HEAD, NotLean, Shape

_TYPES: dict[str, "np.dtype[Any]"] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_NOT_READ = (".rotary_emb.inv_freq",)
"""What old checkpoints hold beside: it follows from the configuration."""


def check_tensors(checkpoint: Checkpoint, shape: Shape) -> None:
    """Raises `NotLean` where the files hold something else than a model of this shape; transformers then says what."""
    expected = shape.tensor_shapes()
    found = {name: header for name, header in checkpoint.tensors.items() if not name.endswith(_NOT_READ)}
    if shape.tied and HEAD in found:  # written twice, as some do; `read_twice` compares them
        expected[HEAD] = expected[EMBEDDING]
    if {name: header.shape for name, header in found.items()} != expected:
        raise NotLean("its tensors are not those of its configuration")
    if others := {header.dtype for header in found.values()} - _TYPES.keys():
        raise NotLean(f"its weights are in {', '.join(sorted(others))}")


class Tensors:
    """Of all files of a checkpoint; each is read when it is asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._entries: dict[str, tuple[Path, int, str, list[int]]] = {}
        for path in checkpoint.weights:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                start = 8 + length + entry["data_offsets"][0]
                self._entries[name] = (path, start, entry["dtype"], entry["shape"])

    def __call__(self, name: str) -> NDArray[np.float32]:
        path, start, kind, shape = self._entries[name]
        count = int(np.prod(shape))
        raw = np.fromfile(path, _TYPES[kind], count, offset=start).reshape(shape)
        if kind == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        tensor: NDArray[np.float32] = raw.astype(np.float32, copy=False)
        return tensor
