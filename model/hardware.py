"""What this machine has, and how large a model fits. Loads nothing, and imports torch only when it is asked."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}
WEIGHTS_SHARE = 0.8
"""Of the memory; the rest is for the conversations (KV cache) and for computing."""

THREADS_PAY_FROM = 30_000_000
"""Parameters. Threads of a smaller model wait for each other longer than they compute: on two busy cores, a model
of 6M wrote 11 tokens a second with two threads, and 208 with one."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Device:
    """Something that a model can run on. Memory is in bytes; None where the system does not tell."""

    name: str
    """As the setting takes it: "cuda:0", "mps", "cpu"."""
    description: str
    memory_total: int | None
    memory_free: int | None
    native_bfloat16: bool

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Fit:
    """The largest model of a dtype, in parameters."""

    dtype: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """Every device, the one that "auto" takes first."""

    devices: tuple[Device, ...]
    threads: int
    """Processor cores that computing may use."""

    @property
    def best(self) -> Device:
        return self.devices[0]


def inspect_hardware() -> Hardware:
    import torch

    cuda = (
        [_cuda_device(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    mps = [_mps_device()] if torch.backends.mps.is_available() else []
    return Hardware(devices=(*cuda, *mps, _cpu_device()), threads=compute_threads())


def largest_model(memory_bytes: int, dtype: str) -> int:
    """Parameters of the largest model whose weights leave room for conversations in `memory_bytes`."""
    return int(memory_bytes * WEIGHTS_SHARE) // BYTES_PER_PARAMETER[dtype]


def list_fits(device: Device) -> tuple[Fit, ...]:
    """What fits into the device's free memory, by dtype; nothing where its memory is unknown."""
    if device.memory_free is None:
        return ()
    return tuple(Fit(dtype, largest_model(device.memory_free, dtype)) for dtype in ("float32", "bfloat16"))


def empty_device_caches() -> None:
    """Give back to the devices what torch keeps of their memory, if it is in use at all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on the calling thread alone.

    Each thread that computes in parallel keeps threads of its own for it. Where these are more than the processors,
    OpenMP has all of them sleep between two operations, which made a step of the engine take half as long again.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_computing(device: str, parameters: int) -> Iterator[None]:
    """What a thread is in that serves a model of so many parameters with torch.

    OMP_NUM_THREADS, where it is set, says how many threads compute a step together.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        several = device == "cpu" and parameters >= THREADS_PAY_FROM
        torch.set_num_threads(compute_threads() if several else 1)
    with torch.inference_mode():
        yield


def compute_threads() -> int:
    """Physical cores that this process may use: a second thread on a core only gets in the way of the first."""
    import torch

    physical = int(torch.cpu.get_capabilities().get("num_physical_cores") or os.cpu_count() or 1)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed, _cgroup_cores() or physical))


def _cuda_device(index: int) -> Device:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    with torch.cuda.device(index):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(f"cuda:{index}", torch.cuda.get_device_name(index), total, free, native)


def _mps_device() -> Device:
    import torch

    total = torch.mps.recommended_max_memory()
    return Device(
        "mps", "Apple GPU", total, total - torch.mps.driver_allocated_memory(), native_bfloat16=False
    )


def _cpu_device() -> Device:
    import torch

    able = torch.cpu.get_capabilities()
    total, free = machine_memory()
    name = str(able.get("cpu_name") or able.get("architecture") or "processor")
    native = any(able.get(flag) for flag in ("amx_bf16", "avx512_bf16", "bf16"))
    return Device("cpu", f"{name}, {compute_threads()} cores", total, free, native)


def machine_memory() -> tuple[int | None, int | None]:
    """Total and available bytes, as the container or, failing one, the machine grants them."""
    if _MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        total, free = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return None, None
    limit, used = _cgroup_memory()
    return (total, free) if limit is None else (min(total, limit), min(free, limit - used))


def _cgroup_memory() -> tuple[int | None, int]:
    """A container's limit and what of it cannot be given back (file cache can)."""
    limit = _read(_CGROUP / "memory.max")
    if not limit.isdigit():
        return None, 0
    statistics = dict(line.split() for line in _read(_CGROUP / "memory.stat").splitlines())
    used = int(_read(_CGROUP / "memory.current") or 0) - int(statistics.get("inactive_file", 0))
    return int(limit), used


def _cgroup_cores() -> int | None:
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    return max(1, round(int(quota) / int(period))) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
