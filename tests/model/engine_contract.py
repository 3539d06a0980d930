"""What every `Engine` does, whatever stands behind it. Subclass `EngineContract` and give it an `engine` fixture.

The engine must answer any request with a text of at least a few deltas, and must not end by itself too soon: a
request with `max_tokens` LONG is still running when its first delta is heard.
"""

import asyncio
from contextlib import aclosing

import pytest

from model.errors import BadRequest, DeadlineExceeded, EngineDied
from model.protocol import Engine
from model.request import AdapterRef, ChatMessage, Delta, GenerationRequest, SamplingParams

LONG = 1500
HELLO = (ChatMessage("system", "Be kind."), ChatMessage("user", "Hello there!", "Ann"))


def ask(*, max_tokens: int = 20, seed: int | None = 7, deadline: float | None = None) -> GenerationRequest:
    sampling = SamplingParams(temperature=0.3, max_tokens=max_tokens, seed=seed, repetition_penalty=1.0)
    return GenerationRequest(HELLO, sampling, deadline_seconds=deadline)


async def collect(engine: Engine, request: GenerationRequest) -> list[Delta]:
    return [delta async for delta in engine.generate(request)]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


class EngineContract:
    async def test_a_reply_ends_with_its_only_finish(self, engine: Engine) -> None:
        deltas = await collect(engine, ask())
        assert text_of(deltas)
        assert [delta.finish is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]

    async def test_only_the_last_delta_may_be_empty(self, engine: Engine) -> None:
        deltas = await collect(engine, ask())
        assert all(delta.text for delta in deltas[:-1])

    async def test_the_completion_tells_what_the_reply_cost(self, engine: Engine) -> None:
        completion = (await collect(engine, ask()))[-1].finish
        assert completion is not None
        assert completion.prompt_tokens == await engine.count_tokens(HELLO)
        assert completion.completion_tokens > 0
        assert 0 <= completion.queue_seconds <= completion.first_token_seconds <= completion.total_seconds

    async def test_the_completion_tells_the_seed(self, engine: Engine) -> None:
        asked = (await collect(engine, ask(seed=99)))[-1].finish
        drawn = (await collect(engine, ask(seed=None)))[-1].finish
        assert asked is not None
        assert asked.seed == 99
        assert drawn is not None
        SamplingParams(seed=drawn.seed)

    async def test_a_prefetched_prompt_gives_the_same_reply(self, engine: Engine) -> None:
        alone = text_of(await collect(engine, ask()))
        await engine.prefetch(ask())
        assert text_of(await collect(engine, ask())) == alone

    async def test_what_is_prefetched_and_never_asked_for_is_in_nobodys_way(self, engine: Engine) -> None:
        for seed in range(3):
            await engine.prefetch(ask(seed=seed))
        assert (await engine.health()).running == 0
        assert text_of(await collect(engine, ask()))

    async def test_longer_prompts_count_more_tokens(self, engine: Engine) -> None:
        assert await engine.count_tokens((*HELLO, *HELLO)) > await engine.count_tokens(HELLO) > 0

    async def test_health_names_what_serves_and_counts_what_runs(self, engine: Engine) -> None:
        idle = await engine.health()
        assert idle.model
        assert idle.version
        assert idle.context_tokens > 0
        assert idle.running == idle.waiting == 0
        async with aclosing(engine.generate(ask(max_tokens=LONG))) as deltas:
            await anext(deltas)
            assert (await engine.health()).running == 1

    async def test_nothing_runs_once_the_finish_is_heard_of(self, engine: Engine) -> None:
        await collect(engine, ask())
        assert (await engine.health()).running == 0

    async def test_a_short_reply_does_not_wait_for_a_long_one(self, engine: Engine) -> None:
        async with aclosing(engine.generate(ask(max_tokens=LONG))) as long_reply:
            await anext(long_reply)
            assert text_of(await collect(engine, ask(max_tokens=3)))
            assert (await anext(long_reply)).finish is None

    async def test_replies_at_once_are_those_that_each_gets_alone(self, engine: Engine) -> None:
        alone = [text_of(await collect(engine, ask(seed=seed))) for seed in range(4)]
        at_once = await asyncio.gather(*(collect(engine, ask(seed=seed)) for seed in range(4)))
        assert [text_of(deltas) for deltas in at_once] == alone

    async def test_a_closed_iterator_leaves_the_engine_in_order(self, engine: Engine) -> None:
        async with aclosing(engine.generate(ask(max_tokens=LONG))) as deltas:
            await anext(deltas)
        assert text_of(await collect(engine, ask()))

    async def test_a_cancelled_task_leaves_the_engine_in_order(self, engine: Engine) -> None:
        started = asyncio.Event()

        async def listen() -> None:
            async for _ in engine.generate(ask(max_tokens=LONG)):
                started.set()

        task = asyncio.create_task(listen())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert text_of(await collect(engine, ask()))

    async def test_a_deadline_is_kept(self, engine: Engine) -> None:
        with pytest.raises(DeadlineExceeded, match="within 0 seconds"):
            await collect(engine, ask(deadline=0))
        assert text_of(await collect(engine, ask(deadline=60)))

    async def test_an_unknown_adapter_is_refused_by_name(self, engine: Engine) -> None:
        adapter = AdapterRef("poets", "/nowhere")
        with pytest.raises(BadRequest, match="poets"):
            await engine.load_adapter(adapter)
        with pytest.raises(BadRequest, match="poets"):
            await collect(engine, GenerationRequest(HELLO, adapter=adapter))

    async def test_closing_ends_what_runs_and_can_be_done_twice(self, engine: Engine) -> None:
        async with aclosing(engine.generate(ask(max_tokens=LONG))) as deltas:
            await anext(deltas)
            await engine.close()
            await engine.close()
            with pytest.raises(EngineDied):
                async for _ in deltas:
                    pass
        with pytest.raises(EngineDied):
            await collect(engine, ask())
        with pytest.raises(EngineDied):
            await engine.health()
