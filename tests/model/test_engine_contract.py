"""The local engine keeps the engines' contract, whatever the architecture of its model and whoever computes it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from model.chat_format import ChatFormat
from model.checkpoint import read_checkpoint
from model.engine.local import LocalEngine
from model.lean import model as lean_model
from model.lean.model import open_lean
from model.loading import LoadedModel
from model.protocol import Engine
from tests.model.engine.architectures import SINGLE, build
from tests.model.engine_contract import EngineContract
from tests.model.tiny_models import CHAT_TOKENS, CONTEXT, Shape, make_tokenizer


class TestALeanEngineKeepsTheContract(EngineContract):
    @pytest.fixture(params=["small", "large"])
    async def engine(
        self, request: pytest.FixtureRequest, folders: dict[Shape, Path], monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Engine]:
        if request.param == "large":
            monkeypatch.setattr(lean_model, "SMALL", 0)
        engine = LocalEngine(open_lean(read_checkpoint("tiny", folders["llama"]), device="cpu"))
        yield engine
        await engine.close()


class TestTheLocalEngineKeepsTheContract(EngineContract):
    @pytest.fixture(params=["llama", "qwen3", "gpt2", "hybrid"])
    async def engine(
        self, request: pytest.FixtureRequest, loaded: dict[Shape, LoadedModel], hybrid: LoadedModel
    ) -> AsyncIterator[Engine]:
        engine = LocalEngine(hybrid if request.param == "hybrid" else loaded[request.param])
        yield engine
        await engine.close()


@pytest.fixture(scope="module")
def hybrid() -> LoadedModel:
    """A model with linear attention, which is computed one reply after another."""
    model, tokenizer = build(SINGLE["Qwen3.5 with linear attention"]), make_tokenizer()
    with torch.no_grad():  # replies go on up to their limit, as those of the other tiny models
        model.get_output_embeddings().weight[: len(CHAT_TOKENS)] = 0
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        format=ChatFormat(tokenizer),
        name="hybrid",
        version="hybrid@00000000",
        device="cpu",
        dtype="float32",
        context_tokens=CONTEXT,
        parameters=model.num_parameters(),
    )
