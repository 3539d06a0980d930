"""The local engine: as transformers generates, whoever runs beside, and orderly when things go wrong."""

import asyncio
import itertools
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.engine.local import LocalEngine
from model.engine.lora import Adapters
from model.engine.pace import Pace
from model.engine.runner import Runner
from model.engine.scheduler import MOST_FAULTS
from model.engine.trial import open_runner
from model.errors import BadRequest, DeadlineExceeded, EngineDied, Overloaded
from model.loading import LoadedModel, load_model
from model.request import AdapterRef, ChatMessage, Completion, Constraint, GenerationRequest, SamplingParams
from tests.model.engine.scripted_runner import ScriptedRunner, Step, Watched, tokens_of
from tests.model.engine_contract import LONG, ask, collect, text_of
from tests.model.tiny_models import CONTEXT, Shape

BICYCLE = "我喜欢在晴朗的日子里骑自行车"
SYSTEM = ChatMessage("system", "You are Parley, a kind and patient chatbot. " * 3)
GREEDY = SamplingParams(temperature=0, repetition_penalty=1, max_tokens=60)
DRAWN = SamplingParams(temperature=0.9, top_p=0.9, max_tokens=60, seed=11)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
]
SHAPES: tuple[Shape, ...] = ("llama", "qwen3", "gpt2")
Loaded = dict[Shape, LoadedModel]


@pytest.fixture(scope="module")
def reference(folders: dict[Shape, Path]) -> Loaded:
    """The same weights, which no engine has touched."""
    return {shape: load_model(str(folder), device="cpu") for shape, folder in folders.items()}


@asynccontextmanager
async def opened(loaded: LoadedModel, **options: Any) -> AsyncIterator[LocalEngine]:
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


def generate(loaded: LoadedModel, asked: GenerationRequest) -> list[int]:
    """What transformers' own `generate` replies, in tokens."""
    prompt = loaded.format.render(asked.messages)
    whole = loaded.model.generate(
        torch.tensor([prompt]),
        do_sample=False,
        max_new_tokens=asked.sampling.max_tokens,
        pad_token_id=0,
        eos_token_id=None,
    )
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


def said(loaded: LoadedModel, tokens: list[int]) -> str:
    text: str = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return text.lstrip()


def scripted(loaded: LoadedModel, script: Callable[[str], Iterable[Step]], **options: Any) -> Watched:
    """A runner in the model's place."""
    vocabulary = loaded.model.config.vocab_size
    return Watched(ScriptedRunner(loaded.tokenizer, script, vocabulary=vocabulary, **options))


def saying(loaded: LoadedModel, text: str) -> Watched:
    return scripted(loaded, lambda _: tokens_of(loaded.tokenizer, text))


def watched(loaded: LoadedModel, *, cache_bytes: int | None = None) -> Watched:
    """The model's own runner."""
    adapters = Adapters(loaded.model, base_version=loaded.version)
    runner: Runner = open_runner(
        loaded, adapters, context_tokens=CONTEXT, max_running=8, cache_bytes=cache_bytes
    )
    return Watched(runner)


async def until(engine: LocalEngine, *, running: int | None = None, waiting: int | None = None) -> None:
    """Let the loop turn until the engine has taken the requests in."""
    while True:
        health = await engine.health()
        if running in (None, health.running) and waiting in (None, health.waiting):
            return
        await asyncio.sleep(0)


@asynccontextmanager
async def long_reply(engine: LocalEngine) -> AsyncIterator[None]:
    """A reply that is being written meanwhile."""
    async with aclosing(engine.generate(ask(max_tokens=LONG))) as deltas:
        await anext(deltas)
        yield


# As transformers generates


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("content", ["Hello there!", BICYCLE])
async def test_greedy_replies_are_those_of_transformers(
    loaded: Loaded, reference: Loaded, shape: Shape, content: str
) -> None:
    asked = request(content)
    expected = generate(reference[shape], asked)
    async with opened(loaded[shape]) as engine:
        text, completion = await reply(engine, asked)
    assert text == said(reference[shape], expected)
    assert completion.completion_tokens == len(expected) == 60
    assert completion.reason == "length"


