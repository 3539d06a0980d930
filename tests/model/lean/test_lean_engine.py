"""A lean model in the engine: the replies of the full one, without its libraries, and adapters all the same."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import read_checkpoint
from model.engine.local import LocalEngine
from model.errors import BadRequest, ModelUnusable
from model.lean.model import LeanModel, open_lean
from model.loading import LoadedModel, load_model
from model.opening import open_model
from model.request import AdapterRef, Constraint, SamplingParams
from tests.model.engine.test_adapters_while_serving import ask, merged, reply, write_adapter
from tests.model.engine_contract import collect, text_of
from tests.model.tiny_models import Shape

Folders = dict[Shape, Path]
GREEDY = SamplingParams(temperature=0, repetition_penalty=1, max_tokens=40)
LONG = replace(GREEDY, max_tokens=1500)

WITHOUT_TORCH = """
import asyncio, sys
from model.opening import open_engine
from model.request import AdapterRef, ChatMessage, Constraint, GenerationRequest, SamplingParams

async def main():
    engine = open_engine("starter")
    for sampling in (
        SamplingParams(seed=1, max_tokens=12),
        SamplingParams(seed=1, max_tokens=12, top_k=40, min_p=0.01, typical_p=0.9, logprobs=3, presence_penalty=0.5),
        SamplingParams(seed=1, max_tokens=12, constraint=Constraint("regex", "[a-z ]+"), banned_phrases=("a",)),
    ):
        request = GenerationRequest((ChatMessage("user", "hello"),), sampling)
        assert "".join([delta.text async for delta in engine.generate(request)])
    await engine.close()

asyncio.run(main())
print(*sorted({"torch", "transformers", "huggingface_hub"} & set(sys.modules)))
"""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(open_lean(read_checkpoint("llama", folder)))
    try:
        yield engine
    finally:
        await engine.close()


def test_the_starter_is_served_without_torch_and_transformers() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "\n"


@pytest.mark.parametrize("sampling", [GREEDY, replace(GREEDY, constraint=Constraint("regex", "[A-Za-z ]+"))])
async def test_a_lean_model_replies_what_the_full_one_replies(
    folders: Folders, sampling: SamplingParams
) -> None:
    full = LocalEngine(load_model(str(folders["llama"]), device="cpu"))
    async with opened(folders["llama"]) as lean:
        for content in ("Hello there!", "我喜欢自行车"):
            assert await reply(lean, ask(None, sampling, content)) == await reply(
                full, ask(None, sampling, content)
            )
    await full.close()


def test_who_can_go_the_lean_way_does(folders: Folders) -> None:
    assert isinstance(open_model(str(folders["llama"])), LeanModel)
    assert isinstance(open_model(str(folders["qwen3"])), LeanModel)
    assert isinstance(open_model(str(folders["gpt2"]), device="cpu"), LoadedModel)


def test_rounded_weights_are_for_the_full_model(folders: Folders) -> None:
    with pytest.raises(ModelUnusable, match="int8"):
        LocalEngine(open_lean(read_checkpoint("llama", folders["llama"])), quantise="int8")


def test_too_little_memory_for_one_context_is_told(folders: Folders) -> None:
    with pytest.raises(ModelUnusable, match="PARLEY_CONTEXT_TOKENS"):
        LocalEngine(open_lean(read_checkpoint("llama", folders["llama"])), cache_bytes=10_000)


async def test_with_an_adapter_it_becomes_the_full_model(folders: Folders, tmp_path: Path) -> None:
    reference = load_model(str(folders["llama"]), device="cpu")
    poets = write_adapter(tmp_path / "poets", reference, seed=1)
    async with opened(folders["llama"]) as engine:
        before, version = await reply(engine, ask()), (await engine.health()).version
        await engine.load_adapter(poets)
        assert await reply(engine, ask(poets)) == merged(reference, poets, ask())
        assert await reply(engine, ask()) == before
        assert (await engine.health()).version == version


async def test_replies_that_are_under_way_go_on_in_the_full_model(folders: Folders, tmp_path: Path) -> None:
    poets = write_adapter(tmp_path / "poets", load_model(str(folders["llama"]), device="cpu"), seed=1)
    async with opened(folders["llama"]) as engine:
        alone = await reply(engine, ask(None, LONG))
        async with aclosing(engine.generate(ask(None, LONG))) as deltas:
            first = await anext(deltas)
            other = asyncio.create_task(collect(engine, ask()))
            await engine.load_adapter(poets)
            text = first.text + "".join([delta.text async for delta in deltas])
        assert text == alone
        assert text_of(await other)


async def test_an_adapter_that_is_at_fault_leaves_the_engine_in_order(folders: Folders) -> None:
    async with opened(folders["llama"]) as engine:
        before = await reply(engine, ask())
        with pytest.raises(BadRequest, match="poets"):
            await engine.load_adapter(AdapterRef("poets", "/nowhere"))
        assert await reply(engine, ask()) == before
