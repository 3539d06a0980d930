"""Adapters through the whole engine: each reply has its own, and none shows in another's text or cache."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.engine.local import LocalEngine
from model.engine.lora import AdaptedLinear
from model.errors import BadRequest
from model.loading import LoadedModel, load_model
from model.request import AdapterRef, ChatMessage, GenerationRequest, SamplingParams
from tests.model.engine_contract import collect, text_of
from tests.model.tiny_models import Shape

RANK, ALPHA = 4, 8.0
TARGETS: Mapping[Shape, list[str]] = {
    "llama": [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.1.mlp.up_proj",
    ],
    "gpt2": ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc"],
}
GREEDY = SamplingParams(temperature=0, repetition_penalty=1, max_tokens=40)
DRAWN = SamplingParams(temperature=0.9, max_tokens=40, seed=3)


@pytest.fixture
def model(folders: dict[Shape, Path]) -> LoadedModel:
    """Each test has its own: adapters stay in a model that an engine has served."""
    return load_model(str(folders["llama"]), device="cpu")


@asynccontextmanager
async def opened(loaded: LoadedModel, *adapters: AdapterRef) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(loaded)
    try:
        for adapter in adapters:
            await engine.load_adapter(adapter)
        yield engine
    finally:
        await engine.close()


def write_adapter(folder: Path, loaded: LoadedModel, *, seed: int, shape: Shape = "llama") -> AdapterRef:
    """A folder as PEFT writes it; the seed 0 makes an adapter that adds nothing."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in TARGETS[shape]:
        module = loaded.model.get_submodule(name)
        shapes = (module.nx, module.nf) if shape == "gpt2" else (module.in_features, module.out_features)
        down, up = (
            torch.randn(RANK, shapes[0], generator=generator),
            torch.randn(shapes[1], RANK, generator=generator),
        )
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up if seed else torch.zeros_like(up)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": TARGETS[shape],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return AdapterRef("poets" if seed else "nothing", str(folder))


def ask(
    adapter: AdapterRef | None = None, sampling: SamplingParams = GREEDY, content: str = "Hello there!"
) -> GenerationRequest:
    return GenerationRequest((ChatMessage("user", content * 5),), sampling, adapter=adapter)


async def reply(engine: LocalEngine, request: GenerationRequest) -> str:
    return text_of(await collect(engine, request))


def merged(loaded: LoadedModel, adapter: AdapterRef, request: GenerationRequest) -> str:
    """What transformers replies once the adapter is added to the weights."""
    tensors = load_file(Path(adapter.path) / "adapter_model.safetensors")
    for name in TARGETS["llama"]:
        down, up = (tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        loaded.model.get_submodule(name).weight.data += ALPHA / RANK * up @ down
    prompt = loaded.format.render(request.messages)
    whole = loaded.model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=40, pad_token_id=0, eos_token_id=None
    )
    text: str = loaded.tokenizer.decode(whole[0, len(prompt) :], skip_special_tokens=True)
    return text.lstrip()


@pytest.mark.parametrize("shape", TARGETS)
async def test_an_adapter_that_adds_nothing_gives_the_base(
    folders: dict[Shape, Path], tmp_path: Path, shape: Shape
) -> None:
    loaded = load_model(str(folders[shape]), device="cpu")
    nothing = write_adapter(tmp_path / "nothing", loaded, seed=0, shape=shape)
    async with opened(loaded, nothing) as engine:
        for sampling in (GREEDY, DRAWN):
            assert await reply(engine, ask(nothing, sampling)) == await reply(engine, ask(None, sampling))


async def test_an_adapter_gives_what_its_weights_give_within_the_base(
    model: LoadedModel, folders: dict[Shape, Path], tmp_path: Path
) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    async with opened(model, poets) as engine:
        text = await reply(engine, ask(poets))
        base = await reply(engine, ask())
    assert text == merged(load_model(str(folders["llama"]), device="cpu"), poets, ask())
    assert text != base


@pytest.mark.parametrize("shape", TARGETS)
async def test_each_reply_of_a_batch_has_its_own_adapter(
    folders: dict[Shape, Path], tmp_path: Path, shape: Shape
) -> None:
    loaded = load_model(str(folders[shape]), device="cpu")
    poets = write_adapter(tmp_path / "poets", loaded, seed=1, shape=shape)
    cooks = replace(write_adapter(tmp_path / "cooks", loaded, seed=2, shape=shape), name="cooks")
    requests = [
        ask(adapter, sampling, content)
        for content in ("Hello there!", "What is the time?")
        for sampling in (GREEDY, DRAWN)
        for adapter in (poets, None, cooks)
    ]
    async with opened(loaded, poets, cooks) as engine:
        alone = [await reply(engine, request) for request in requests]
        assert await asyncio.gather(*(reply(engine, request) for request in requests)) == alone
    assert len(set(alone)) == len(requests)