@pytest.mark.parametrize("shape", SHAPES)
async def test_so_are_those_of_many_at_once(loaded: Loaded, reference: Loaded, shape: Shape) -> None:
    contents = ["Hello there!", BICYCLE, "a", "What is the time? " * 30, "Parley", BICYCLE * 3]
    requests = [request(content, conversation=content) for content in contents]
    expected = [said(reference[shape], generate(reference[shape], asked)) for asked in requests]
    async with opened(loaded[shape]) as engine:
        replies = await asyncio.gather(*(reply(engine, asked) for asked in requests))
    assert [text for text, _ in replies] == expected


async def test_a_long_prompt_is_computed_in_pieces_which_makes_no_difference(
    loaded: Loaded, reference: Loaded
) -> None:
    asked = request(BICYCLE * 20)
    runner = watched(loaded["llama"])
    async with opened(loaded["llama"], runner=runner) as engine:
        text, completion = await reply(engine, asked)
    lengths = [len(feed.tokens) for feeds in runner.passes for feed in feeds]
    assert completion.prompt_tokens > Pace.MOST == max(lengths)
    assert text == said(reference["llama"], generate(reference["llama"], asked))


# Whoever runs beside


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_seed_gives_the_same_text_whatever_runs_beside(loaded: Loaded, shape: Shape) -> None:
    requests = [request(f"Hello {seed}", replace(DRAWN, seed=seed, max_tokens=30)) for seed in range(6)]
    async with opened(loaded[shape]) as engine:
        alone = [(await reply(engine, asked))[0] for asked in requests]
        beside = await asyncio.gather(*(reply(engine, asked) for asked in [*requests, request()]))
    assert [text for text, _ in beside][:-1] == alone
    assert len(set(alone)) == 6


