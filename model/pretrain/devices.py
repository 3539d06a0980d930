"""What the run computes on: precision, compilation, memory, speed. Knows nothing of the data."""

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from model.pretrain.settings import Precision, Switch

WORTH_COMPILING = {"cpu": 1e14, "cuda": 1e16}
"""Floating-point operations of a whole run above which compiling (a minute or two) is won back."""

_PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bf16 floating-point operations a second, from NVIDIA's data sheets (SXM variants)."""


def choose_mixed(precision: Precision, device: torch.device) -> bool:
    """Whether to compute in bfloat16: "auto" does where the device multiplies it faster than float32."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and any(
        torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16")
    )


def compile_objective(
    objective: nn.Module,
    switch: Switch,
    *,
    device: torch.device,
    planned_flops: float,
    note: Callable[[str], None],
) -> nn.Module:
    """`objective`, compiled if that is asked for or pays. It is compiled at its first call, see `FallsBack`."""
    pays = planned_flops > WORTH_COMPILING.get(device.type, float("inf"))
    return FallsBack(objective, note) if switch == "on" or (switch == "auto" and pays) else objective


class FallsBack(nn.Module):
    """A compiled module that goes on uncompiled, and says so, where the machine cannot compile."""

    def __init__(self, module: nn.Module, note: Callable[[str], None]) -> None:
        super().__init__()
        self.module = module
        self._note = note
        self._compiled: Callable[..., Tensor] | None = torch.compile(module, dynamic=False)

    def forward(self, *tensors: Tensor) -> Tensor:
        if self._compiled is not None:
            try:
                return self._compiled(*tensors)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._compiled = None
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                self._note(
                    f"torch.compile does not work here ({reason}): training goes on without it, slower."
                )
        result: Tensor = self.module(*tensors)
        return result


def give_memory_back() -> None:
    """Return to the system what the allocator keeps: batches of many sizes leave gaps, gigabytes in half an hour."""
    with suppress(OSError, AttributeError):  # glibc alone has it, and alone needs it
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes_or_bytes if sys.platform == "darwin" else kilobytes_or_bytes * 1024


def utilisation(device: torch.device, flops_per_second: float) -> float | None:
    """Model FLOPs utilisation: the share of one device's dense bf16 peak; None where the peak is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    peak = next((peak for part, peak in _PEAK_BF16.items() if part in name), None)
    return flops_per_second / peak if peak else None


def device_name(device: torch.device, processes: int) -> str:
    if device.type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    return f"{processes} x {device.type} with {torch.get_num_threads()} threads"