async def test_a_reply_keeps_the_weights_that_it_began_with(model: LoadedModel, tmp_path: Path) -> None:
    old = write_adapter(tmp_path / "old", model, seed=1)
    new = write_adapter(tmp_path / "new", model, seed=2)
    long = replace(GREEDY, max_tokens=150)
    async with opened(model, old) as engine:
        text_of_old = await reply(engine, ask(old, long))
        async with aclosing(engine.generate(ask(old, long))) as deltas:
            text = (await anext(deltas)).text
            await engine.load_adapter(new)
            new_one = asyncio.create_task(reply(engine, ask(new, long)))
            text += "".join([delta.text async for delta in deltas])
        assert text == text_of_old
        text_of_new = await new_one
        assert text_of_new != text_of_old
        assert await reply(engine, ask(old, long)) == text_of_new
        assert len(_served(model)) == 1
        await engine.load_adapter(old)
        assert await reply(engine, ask(new, long)) == text_of_old


async def test_the_same_weights_once_more_change_nothing(model: LoadedModel, tmp_path: Path) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    async with opened(model, poets) as engine:
        before = await reply(engine, ask(poets))
        await engine.load_adapter(poets)
        assert await reply(engine, ask(poets)) == before
        assert len(_served(model)) == 1


async def test_what_one_adapter_computed_is_not_read_under_another(
    model: LoadedModel, tmp_path: Path
) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    cooks = replace(write_adapter(tmp_path / "cooks", model, seed=2), name="cooks")
    newer = replace(write_adapter(tmp_path / "newer", model, seed=3), name="cooks")

    async def cached(adapter: AdapterRef | None) -> int:
        completion = (await collect(engine, ask(adapter)))[-1].finish
        assert completion is not None
        assert completion.cached_tokens in (0, completion.prompt_tokens - 1)
        return completion.cached_tokens

    async with opened(model, poets, cooks) as engine:
        assert [await cached(adapter) for adapter in (None, poets, cooks)] == [0, 0, 0]
        assert all([await cached(adapter) for adapter in (cooks, None, poets)])
        await engine.load_adapter(newer)
        assert [bool(await cached(adapter)) for adapter in (cooks, cooks, None)] == [False, True, True]


async def test_weights_may_change_while_a_prompt_is_computed_ahead(
    model: LoadedModel, tmp_path: Path
) -> None:
    old = write_adapter(tmp_path / "old", model, seed=1)
    new = write_adapter(tmp_path / "new", model, seed=2)
    async with opened(model, new) as engine:
        expected = await reply(engine, ask(new))
        for ref in (old, new, old, new):
            await engine.prefetch(ask(old, content="What is the time? " * 20))
            await engine.load_adapter(ref)
        assert await reply(engine, ask(new)) == expected


async def test_another_engine_on_the_same_model_serves_its_own_adapters(
    model: LoadedModel, tmp_path: Path
) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    texts = []
    for _ in range(2):
        async with opened(model, poets) as engine:
            texts.append(await reply(engine, ask(poets)))
            assert await reply(engine, ask()) != texts[-1]
    assert texts[0] == texts[1]


async def test_a_folder_that_cannot_be_served_leaves_the_one_before(
    model: LoadedModel, tmp_path: Path
) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    broken = write_adapter(tmp_path / "broken", model, seed=2)
    (Path(broken.path) / "adapter_model.safetensors").write_bytes(b"no tensors")
    async with opened(model, poets) as engine:
        before = await reply(engine, ask(poets))
        with pytest.raises(BadRequest, match="poets"):
            await engine.load_adapter(broken)
        assert await reply(engine, ask(poets)) == before


async def test_a_name_that_is_not_loaded_is_refused_with_those_that_are(
    model: LoadedModel, tmp_path: Path
) -> None:
    poets = write_adapter(tmp_path / "poets", model, seed=1)
    async with opened(model, poets) as engine:
        with pytest.raises(BadRequest, match=r"'cooks' is not loaded; loaded: poets\."):
            await reply(engine, ask(AdapterRef("cooks", "/nowhere")))


def _served(loaded: LoadedModel) -> set[str]:
    """The weights that are attached."""
    return {
        key for module in loaded.model.modules() if isinstance(module, AdaptedLinear) for key in module.pairs
    }