async def test_a_drawn_seed_gives_the_same_text_again(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        first, completion = await reply(engine, ask(seed=None))
        again, _ = await reply(engine, ask(seed=completion.seed))
    assert first == again


async def test_who_comes_and_goes_at_any_time_changes_nothing(loaded: Loaded) -> None:
    """Some leave in the middle, the memory is short: the others get what they get alone, and nothing is left over."""
    order = random.Random(4)
    requests = [
        request("Hello! " * order.randint(1, 40), replace(DRAWN, seed=seed, max_tokens=order.randint(5, 25)))
        for seed in range(10)
    ]

    async def listen(asked: GenerationRequest, leaves_after: int) -> str:
        text = ""
        async with aclosing(engine.generate(asked)) as deltas:
            async for delta in deltas:
                text += delta.text
                leaves_after -= 1
                if not leaves_after:
                    break
        return text

    model = loaded["llama"]
    async with opened(model) as engine:
        alone = [(await reply(engine, asked))[0] for asked in requests]
    leaving = [order.choice([0, 0, 1, 3]) for _ in requests]
    runner = watched(model, cache_bytes=512 * CONTEXT)
    async with opened(model, runner=runner, max_running=5) as engine:
        texts = await asyncio.gather(*map(listen, requests, leaving))
        await until(engine, running=0, waiting=0)
        await collect(engine, request(sampling=replace(GREEDY, max_tokens=1)))
        assert not runner.places
    for text, whole, left in zip(texts, alone, leaving, strict=True):
        assert whole.startswith(text) if left else text == whole


async def test_a_short_memory_delays_and_changes_nothing(loaded: Loaded) -> None:
    """A dozen long conversations where hardly two have room."""
    requests = [
        request(f"{name} " * 300, replace(DRAWN, seed=name), conversation=str(name)) for name in range(8)
    ]
    async with opened(loaded["llama"]) as engine:
        alone = [(await reply(engine, asked))[0] for asked in requests]
    async with opened(loaded["llama"], cache_bytes=256 * CONTEXT + 1) as engine:
        replies = await asyncio.gather(*(reply(engine, asked) for asked in requests))
    assert [text for text, _ in replies] == alone


# Turns


def next_turn(asked: GenerationRequest, text: str) -> GenerationRequest:
    messages = (*asked.messages, ChatMessage("assistant", text), ChatMessage("user", "Why?"))
    return GenerationRequest(messages, DRAWN, asked.conversation)


@pytest.mark.parametrize(("shape", "pattern"), [("llama", "[0-9]+"), ("gpt2", " [0-9]+")])
async def test_the_next_turn_pays_for_its_new_words_alone(loaded: Loaded, shape: Shape, pattern: str) -> None:
    """The tokenizer has each digit by itself: what is written so is read back in the same tokens."""
    sampling = replace(DRAWN, constraint=Constraint("regex", pattern), max_tokens=12)
    first = GenerationRequest((SYSTEM, ChatMessage("user", BICYCLE)), sampling, "a")
    async with opened(loaded[shape]) as engine:
        text, cost = await reply(engine, first)
        turn = next_turn(first, text)
        second_text, second_cost = await reply(engine, turn)
    async with opened(loaded[shape]) as engine:
        fresh_text, fresh_cost = await reply(engine, turn)
    assert (cost.cached_tokens, fresh_cost.cached_tokens) == (0, 0)
    # All but the last token of the reply, which was chosen and never computed.
    assert second_cost.cached_tokens == cost.prompt_tokens + cost.completion_tokens - 1
    assert second_text == fresh_text


async def test_any_text_is_known_as_far_as_it_reads_back_as_it_was_written(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        first = request(conversation="a")
        turns = []
        for _ in range(3):
            text, cost = await reply(engine, first)
            turns.append((first, text, cost))
            first = next_turn(first, text)
    for (_, _, before), (asked, text, cost) in itertools.pairwise(turns):
        assert before.prompt_tokens <= cost.cached_tokens < cost.prompt_tokens
        async with opened(loaded["llama"]) as engine:
            assert (await reply(engine, asked))[0] == text


async def test_the_system_prompt_is_computed_once_for_all(loaded: Loaded) -> None:
    one, two = (
        GenerationRequest((SYSTEM, ChatMessage("user", text)), DRAWN, text) for text in ("Hi!", BICYCLE)
    )
    prompts = [loaded["llama"].format.render(asked.messages) for asked in (one, two)]
    common = next(place for place, (a, b) in enumerate(zip(*prompts, strict=False)) if a != b)
    async with opened(loaded["llama"]) as engine:
        text_of_one, _ = await reply(engine, one)
        text, cost = await reply(engine, two)
        again, _ = await reply(engine, one)
    async with opened(loaded["llama"]) as engine:
        assert (await reply(engine, two))[0] == text
    assert cost.cached_tokens == common > 50
    assert again == text_of_one


# Ahead of the question


async def test_what_is_prefetched_is_known_when_it_is_asked(loaded: Loaded) -> None:
    asked = request(BICYCLE * 20)
    async with opened(loaded["llama"]) as engine:
        expected, _ = await reply(engine, asked)
    runner = watched(loaded["llama"])
    async with opened(loaded["llama"], runner=runner) as engine:
        await engine.prefetch(asked)
        await _computed(runner, await engine.count_tokens(asked.messages) - 1)
        text, cost = await reply(engine, asked)
    assert text == expected
    assert cost.cached_tokens == cost.prompt_tokens - 1


async def test_a_busy_engine_prefetches_nothing(loaded: Loaded) -> None:
    asked = request(BICYCLE * 20)
    async with opened(loaded["llama"]) as engine:
        async with long_reply(engine):
            await engine.prefetch(asked)
        await collect(engine, request("Hello"))
        _, cost = await reply(engine, asked)
    assert cost.cached_tokens < 16


async def test_a_prompt_that_does_not_fit_is_not_prefetched(loaded: Loaded) -> None:
    async with opened(loaded["llama"], context_tokens=64) as engine:
        await engine.prefetch(request(BICYCLE * 20))
        assert (await reply(engine, request("Hello")))[0]


async def _computed(runner: Watched, tokens: int) -> None:
    """Until that many are."""
    while True:
        if sum(len(feed.tokens) for feeds in runner.passes for feed in feeds) >= tokens and not runner.places:
            return
        await asyncio.sleep(0)


# What a reply must be, and what is told of it


async def test_a_reply_follows_its_schema_beside_others(loaded: Loaded) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["glad", "sad"]}, "sure": {"type": "boolean"}},
        "required": ["mood", "sure"],
        "additionalProperties": False,
    }
    constraint = Constraint("json_schema", json.dumps(schema))
    asked = [request(sampling=replace(DRAWN, seed=seed, constraint=constraint)) for seed in range(4)]
    async with opened(loaded["llama"]) as engine:
        replies = await asyncio.gather(*(reply(engine, one) for one in [*asked, request(), *asked]))
    texts = [text for text, _ in replies]
    for text in (*texts[:4], *texts[5:]):
        assert json.loads(text)["mood"] in ("glad", "sad")
    assert texts[:4] == texts[5:]
    assert {completion.reason for _, completion in replies[:4]} == {"stop"}


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", '{"type": "animal"}'),
        Constraint("json_schema", "{no json"),
        Constraint("regex", "(["),
        Constraint("grammar", "nothing"),
    ],
)
async def test_a_constraint_that_cannot_be_used_is_refused(loaded: Loaded, constraint: Constraint) -> None:
    async with opened(loaded["llama"]) as engine, long_reply(engine):
        with pytest.raises(BadRequest, match="cannot be used"):
            await collect(engine, request(sampling=replace(GREEDY, constraint=constraint)))
        assert (await engine.health()).running == 1
        assert (await reply(engine, request()))[0]


