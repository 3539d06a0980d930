"""The scheduler, step by step and without threads: whoever runs beside whom, each gets the text it gets alone."""

import functools
import random
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from model.engine.kv_cache import KVCache, OutOfSlots
from model.engine.lora import Adapters
from model.engine.pace import Pace
from model.engine.passes import BatchRunner, SingleRunner
from model.engine.runner import Feed, Runner
from model.engine.sampler import Sampler
from model.engine.scheduler import MOST_FAULTS, PREFETCH_TOKENS, Scheduler
from model.engine.sequence import Sequence
from model.engine.text import ReplyText
from model.engine.words import token_texts
from model.errors import BadRequest, EngineError
from model.request import Completion, Delta, SamplingParams
from tests.model.engine.architectures import SINGLE, VOCABULARY, build
from tests.model.engine.scripted_runner import ScriptedRunner, Step, Watched, tokens_of
from tests.model.tiny_models import make_model, make_tokenizer

LIMIT = 80
"""Tokens that one sequence of these tests may have."""
MOST_STEPS = 2000
GREEDY = SamplingParams(temperature=0, repetition_penalty=1)
DRAWN = SamplingParams(temperature=1.0, top_p=0.9, repetition_penalty=1.1, seed=3)
FEW_WORDS = SamplingParams(
    temperature=0.7, repetition_penalty=1, seed=5, logit_bias=((80, 100.0), (90, 99.5), (100, 99.0))
)
"""Draws from three tokens: what follows was there before, and is guessed now rightly and now wrongly."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


# What the tests are made of


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    return make_tokenizer()


@functools.cache
def model_runner() -> BatchRunner:
    model = make_model()
    return BatchRunner(model, make_cache(), Adapters(model, base_version="test"))


@functools.cache
def hybrid() -> PreTrainedModel:
    return build(SINGLE["Qwen3.5 with linear attention"])


def single_runner() -> SingleRunner:
    return SingleRunner(hybrid(), Adapters(hybrid(), base_version="test"), kept=4)


def make_cache(*, slots: int = 8, budget_tokens: int = 10_000, slot_tokens: int = LIMIT) -> KVCache:
    return KVCache(
        slot_tokens=slot_tokens,
        budget_tokens=budget_tokens,
        slots=slots,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def real_runner(**options: int) -> BatchRunner:
    """The same tiny model for all, each time with a cache of its own."""
    runner = model_runner()
    runner.cache = make_cache(**options)
    return runner


def scripted(texts: Mapping[str, Several[Step] | str], **options: Any) -> ScriptedRunner:
    """Of each prompt, which its key is, the reply."""

    def script(prompt: str) -> Several[Step]:
        steps = texts[prompt]
        return tokens_of(tokenizer(), steps) if isinstance(steps, str) else steps

    return ScriptedRunner(tokenizer(), script, **options)


@dataclass(eq=False)
class Asked:
    """A request, and what was heard of it."""

    prompt: list[int]
    max_tokens: int = 12
    sampling: SamplingParams = GREEDY
    conversation: str = ""
    stop: tuple[str, ...] = ()
    heard: list[Delta | EngineError] = field(default_factory=list)
    sequence: Sequence = field(init=False)

    def __post_init__(self) -> None:
        stops = frozenset({tokenizer().eos_token_id})
        self.sequence = Sequence(
            self.prompt,
            max_tokens=self.max_tokens,
            stop_tokens=stops,
            sampler=Sampler(
                self.sampling,
                prompt=self.prompt,
                vocabulary=VOCABULARY,
                stop_tokens=stops,
                words=token_texts(tokenizer()),
            ),
            text=ReplyText(tokenizer(), self.stop),
            deliver=self.heard.append,
            called_at=0.0,
            conversation=self.conversation,
        )

    @property
    def ended(self) -> bool:
        return bool(self.heard) and (
            isinstance(self.heard[-1], EngineError) or self.heard[-1].finish is not None
        )

    @property
    def completion(self) -> Completion:
        [completion] = [item.finish for item in self.heard if isinstance(item, Delta) and item.finish]
        return completion

    @property
    def text(self) -> str:
        assert self.ended
        return "".join(item.text if isinstance(item, Delta) else f"<{item}>" for item in self.heard)


class Faulty(Watched):
    def forward(self, feeds: Several[Feed]) -> torch.Tensor:
        raise ValueError("no such row")


def says(text: str, **options: Any) -> Asked:
    return Asked(tokens_of(tokenizer(), text), **options)


class Run:
    """A scheduler with its requests, moved by hand."""

    def __init__(self, runner: Runner, *, max_running: int = 4, batched: bool | None = None) -> None:
        self.runner = Watched(runner, batched=batched)
        self.left: list[Sequence] = []
        self.scheduler = Scheduler(self.runner, max_running=max_running, ended=self.left.append)

    def ask(self, *requests: Asked) -> None:
        self.scheduler.waiting += [request.sequence for request in requests]

    def step(self) -> list[Feed]:
        """What the step computed."""
        before = len(self.runner.passes)
        self.scheduler.step()
        return [feed for feeds in self.runner.passes[before:] for feed in feeds]

    def finish(self) -> None:
        for _ in range(MOST_STEPS):
            if self.scheduler.idle:
                assert not self.runner.places
                return
            self.scheduler.step()
        raise AssertionError("the requests do not end")


def alone(request: Asked) -> str:
    """The text of a request that has the engine for itself, without guesses."""
    return _alone(tuple(request.prompt), request.max_tokens, request.sampling, request.stop)


@functools.cache
def _alone(prompt: tuple[int, ...], max_tokens: int, sampling: SamplingParams, stop: tuple[str, ...]) -> str:
    runner = model_runner()
    cache, runner.cache = runner.cache, make_cache(slot_tokens=1000)
    run = Run(runner, batched=False)
    request = Asked(list(prompt), max_tokens, sampling, stop=stop)
    run.ask(request)
    run.finish()
    runner.cache = cache
    return request.text


def random_prompt(length: int, seed: int = 0) -> list[int]:
    order = random.Random(seed)
    return [order.randrange(4, VOCABULARY) for _ in range(length)]


# Any schedule


@dataclass(frozen=True)
class Arrival:
    step: int
    shared: int
    """Tokens of a beginning that many have in common."""
    own: int
    seed: int
    max_tokens: int
    sampling: SamplingParams
    conversation: str
    cancelled_after: int | None

    def request(self) -> Asked:
        prompt = [*random_prompt(40)[: self.shared], *random_prompt(self.own, self.seed)]
        return Asked(prompt, self.max_tokens, self.sampling, self.conversation)


ARRIVALS = st.builds(
    Arrival,
    step=st.integers(0, 12),
    shared=st.sampled_from([0, 20, 40]),
    own=st.integers(1, 16),
    seed=st.integers(1, 3),
    max_tokens=st.integers(1, 16),
    sampling=st.sampled_from([GREEDY, DRAWN, FEW_WORDS]),
    conversation=st.sampled_from(["a", "b", "c"]),
    cancelled_after=st.none() | st.integers(0, 12),
)


def play(run: Run, arrivals: list[Arrival], ahead: list[Arrival]) -> list[tuple[Arrival, Asked]]:
    """Ask when it is time, cancel when it is time, and step until nothing is left to do."""
    requests = [(arrival, arrival.request()) for arrival in arrivals]
    for number in range(MOST_STEPS):
        for arrival, request in requests:
            if arrival.step == number:
                run.ask(request)
            if arrival.cancelled_after is not None and number == arrival.step + arrival.cancelled_after:
                request.sequence.cancelled = True
        run.scheduler.ahead += [arrival.request().sequence for arrival in ahead if arrival.step == number]
        run.scheduler.step()
        if run.scheduler.idle and number > 30:
            return requests
    raise AssertionError("the requests do not end")


def check(run: Run, requests: list[tuple[Arrival, Asked]]) -> None:
    """Each left once, those who stayed with their own text; every place was closed."""
    assert not run.runner.places
    assert len(run.left) == len(set(run.left))
    assert {request.sequence for _, request in requests} <= set(run.left)
    for arrival, request in requests:
        if arrival.cancelled_after is None:
            assert request.ended
        if request.ended:
            assert request.text == alone(request)
            assert request.completion.completion_tokens <= arrival.max_tokens


@settings(max_examples=50, deadline=None)
@given(
    arrivals=st.lists(ARRIVALS, min_size=1, max_size=6),
    ahead=st.lists(ARRIVALS, max_size=2),
    budget=st.integers(LIMIT, 250),
    slots=st.integers(1, 5),
    max_running=st.integers(1, 4),
)
def test_in_any_schedule_each_gets_its_own_text_and_nothing_leaks(
    arrivals: list[Arrival], ahead: list[Arrival], budget: int, slots: int, max_running: int
) -> None:
    runner = real_runner(budget_tokens=budget, slots=slots)
    cache = runner.cache
    run = Run(runner, max_running=max_running)
    check(run, play(run, arrivals, ahead))
    assert cache.committed <= budget
    cache.reserve(budget)
    assert cache.committed == 0


@settings(max_examples=10, deadline=None)
@given(arrivals=st.lists(ARRIVALS, min_size=1, max_size=4), ahead=st.lists(ARRIVALS, max_size=1))
def test_so_it_is_where_replies_are_computed_one_after_another(
    arrivals: list[Arrival], ahead: list[Arrival]
) -> None:
    run = Run(single_runner(), max_running=3)
    requests = play(run, arrivals, ahead)
    assert not run.runner.places
    for arrival, request in requests:
        if arrival.cancelled_after is None:
            by_itself = Run(single_runner())
            again = arrival.request()
            by_itself.ask(again)
            by_itself.finish()
            assert request.text == again.text


# Memory

REFUSALS = [
    OutOfSlots(),
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_who_came_last_gives_way_and_comes_back_with_the_same_text(refusal: Exception) -> None:
    texts = {
        "Ann?": "I am well, thank you, and you?",
        "Bob?": "Parley is a chatbot that runs on its own machine.",
    }
    longest = max(len(tokens_of(tokenizer(), prompt + text)) for prompt, text in texts.items())
    run = Run(scripted(texts, budget_tokens=longest + 2, refusal=refusal))
    first, last = (says(prompt, max_tokens=60, conversation=prompt) for prompt in texts)
    run.ask(first, last)
    while not last.sequence.generated or last.sequence.place is not None:
        run.step()
    assert first.sequence.place is not None
    run.finish()
    assert [first.text, last.text] == list(texts.values())


@pytest.mark.parametrize("refusal", REFUSALS)
def test_who_finds_no_memory_alone_is_too_long_and_others_go_on(refusal: Exception) -> None:
    run = Run(scripted({"Ann?": "I am well, thank you!", "Bob?": "Yes."}, budget_tokens=10, refusal=refusal))
    first, last = says("Ann?"), says("Bob?", conversation="b")
    run.ask(first, last)
    run.finish()
    assert isinstance(first.heard[-1], BadRequest)
    assert "it must be shorter" in str(first.heard[-1])
    assert last.text == "Yes."


def test_guesses_take_no_memory_that_the_text_needs() -> None:
    repeating = Asked(random_prompt(10), LIMIT - 10, FEW_WORDS)
    run = Run(real_runner(budget_tokens=LIMIT))
    run.ask(repeating)
    run.finish()
    assert repeating.text == alone(repeating)
    assert any(feed.scored > 1 for feeds in run.runner.passes for feed in feeds)


def test_a_changed_conversation_still_fits_the_memory_that_one_context_needs() -> None:
    first = Asked([*random_prompt(45), *random_prompt(25, 1)], 10)
    changed = Asked([*random_prompt(45), *random_prompt(25, 2)], 10)
    run = Run(real_runner(budget_tokens=LIMIT))
    for request in (first, changed):
        run.ask(request)
        run.finish()
        assert request.text == alone(request)


# Fairness


def test_nobody_is_let_in_twice_in_one_conversation_while_another_waits() -> None:
    run = Run(scripted(dict.fromkeys("abcd", "Hello there! How are you?")), max_running=2)
    requests = [says(name, conversation=place) for name, place in zip("abcd", "xxyx", strict=True)]
    run.ask(*requests)
    run.step()
    assert run.scheduler.running == [requests[0].sequence, requests[2].sequence]
    run.finish()
    assert [*run.left] == [requests[index].sequence for index in (0, 2, 1, 3)]


def test_a_conversation_alone_may_have_every_place() -> None:
    run = Run(scripted(dict.fromkeys("ab", "Hello there!")), max_running=2)
    run.ask(says("a"), says("b"))
    run.step()
    assert len(run.scheduler.running) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xyz"), st.integers(1, 5)), max_size=10))
@settings(deadline=None)
def test_whoever_waits_for_a_place_waits_for_other_conversations(
    arrivals: list[tuple[int, str, int]],
) -> None:
    runner = scripted({"a": "Hello there! How are you today? I am well."})
    run = Run(runner, max_running=2)
    requests = [(step, says("a", max_tokens=most, conversation=name)) for step, name, most in arrivals]
    for number in range(100):
        run.ask(*(request for step, request in requests if step == number))
        before = list(run.scheduler.running)
        run.step()
        running = [sequence.conversation for sequence in run.scheduler.running]
        let_in = [sequence for sequence in run.scheduler.running if sequence not in before]
        for sequence in let_in:
            if running.count(sequence.conversation) > 1:
                assert {waiting.conversation for waiting in run.scheduler.waiting} <= set(running)
    assert all(request.ended for _, request in requests)


def test_beside_a_long_prompt_every_step_gives_each_stream_its_token() -> None:
    text = "Hello there! How are you today? I am well, thank you, and you?" * 4
    run = Run(scripted({"a": text, "b": text, "Hello " * 800: "Yes."}))
    streams = [says(name, max_tokens=1000, conversation=name) for name in "ab"]
    run.ask(*streams)
    run.step()
    long = says("Hello " * 800, conversation="long")
    run.ask(long)
    run.step()
    steps = 0
    while not long.heard and not streams[0].ended:
        before = [stream.sequence.generated for stream in streams], long.sequence.missing
        run.step()
        steps += 1
        assert [stream.sequence.generated for stream in streams] == [count + 1 for count in before[0]]
        assert long.sequence.missing <= max(1, before[1] - Pace.LEAST)
    assert steps > 2
    run.finish()
    assert [stream.text for stream in streams] == [text, text]


def test_a_short_prompt_is_soon_read_although_a_long_one_came_first() -> None:
    run = Run(scripted({"Hello " * 3000: "Yes.", "a": "No."}))
    long, short = says("Hello " * 3000), says("a", conversation="b")
    run.ask(long, short)
    run.step()
    assert short.sequence.generated == 1
    missing = long.sequence.missing
    run.step()
    assert long.sequence.missing < missing
    run.finish()
    assert (long.text, short.text) == ("Yes.", "No.")


def test_a_prompt_is_read_in_pieces_which_makes_no_difference() -> None:
    runner = model_runner()
    runner.cache = make_cache(slot_tokens=1500)
    request = Asked(random_prompt(2 * Pace.MOST + 100), 8)
    run = Run(runner)
    run.ask(request)
    run.finish()
    assert [len(feed.tokens) for [feed] in run.runner.passes[:4]] == [Pace.MOST, Pace.MOST, 100, 1]
    prompt = torch.tensor([request.prompt])
    whole = make_model().generate(
        prompt, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert request.text == tokenizer().decode(whole[0, len(request.prompt) :]).lstrip()


# Guesses

CHORUS = "the same words, and the same words, and the same words, and the same words, and so on."


def both_ways(text: str, **options: Any) -> tuple[Asked, int, int]:
    """A request whose reply is `text`, and the passes that it takes with guesses and without."""
    passes = []
    for batched in (False, True):
        run = Run(scripted({"Sing!": text}), batched=batched)
        request = says("Sing!", max_tokens=options.get("max_tokens", 200), stop=options.get("stop", ()))
        run.ask(request)
        run.finish()
        passes.append((request, len(run.runner.passes)))
    [(plain, many), (guessed, few)] = passes
    assert guessed.text == plain.text
    assert guessed.completion.completion_tokens == plain.completion.completion_tokens
    assert guessed.completion.reason == plain.completion.reason
    return guessed, many, few


def test_guesses_save_passes_and_change_no_word() -> None:
    request, many, few = both_ways(CHORUS)
    assert request.text == CHORUS
    assert many == len(tokens_of(tokenizer(), CHORUS)) + 1
    assert few < 0.7 * many


@pytest.mark.parametrize("max_tokens", range(20, 32))
def test_a_limit_holds_among_guesses(max_tokens: int) -> None:
    request, many, few = both_ways(CHORUS, max_tokens=max_tokens)
    assert request.completion.completion_tokens == max_tokens
    assert request.completion.reason == "length"
    assert few <= many


@pytest.mark.parametrize("stop", ["so on", "on.", " same words, and so", ", and s"])
def test_a_stop_string_is_found_among_guesses(stop: str) -> None:
    request, _, _ = both_ways(CHORUS, stop=(stop,))
    assert request.completion.reason == "stop"
    assert request.text == CHORUS[: CHORUS.index(stop)]


def test_drawn_text_is_the_same_with_guesses() -> None:
    repeating = Asked(random_prompt(12), 60, FEW_WORDS)
    run = Run(real_runner())
    run.ask(repeating)
    run.finish()
    guesses = sum(feed.scored - 1 for feeds in run.runner.passes for feed in feeds if feed.scored)
    assert repeating.text == alone(repeating)
    assert guesses > 0
    assert len(run.runner.passes) < 60


def test_what_was_guessed_wrongly_is_not_found_again() -> None:
    run = Run(real_runner())
    first = Asked(random_prompt(12), 40, FEW_WORDS)
    run.ask(first)
    run.finish()
    second = Asked([*first.sequence.tokens, *random_prompt(5, 2)], 10)
    run.ask(second)
    run.finish()
    assert second.completion.cached_tokens == len(first.sequence.tokens) - 1
    assert second.text == alone(second)


def test_a_full_batch_makes_no_guesses() -> None:
    run = Run(scripted(dict.fromkeys("abcde", CHORUS)), max_running=5)
    run.ask(*(says(name, max_tokens=100, conversation=name) for name in "abcde"))
    run.finish()
    assert all(feed.scored <= 1 for feeds in run.runner.passes for feed in feeds)


# Computed ahead


def test_what_was_computed_ahead_serves_the_request() -> None:
    run = Run(real_runner())
    ahead, request = Asked(random_prompt(60)), Asked(random_prompt(60))
    run.scheduler.ahead.append(ahead.sequence)
    run.finish()
    assert not ahead.heard
    run.ask(request)
    run.finish()
    assert request.completion.cached_tokens == 59
    assert request.text == alone(request)


def test_so_does_a_state_that_cannot_go_back() -> None:
    run = Run(single_runner())
    run.scheduler.ahead.append(Asked(random_prompt(60)).sequence)
    run.finish()
    request = Asked(random_prompt(60))
    run.ask(request)
    run.finish()
    assert request.completion.cached_tokens == 59


def test_a_request_does_not_wait_for_what_is_computed_ahead() -> None:
    long = "Hello " * 500
    run = Run(scripted({long: "", "a": "Yes.", "b": ""}))
    run.scheduler.ahead += [says(long, conversation="long").sequence, says("b", conversation="b").sequence]
    [feed] = run.step()
    assert len(feed.tokens) == PREFETCH_TOKENS
    request = says("a", conversation="a")
    run.ask(request)
    while not request.ended:
        [feed] = run.step()
        assert feed.scored
    assert request.text == "Yes."
    run.finish()


def test_the_request_itself_takes_over_what_was_begun_ahead() -> None:
    run = Run(real_runner(slot_tokens=500))
    run.scheduler.ahead.append(Asked(random_prompt(300), conversation="a").sequence)
    run.step()
    request = Asked(random_prompt(300), 4, conversation="a")
    run.ask(request)
    run.finish()
    assert request.completion.cached_tokens == PREFETCH_TOKENS
    assert sum(len(feed.tokens) for feeds in run.runner.passes for feed in feeds) == 300 + 3


def test_a_fault_in_what_is_computed_ahead_hurts_nobody() -> None:
    run = Run(Faulty(scripted({"Hello there!": ""})))
    run.scheduler.ahead.append(says("Hello there!").sequence)
    run.finish()
    assert len(run.left) == 1


# Faults


def test_a_fault_ends_the_request_to_blame_alone() -> None:
    run = Run(
        scripted({"a": "All is well.", "b": [*tokens_of(tokenizer(), "No"), IndexError("no such row")]})
    )
    good, bad = says("a", conversation="a"), says("b", conversation="b")
    run.ask(bad, good)
    run.finish()
    assert good.text == "All is well."
    assert isinstance(bad.heard[-1], BadRequest)
    assert "IndexError" in str(bad.heard[-1])


def test_scores_that_are_no_numbers_end_that_request_alone() -> None:
    run = Run(scripted({"a": "All is well.", "b": [None], "c": [None]}))
    good = says("a", conversation="a")
    bad = [says("b", conversation="b"), says("c", conversation="c", sampling=SamplingParams())]
    run.ask(bad[0], good, bad[1])
    run.finish()
    assert good.text == "All is well."
    for request in bad:
        [error] = request.heard
        assert isinstance(error, BadRequest)
        assert "no numbers any more" in str(error)


def test_where_every_pass_fails_the_engine_itself_is_at_fault() -> None:
    run = Run(scripted({"a": [ValueError("broken")]}))
    for _ in range(MOST_FAULTS - 1):
        request = says("a")
        run.ask(request)
        run.step()
        assert isinstance(request.heard[-1], BadRequest)
    run.ask(says("a"))
    with pytest.raises(ValueError, match="broken"):
        run.step()


def test_a_pass_that_goes_well_in_between_makes_faults_the_requests_own() -> None:
    run = Run(scripted({"a": [ValueError("broken")], "b": "Yes."}))
    for _ in range(2 * MOST_FAULTS):
        bad, good = says("a"), says("b")
        run.ask(bad)
        run.finish()
        run.ask(good)
        run.finish()
        assert isinstance(bad.heard[-1], BadRequest)
        assert good.text == "Yes."


def test_a_fault_does_not_touch_those_who_are_computed_before_it_one_by_one() -> None:
    def refuse(module: Any, args: Any, inputs: dict[str, Any]) -> None:
        if 7 in inputs["input_ids"]:
            raise ValueError("seven")

    good, again = Asked(random_prompt(20), 12, conversation="a"), Asked(random_prompt(20), 12)
    expected = Run(single_runner())
    expected.ask(again)
    expected.finish()
    bad = Asked([7] * 20, 12, conversation="b")
    hook = hybrid().register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        run = Run(single_runner())
        run.ask(good, bad)
        run.finish()
    finally:
        hook.remove()
    assert isinstance(bad.heard[-1], BadRequest)
    assert good.text == again.text


# Cancellation


def test_whoever_leaves_is_let_go_with_the_next_step() -> None:
    run = Run(scripted(dict.fromkeys("abc", "Hello there! How are you?")), max_running=1)
    running, waiting, ahead = (says(name, conversation=name) for name in "abc")
    run.ask(running, waiting)
    run.step()
    run.scheduler.ahead.append(ahead.sequence)
    for request in (running, waiting, ahead):
        request.sequence.cancelled = True
    assert not run.step()
    assert run.scheduler.idle
    assert not run.runner.places
    assert run.left == [waiting.sequence, running.sequence, ahead.sequence]
    assert not waiting.heard
    assert not running.ended


def test_the_place_is_free_when_the_end_is_heard_of() -> None:
    run = Run(scripted({"a": "Yes."}))
    request = says("a")
    places: list[int] = []
    request.sequence.deliver = lambda item: places.append(len(run.runner.places))
    run.ask(request)
    run.finish()
    assert places[-1] == 0
