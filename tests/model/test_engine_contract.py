"""The local engine keeps the engines' contract, whatever the shape of its model."""

from collections.abc import AsyncIterator

import pytest

from model.engine.local import LocalEngine
from model.loading import LoadedModel
from model.protocol import Engine
from tests.model.engine_contract import EngineContract
from tests.model.tiny_models import Shape


class TestTheLocalEngineKeepsTheContract(EngineContract):
    @pytest.fixture(params=["llama", "qwen3", "gpt2"])
    async def engine(
        self, request: pytest.FixtureRequest, loaded: dict[Shape, LoadedModel]
    ) -> AsyncIterator[Engine]:
        engine = LocalEngine(loaded[request.param])
        yield engine
        await engine.close()