async def test_a_bias_for_a_token_that_does_not_exist_is_refused(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        with pytest.raises(BadRequest, match="4711"):
            await collect(engine, request(sampling=replace(GREEDY, logit_bias=((4711, 1.0),))))
        assert (await reply(engine, request()))[0]


async def test_log_probabilities_come_with_every_token(loaded: Loaded, reference: Loaded) -> None:
    asked = request(sampling=replace(GREEDY, logprobs=3, max_tokens=20))
    model = reference["llama"]
    prompt, expected = model.format.render(asked.messages), generate(model, asked)
    async with opened(loaded["llama"]) as engine:
        deltas = await collect(engine, asked)
    told = [logprobs for delta in deltas for logprobs in delta.logprobs]
    with torch.inference_mode():
        scores = model.model(torch.tensor([prompt + expected])).logits[0, len(prompt) - 1 : -1]
    best = scores.log_softmax(-1).topk(3)
    assert [one.token for one in told] == expected
    assert [[token for token, _ in one.top] for one in told] == best.indices.tolist()
    assert [one.logprob for one in told] == pytest.approx(best.values[:, 0].tolist(), abs=1e-4)


async def test_a_phrase_that_is_banned_is_not_written(loaded: Loaded) -> None:
    async with opened(loaded["llama"]) as engine:
        text, _ = await reply(engine, request())
        banned = max(text.replace("\ufffd", " ").split(), key=len)
        other, _ = await reply(engine, request(sampling=replace(GREEDY, banned_phrases=(banned,))))
    assert banned in text
    assert banned not in other


# Where replies end


async def test_the_models_own_end_token_ends_the_reply(loaded: Loaded, reference: Loaded) -> None:
    tokens = generate(reference["gpt2"], request())
    settings = loaded["gpt2"].model.generation_config
    settings.eos_token_id = [tokens[10], tokens[20]]
    try:
        async with opened(loaded["gpt2"]) as engine:
            text, completion = await reply(engine, request())
    finally:
        settings.eos_token_id = None
    end = min(tokens.index(tokens[10]), tokens.index(tokens[20]))
    assert completion.reason == "stop"
    assert completion.completion_tokens == end + 1
    assert text == said(reference["gpt2"], tokens[:end])


async def test_the_templates_end_of_turn_ends_the_reply(loaded: Loaded) -> None:
    runner = saying(loaded["llama"], "Hello.<|im_end|>more")
    async with opened(loaded["llama"], runner=runner) as engine:
        text, completion = await reply(engine, request())
    assert (text, completion.reason) == ("Hello.", "stop")


async def test_a_base_model_does_not_go_on_with_the_other_speakers(loaded: Loaded) -> None:
    runner = saying(loaded["gpt2"], " 你好！ Yes.\nNo: both.\nAnn: and then?")
    messages = (ChatMessage("user", BICYCLE, "Ann"),)
    async with opened(loaded["gpt2"], runner=runner) as engine:
        text, completion = await reply(engine, GenerationRequest(messages, GREEDY))
    assert (text, completion.reason) == ("你好！ Yes.\nNo: both.", "stop")


async def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(loaded: Loaded) -> None:
    runner = saying(loaded["llama"], "One, two, three, four")
    async with opened(loaded["llama"], runner=runner) as engine:
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
    async with opened(loaded["llama"], max_running=1, max_waiting=1) as engine, long_reply(engine):
        waiting = asyncio.create_task(collect(engine, request()))
        await until(engine, waiting=1)
        with pytest.raises(Overloaded, match="1 replies are being written and 1 wait") as refused:
            await collect(engine, request())
        assert 1 <= refused.value.retry_after < 600
        waiting.cancel()


async def test_who_leaves_the_queue_makes_room_at_once(loaded: Loaded) -> None:
    async with opened(loaded["llama"], max_running=1, max_waiting=1) as engine, long_reply(engine):
        waiting = asyncio.create_task(collect(engine, request()))
        await until(engine, waiting=1)
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
        async with long_reply(engine):
            tasks = []
            for waiting, content in enumerate(("a", "b", "c"), start=1):
                tasks.append(asyncio.create_task(listen(content)))
                await until(engine, waiting=waiting)
        await asyncio.gather(*tasks)
    assert ended == ["a", "b", "c"]


async def test_cancelling_gives_the_place_back(loaded: Loaded) -> None:
    runner = watched(loaded["llama"])
    async with opened(loaded["llama"], runner=runner, max_running=1) as engine:
        async with long_reply(engine):
            assert len(runner.places) == 1
        await collect(engine, request(sampling=replace(GREEDY, max_tokens=2)))
        assert len(runner.passes) < LONG
        assert not runner.places


async def test_the_place_is_free_although_the_listener_lingers(loaded: Loaded) -> None:
    runner = watched(loaded["llama"])
    async with opened(loaded["llama"], runner=runner) as engine:
        async for delta in engine.generate(request()):
            if delta.finish is not None:
                assert not runner.places
                assert (await engine.health()).running == 0


async def test_a_deadline_holds_for_those_who_wait_as_well(loaded: Loaded) -> None:
    async with opened(loaded["llama"], max_running=1) as engine, long_reply(engine):
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 seconds"):
            await collect(engine, request(deadline_seconds=0.01))
        assert (await engine.health()).waiting == 0


async def test_the_event_loop_goes_on_while_the_model_computes(loaded: Loaded) -> None:
    go_on = threading.Event()
    hello = tokens_of(loaded["llama"].tokenizer, "Hello")
    runner = scripted(loaded["llama"], lambda _: [go_on, *hello])
    async with opened(loaded["llama"], runner=runner) as engine:
        listening = asyncio.create_task(collect(engine, request()))
        await until(engine, running=1)
        go_on.set()  # reached only if the loop was free while the model stood still
        assert text_of(await listening) == "Hello"


# When things go wrong


@pytest.mark.parametrize(
    ("fault", "sampling", "reason"),
    [
        (None, GREEDY, "no numbers any more"),
        (None, SamplingParams(), "no numbers any more"),
        (IndexError("no such row"), GREEDY, "IndexError"),
        (RuntimeError("shapes"), GREEDY, "RuntimeError"),
    ],
)
async def test_a_fault_ends_the_request_to_blame_alone(
    loaded: Loaded, fault: Step, sampling: SamplingParams, reason: str
) -> None:
    model, go_on = loaded["llama"], threading.Event()
    all_is, well = (tokens_of(model.tokenizer, text) for text in ("All", " is well."))
    runner = scripted(model, lambda prompt: [fault] if "fault" in prompt else [*all_is, go_on, *well])
    async with opened(model, runner=runner) as engine:
        other = asyncio.create_task(collect(engine, request()))
        await until(engine, running=1)
        faulty = asyncio.create_task(collect(engine, request("fault", sampling)))
        await until(engine, running=2)
        go_on.set()
        with pytest.raises(BadRequest, match=reason):
            await faulty
        assert text_of(await other) == "All is well."
        assert text_of(await collect(engine, request())) == "All is well."


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
async def test_who_finds_no_memory_beside_others_is_computed_later(loaded: Loaded, error: Exception) -> None:
    model = loaded["llama"]
    text = "I am well, thank you, and you?"
    runner = scripted(
        model,
        lambda _: tokens_of(model.tokenizer, text),
        refusal=error,
        budget_tokens=len(model.format.render(request().messages)) + 40,
    )
    async with opened(model, runner=runner) as engine:
        replies = await asyncio.gather(*(reply(engine, request()) for _ in range(3)))
    assert [found for found, _ in replies] == [text] * 3
    assert not runner.places


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
async def test_who_finds_no_memory_alone_is_too_long(loaded: Loaded, error: BaseException) -> None:
    async with opened(loaded["llama"], runner=scripted(loaded["llama"], lambda _: [error])) as engine:
        with pytest.raises(BadRequest, match="it must be shorter"):
            await collect(engine, request())
        assert (await engine.health()).running == 0


async def test_where_nothing_goes_well_all_end_and_health_tells_why(loaded: Loaded) -> None:
    runner = scripted(loaded["llama"], lambda _: [IndexError("no such row")])
    async with opened(loaded["llama"], runner=runner, max_running=1) as engine:
        asked = [asyncio.create_task(collect(engine, request())) for _ in range(MOST_FAULTS + 2)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        # Which of them comes to the engine first is not promised.
        died = [outcome for outcome in outcomes if isinstance(outcome, EngineDied)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, BadRequest)]
        assert (len(refused), len(died)) == (MOST_FAULTS - 1, 3)
        assert all("IndexError: no such row" in str(outcome) for outcome in died)
        with pytest.raises(EngineDied, match="no such row"):
            await engine.health()
        with pytest.raises(EngineDied, match="no such row"):
            await collect(engine, request())
        with pytest.raises(EngineDied, match="no such row"):
            await engine.prefetch(request())


async def test_a_listener_whose_loop_is_gone_harms_nobody(loaded: Loaded) -> None:
    """The reply is still being written when the loop that listened ends."""

    async def listen_a_little() -> None:
        deltas = engine.generate(ask(max_tokens=LONG))
        await anext(deltas)

    async with opened(loaded["llama"]) as engine:
        await asyncio.to_thread(lambda: asyncio.run(listen_a_little()))
        assert (await reply(engine, request()))[0]


async def test_a_call_that_was_given_up_harms_nobody(loaded: Loaded) -> None:
    go_on = threading.Event()
    hello = tokens_of(loaded["llama"].tokenizer, "Hello")
    async with opened(loaded["llama"], runner=scripted(loaded["llama"], lambda _: [go_on, *hello])) as engine:
        listening = asyncio.create_task(collect(engine, request()))
        await until(engine, running=1)
        loading = asyncio.create_task(engine.load_adapter(AdapterRef("poets", "/nowhere")))
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        go_on.set()
        assert text_of(await listening) == "Hello"
        assert text_of(await collect(engine, request())) == "Hello"
