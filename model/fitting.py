"""Which device and dtype suit a checkpoint, whether it fits, and how it wants to be sampled. Loads nothing."""

import json
import logging

from model.checkpoint import Checkpoint
from model.errors import BadRequest, ModelUnusable
from model.hardware import WEIGHTS_SHARE, Device, inspect_hardware, largest_model
from model.request import SamplingParams

log = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")

BFLOAT16_PAYS_FROM = 30_000_000
"""Parameters. On a processor with AMX, smaller models decode faster in float32; larger ones prefill 3 to 6 times
faster in bfloat16, and decode no slower."""

RECOMMENDED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
"""What a generation_config.json may say about sampling that is followed."""


def choose_device(wanted: str) -> Device:
    """The device called `wanted`; "auto" is the first CUDA device, else MPS, else the processor."""
    devices = inspect_hardware().devices
    if wanted == "auto":
        return devices[0]
    for device in devices:
        if wanted in (device.name, device.kind):
            return device
    names = ", ".join(device.name for device in devices)
    raise ModelUnusable(f"There is no device {wanted!r} here; there is {names}.")


def choose_dtype(wanted: str, device: Device, checkpoint: Checkpoint) -> str:
    """The name of the dtype that suits the device, or the one that was asked for."""
    if wanted in DTYPES:
        return wanted
    if wanted != "auto":
        raise ModelUnusable(f"There is no dtype {wanted!r}; there are auto, {', '.join(DTYPES)}.")
    if device.kind == "cpu":
        halved = checkpoint.dtype in ("BF16", "F16")
        pays = checkpoint.parameters >= BFLOAT16_PAYS_FROM
        return "bfloat16" if device.native_bfloat16 and halved and pays else "float32"
    return "bfloat16" if device.native_bfloat16 else "float16"


def recommended_sampling(checkpoint: Checkpoint) -> tuple[tuple[str, float], ...]:
    """The sampling that the model's makers found good. What this engine would refuse is left out, and logged."""
    path = checkpoint.folder / "generation_config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        log.warning("%s has an unreadable generation_config.json: %s", checkpoint.name, error)
        return ()
    if not isinstance(told, dict) or told.get("do_sample") is False:
        return ()  # the values beside it are of no effect
    recommended = []
    for name in RECOMMENDED:
        if told.get(name) is not None:
            try:
                SamplingParams.from_mapping({name: told[name]})
            except BadRequest as error:
                log.warning("%s recommends a sampling that is left out: %s", checkpoint.name, error)
            else:
                recommended.append((name, told[name]))
    return tuple(recommended)


def check_memory(checkpoint: Checkpoint, device: Device, dtype: str) -> None:
    """Say before the loading what would fail, or swap for minutes, in it."""
    if device.memory_free is None or checkpoint.parameters <= largest_model(device.memory_free, dtype):
        return
    fits = largest_model(device.memory_free, dtype)
    raise ModelUnusable(
        f"{checkpoint.name} has {billions(checkpoint.parameters)} parameters. {device.description} has "
        f"{device.memory_free / 2**30:.1f} GiB of memory free, where {billions(fits)} fit in {dtype} "
        f"({1 - WEIGHTS_SHARE:.0%} is kept for conversations)."
    )


def billions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
