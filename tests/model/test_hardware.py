"""What the machine has, and what fits into it."""

from pathlib import Path

import pytest
import torch

from model import hardware
from model.hardware import Device, compute_threads, inspect_hardware, largest_model, list_fits


def test_every_machine_has_a_processor_with_memory() -> None:
    found = inspect_hardware()
    processor = found.devices[-1]
    assert processor.name == processor.kind == "cpu"
    assert processor.memory_total is not None
    assert processor.memory_free is not None
    assert 0 < processor.memory_free <= processor.memory_total
    assert found.best is found.devices[0]


def test_threads_are_cores_that_may_be_used() -> None:
    assert 1 <= compute_threads() <= (torch.cpu.get_capabilities().get("num_physical_cores") or 10_000)


@pytest.mark.parametrize(
    ("memory", "dtype", "billions"),
    [(12 * 2**30, "bfloat16", 5.2), (12 * 2**30, "float32", 2.6), (0, "float16", 0.0)],
)
def test_the_largest_model_leaves_a_fifth_for_conversations(memory: int, dtype: str, billions: float) -> None:
    assert round(largest_model(memory, dtype) / 1e9, 1) == billions


def test_fits_are_told_where_the_memory_is_known() -> None:
    known = Device("cuda:0", "a GPU", 24 * 2**30, 20 * 2**30, native_bfloat16=True)
    assert {fit.dtype: round(fit.parameters / 1e9, 1) for fit in list_fits(known)} == {
        "float32": 4.3,
        "bfloat16": 8.6,
    }
    assert list_fits(Device("cpu", "?", None, None, native_bfloat16=False)) == ()


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**28}\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    processor = inspect_hardware().devices[-1]
    assert processor.memory_total == 2**30
    assert processor.memory_free == 2**30 - 2**28
    assert compute_threads() == 1
