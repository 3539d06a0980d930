"""Tiny models on disk and in memory, made once for all tests."""

import os
from pathlib import Path

import pytest
import torch

from model.loading import LoadedModel, load_model
from tests.model.tiny_models import Shape, save_tiny

SHAPES: tuple[Shape, ...] = ("llama", "qwen3", "gpt2")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The models are tiny: threads would only wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Shape, Path]:
    return {shape: save_tiny(tmp_path_factory.mktemp("tiny") / shape, shape) for shape in SHAPES}


@pytest.fixture(scope="session")
def loaded(folders: dict[Shape, Path]) -> dict[Shape, LoadedModel]:
    return {shape: load_model(str(folder), device="cpu") for shape, folder in folders.items()}
