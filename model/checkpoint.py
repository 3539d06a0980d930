"""From a name to a folder of safetensors: the starter, a local folder, or the hub. Reads headers, never weights."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from model.errors import ModelNotFound, ModelUnusable

STARTER = "starter"
STARTER_FOLDER = Path(__file__).parent / "starter" / "weights"
HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "model*.safetensors"]
"""Not `*.safetensors`: some repositories hold their weights a second time, as `consolidated.safetensors`."""

_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf")
_SAMPLES, _SAMPLE_BYTES = 256, 4096


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor as its file describes it; `dtype` in safetensors' words, such as "BF16"."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    """In bytes."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a configuration and weights. The tokenizer is checked when it is loaded."""

    name: str
    folder: Path
    weights: tuple[Path, ...]
    tensors: Mapping[str, TensorHeader]

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The dtype that most bytes have."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.dtype] += tensor.size
        return sizes.most_common(1)[0][0]

    @cached_property
    def fingerprint(self) -> str:
        """Eight hex digits of the configuration, the headers and a megabyte of samples from each file."""
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        digest.update(repr(sorted(self.tensors.items())).encode())
        for path in self.weights:
            size = path.stat().st_size
            with path.open("rb") as file:
                for sample in range(_SAMPLES):
                    file.seek(size * sample // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()[:8]


def open_checkpoint(
    source: str, *, token: str | None = None, revision: str | None = None, endpoint: str | None = None
) -> Checkpoint:
    """Find `source`, fetching it from the hub if it is no folder, and read its headers.

    Raises `ModelNotFound` or `ModelUnusable`. `endpoint` is another hub's address; None takes the usual one.
    """
    if source == STARTER:
        if not (STARTER_FOLDER / "config.json").exists():
            raise ModelNotFound(
                f"The starter model is not in this installation: {STARTER_FOLDER} has no weights."
            )
        return read_checkpoint(STARTER, STARTER_FOLDER)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return read_checkpoint(folder.resolve().name, folder)
    if folder.exists():
        raise ModelNotFound(
            f"{source} is a file. A model is a folder with config.json and safetensors in it."
        )
    if not is_hub_id(source):
        raise ModelNotFound(f"There is no folder {source}.")
    return read_checkpoint(source, _fetch(source, token=token, revision=revision, endpoint=endpoint))


def is_hub_id(source: str) -> bool:
    """Whether `source`, which is no folder here, is written like a hub's "org/name" rather than like a path."""
    return (
        source != STARTER
        and not source.startswith(("/", ".", "~"))
        and source.count("/") <= 1
        and "\\" not in source
    )


def read_checkpoint(name: str, folder: Path) -> Checkpoint:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelUnusable(
                f"{name} is a LoRA adapter, not a model: name the model that it was trained on."
            )
        raise ModelUnusable(f"{name} has no config.json: {folder} is not the folder of a transformers model.")
    weights = _find_weights(name, folder)
    tensors: dict[str, TensorHeader] = {}
    for path in weights:
        tensors |= _read_header(path)
    if not tensors:
        raise ModelUnusable(f"The weights of {name} hold no tensor.")
    return Checkpoint(name, folder, weights, tensors)


def _fetch(source: str, *, token: str | None, revision: str | None, endpoint: str | None) -> Path:
    """The hub's files in the local cache. What is cached is used when the hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision {revision}" if revision else ""
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                token=token,
                endpoint=endpoint,
                allow_patterns=HUB_FILES,
                ignore_patterns=["*/*"],
            )
        )
    except HFValidationError as error:
        raise ModelNotFound(
            f"{source!r} is neither a folder nor the id of a hub model, such as org/name."
        ) from error
    except GatedRepoError as error:
        has = "The token in HF_TOKEN has no access to it" if token else "It needs a token in HF_TOKEN"
        raise ModelNotFound(
            f"{source} is gated: its licence must be accepted on its hub page. {has}."
        ) from error
    except RepositoryNotFoundError as error:
        unless = (
            " or HF_TOKEN has no access to it" if token else " or it is private and needs a token in HF_TOKEN"
        )
        raise ModelNotFound(
            f"The hub has no model {source},{unless}; nor is there such a folder here."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"The hub has no model {source}{at}.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
        why = "cannot be reached"
        if isinstance(answer, HfHubHTTPError):
            why = f"answers with status {answer.response.status_code}"
        raise ModelNotFound(
            f"{source}{at} cannot be fetched: the hub {why}, and no complete copy is cached here."
        ) from error
    except OSError as error:
        raise ModelNotFound(f"{source}{at} cannot be fetched: {error.strerror or error}.") from error


def _find_weights(name: str, folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelUnusable(f"The index of {name}, {index.name}, cannot be read: {error!r}.") from error
        missing = [part for part in parts if not (folder / part).is_file()]
        if missing:
            raise ModelUnusable(
                f"{name} lacks {len(missing)} of {len(parts)} weight files, the first of them {missing[0]}."
            )
        return tuple(folder / part for part in parts)
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    others = sorted(path.name for pattern in _OTHER_WEIGHTS for path in folder.glob(pattern))
    instead = (
        f"; {others[0]} is not loaded, because such files can run code or are of another kind"
        if others
        else ""
    )
    raise ModelUnusable(f"{name} has no model.safetensors{instead}.")


def _read_header(path: Path) -> dict[str, TensorHeader]:
    """The format is eight bytes of length, a JSON header, then the tensors' bytes."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        tensors = {
            name: TensorHeader(
                entry["dtype"], tuple(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0]
            )
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(f"{path.name} is not a safetensors file: {error}.") from error
    if size < end:
        raise ModelUnusable(f"{path.name} is cut short: it has {size:,} of {end:,} bytes.")
    return tensors
