"""The local engine: as transformers generates, reply by reply on its own, and orderly when things go wrong."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.engine.local import LocalEngine
from model.engine.sequence import PREFILL_TOKENS
from model.errors import BadRequest, DeadlineExceeded, EngineDied, Overloaded
from model.loading import LoadedModel
from model.request import ChatMessage, Completion, Delta, GenerationRequest, SamplingParams
from tests.model.engine_contract import LONG, ask, collect, text_of
from tests.model.scripted_model import Step, WatchedModel, scripted, tokens_of
from tests.model.tiny_models import CONTEXT, Shape

BICYCLE = "我喜欢在晴朗的日子里骑自行车"
GREEDY = SamplingParams(temperature=0, repetition_penalty=1, max_tokens=60)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
]
SHAPES: tuple[Shape, ...] = ("llama", "qwen3", "gpt2")
Loaded = dict[Shape, LoadedModel]


@asynccontextmanager
async def opened(loaded: LoadedModel, **options: int) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(loaded, **options)
    try:
        yield engine
    finally:
        await engine.close()


def request(content: str = BICYCLE, sampling: SamplingParams = GREEDY, **options: Any) -> GenerationRequest:
    return GenerationRequest((ChatMessage("user", content),), sampling, **options)


async def reply(engine: LocalEngine, asked: GenerationRequest) -> tuple[str, Completion]:
    deltas = await collect(engine, asked)
    completion = deltas[-1].finish
    assert completion is not None
    return text_of(deltas), completion


def generate(loaded: LoadedModel, asked: GenerationRequest, **settings: Any) -> list[int]:
    """What transformers' own `generate` replies, in tokens."""
    prompt = loaded.format.render(asked.messages)
    settings.setdefault("max_new_tokens", asked.sampling.max_tokens)
    whole = loaded.model.generate(torch.tensor([prompt]), pad_token_id=0, eos_token_id=None, **settings)
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


def said(loaded: LoadedModel, tokens: list[int]) -> str:
    text: str = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return text.lstrip()


# As transformers generates


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("content", ["Hello there!", BICYCLE])
async def test_greedy_replies_are_those_of_transformers(loaded: Loaded, shape: Shape, content: str) -> None:
    asked = request(content)
    expected = generate(loaded[shape], asked, do_sample=False)
    async with opened(loaded[shape]) as engine:
        text, completion = await reply(engine, asked)
    assert text == said(loaded[shape], expected)
    assert completion.completion_tokens == len(expected) == 60
    assert completion.reason == "length"


@pytest.mark.parametrize("shape", SHAPES)
async def test_sampled_replies_are_those_of_transformers(loaded: Loaded, shape: Shape) -> None:
    sampling = SamplingParams(
        temperature=0.8, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.2, max_tokens=60, seed=11
    )
    asked = request(sampling=sampling)
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    settings = {name: getattr(sampling, name) for name in names}
    torch.manual_seed(11)
    expected = generate(loaded[shape], asked, do_sample=True, **settings)
    async with opened(loaded[shape]) as engine:
        text, _ = await reply(engine, asked)
    assert text == said(loaded[shape], expected)


async def test_a_long_prompt_is_computed_in_pieces_which_makes_no_difference(loaded: Loaded) -> None:
    asked = request(BICYCLE * 20)
    expected = generate(loaded["llama"], asked, do_sample=False)
    watched = WatchedModel(loaded["llama"])
    async with opened(replace(loaded["llama"], model=watched)) as engine:
        text, completion = await reply(engine, asked)
    assert completion.prompt_tokens > PREFILL_TOKENS == max(watched.lengths)
    assert text == said(loaded["llama"], expected)


# Reply by reply on its own


async def test_a_seed_gives_the_same_text_whatever_runs_beside(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        alone = text_of(await collect(engine, ask(seed=5)))
        others = [asyncio.create_task(collect(engine, ask(seed=seed))) for seed in range(5)]
        beside = text_of(await collect(engine, ask(seed=5)))
        texts = {text_of(deltas) for deltas in await asyncio.gather(*others)}
    assert alone == beside
    assert len(texts) == 5


async def test_a_drawn_seed_gives_the_same_text_again(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        first, completion = await reply(engine, ask(seed=None))
        again, _ = await reply(engine, ask(seed=completion.seed))
    assert first == again


# Where replies end


async def test_the_models_own_end_token_ends_the_reply(loaded: Loaded) -> None:
    tokens = generate(loaded["gpt2"], request(), do_sample=False)
    ending = WatchedModel(loaded["gpt2"], end_tokens=[tokens[10], tokens[20]])
    async with opened(replace(loaded["gpt2"], model=ending)) as engine:
        text, completion = await reply(engine, request())
    end = min(tokens.index(tokens[10]), tokens.index(tokens[20]))
    assert completion.reason == "stop"
    assert completion.completion_tokens == end + 1
    assert text == said(loaded["gpt2"], tokens[:end])


async def test_the_templates_end_of_turn_ends_the_reply(loaded: Loaded) -> None:
    model = _saying(loaded["llama"], "Hello.<|im_end|>more")
    async with opened(model) as engine:
        text, completion = await reply(engine, request())
    assert (text, completion.reason) == ("Hello.", "stop")


async def test_a_base_model_does_not_go_on_with_the_other_speakers(loaded: Loaded) -> None:
    model = _saying(loaded["gpt2"], " 你好！ Yes.\nNo: both.\nAnn: and then?")
    messages = (ChatMessage("user", BICYCLE, "Ann"),)
    async with opened(model) as engine:
        text, completion = await reply(engine, GenerationRequest(messages, GREEDY))
    assert (text, completion.reason) == ("你好！ Yes.\nNo: both.", "stop")


async def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(loaded: Loaded) -> None:
    model = _saying(loaded["llama"], "One, two, three, four")
    async with opened(model) as engine:
        text, completion = await reply(engine, request(sampling=replace(GREEDY, stop=("three", "four"))))
    assert (text, completion.reason) == ("One, two, ", "stop")


async def test_max_tokens_bounds_the_reply(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        _, completion = await reply(engine, request(sampling=replace(GREEDY, max_tokens=1)))
    assert (completion.completion_tokens, completion.reason) == (1, "length")


async def test_a_full_context_ends_the_reply(loaded: Loaded) -> None:
    async with opened(loaded["llama"], context_tokens=64) as engine:
        _, completion = await reply(engine, request("Hello"))
    assert completion.prompt_tokens + completion.completion_tokens == 64
    assert completion.reason == "length"


async def test_a_context_beyond_the_models_is_not_promised(loaded: Loaded) -> None:
    async with opened(loaded["llama"], context_tokens=10**6) as engine:
        assert (await engine.health()).context_tokens == CONTEXT


async def test_too_long_a_prompt_is_refused_with_both_numbers(loaded: Loaded) -> None:
    async with opened(loaded["llama"], context_tokens=64) as engine:
        tokens = await engine.count_tokens(request(BICYCLE * 3).messages)
        with pytest.raises(BadRequest, match=f"takes {tokens} tokens, but the context of llama holds 64"):
            await collect(engine, request(BICYCLE * 3))


# The queue


async def test_the_queue_is_bounded_and_says_when_to_come_back(loaded: Loaded) -> None:
    async with opened(loaded["llama"], max_running=1, max_waiting=1) as engine, _running(engine):
        waiting = asyncio.create_task(collect(engine, request()))
        await _until(engine, waiting=1)
        with pytest.raises(Overloaded, match="1 replies are being written and 1 wait") as refused:
            await collect(engine, request())
        assert 1 <= refused.value.retry_after < 600
        waiting.cancel()


async def test_who_leaves_the_queue_makes_room_at_once(loaded: Loaded) -> None:
    async with opened(loaded["llama"], max_running=1, max_waiting=1) as engine, _running(engine):
        waiting = asyncio.create_task(collect(engine, request()))
        await _until(engine, waiting=1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await engine.health()).waiting == 0


async def test_who_came_first_is_served_first(loaded: Loaded) -> None:
    ended: list[str] = []

    async def listen(content: str) -> None:
        await collect(engine, request(content))
        ended.append(content)

    async with opened(loaded["llama"], max_running=1) as engine:
        async with _running(engine):
            tasks = []
            for waiting, content in enumerate(("a", "b", "c"), start=1):
                tasks.append(asyncio.create_task(listen(content)))
                await _until(engine, waiting=waiting)
        await asyncio.gather(*tasks)
    assert ended == ["a", "b", "c"]


async def test_cancelling_gives_the_place_and_the_memory_back(loaded: Loaded) -> None:
    watched = WatchedModel(loaded["llama"])
    async with opened(replace(loaded["llama"], model=watched), max_running=1) as engine:
        async with _running(engine):
            assert watched.live_caches == 1
        await collect(engine, request(sampling=replace(GREEDY, max_tokens=2)))
        assert len(watched.lengths) < LONG
        assert watched.live_caches == 0


async def test_the_memory_is_free_although_the_listener_lingers(loaded: Loaded) -> None:
    watched = WatchedModel(loaded["llama"])
    async with opened(replace(loaded["llama"], model=watched)) as engine:
        async for delta in engine.generate(request()):
            if delta.finish is not None:
                assert watched.live_caches == 0


async def test_a_deadline_holds_for_those_who_wait_as_well(loaded: Loaded) -> None:
    async with opened(loaded["llama"], max_running=1) as engine, _running(engine):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 seconds"):
            await collect(engine, request(deadline_seconds=0.01))
        assert (await engine.health()).waiting == 0


async def test_the_event_loop_goes_on_while_the_model_computes(loaded: Loaded) -> None:
    go_on = threading.Event()
    model = scripted(loaded["llama"], lambda _: [go_on, *tokens_of(loaded["llama"], "Hello<|im_end|>")])
    async with opened(model) as engine:
        listening = asyncio.create_task(collect(engine, request()))
        await _until(engine, running=1)
        go_on.set()  # reached only if the loop was free while the model stood still
        assert text_of(await listening) == "Hello"


# When things go wrong


async def test_scores_that_are_no_numbers_end_that_reply_alone(loaded: Loaded) -> None:
    for sampling in (GREEDY, SamplingParams()):
        outcome = await _fault_beside_another(loaded["llama"], None, sampling)
        assert isinstance(outcome, BadRequest)
        assert "no numbers any more" in str(outcome)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
async def test_a_reply_that_finds_no_memory_beside_others_ends_alone(
    loaded: Loaded, error: BaseException
) -> None:
    outcome = await _fault_beside_another(loaded["llama"], error)
    assert isinstance(outcome, Overloaded)
    assert "beside 1 other replies" in str(outcome)
    assert outcome.retry_after >= 1


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
async def test_a_reply_that_finds_no_memory_alone_is_too_long(loaded: Loaded, error: BaseException) -> None:
    async with opened(scripted(loaded["llama"], lambda _: [error])) as engine:
        with pytest.raises(BadRequest, match="it must be shorter"):
            await collect(engine, request())
        assert (await engine.health()).running == 0


async def test_a_crash_ends_all_and_health_tells_why(loaded: Loaded) -> None:
    go_on = threading.Event()
    model = scripted(loaded["llama"], lambda _: [go_on, IndexError("no such row")])
    async with opened(model, max_running=1) as engine:
        replies = [asyncio.create_task(collect(engine, request())) for _ in range(3)]
        await _until(engine, running=1, waiting=2)
        go_on.set()
        for outcome in await asyncio.gather(*replies, return_exceptions=True):
            assert isinstance(outcome, EngineDied)
            assert "IndexError: no such row" in str(outcome)
        with pytest.raises(EngineDied, match="no such row"):
            await engine.health()
        with pytest.raises(EngineDied, match="no such row"):
            await collect(engine, request())


@asynccontextmanager
async def _running(engine: LocalEngine) -> AsyncIterator[None]:
    """A reply that is being written meanwhile."""
    async with aclosing(engine.generate(ask(max_tokens=LONG))) as deltas:
        await anext(deltas)
        yield


async def _until(engine: LocalEngine, *, running: int | None = None, waiting: int | None = None) -> None:
    """Let the loop turn until the engine has taken the requests in."""
    while True:
        health = await engine.health()
        if running in (None, health.running) and waiting in (None, health.waiting):
            return
        await asyncio.sleep(0)


async def _fault_beside_another(
    loaded: LoadedModel, fault: Step, sampling: SamplingParams = GREEDY
) -> list[Delta] | BaseException:
    """What comes of a request whose first step is `fault`, while another one is written, which ends well."""
    go_on = threading.Event()
    well: list[Step] = [*tokens_of(loaded, "All"), go_on, *tokens_of(loaded, " is well.<|im_end|>")]
    async with opened(scripted(loaded, lambda prompt: [fault] if "fault" in prompt else well)) as engine:
        other = asyncio.create_task(collect(engine, request()))
        await _until(engine, running=1)
        faulty = asyncio.create_task(collect(engine, request("fault", sampling)))
        await _until(engine, running=1, waiting=1)
        go_on.set()
        [outcome] = await asyncio.gather(faulty, return_exceptions=True)
        assert text_of(await other) == "All is well."
        return outcome


def _saying(loaded: LoadedModel, text: str) -> LoadedModel:
    return scripted(loaded, lambda _: tokens_of(loaded, text))
