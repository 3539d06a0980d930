"""Asks the starter the held-out prompts on the path that people's messages take, and counts what passes.

python -m benchmarks.starter_quality [--model FOLDER] [--json] [--show-failures N] [--temperature T] [--seed N]
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType

from benchmarks.starter_heldout import HeldOutPrompt, Language, faults_of, find_overlap, load_prompts
from bot.settings import DEFAULT_PERSONA, Settings
from model.errors import BadRequest, ModelError
from model.protocol import Engine
from model.request import ChatMessage, Completion, EngineHealth, GenerationRequest, SamplingParams

SEED = 20_260
STARTS = 3
"""Fresh processes whose first reply is timed; the median is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model said to one held-out prompt, and what is wrong with its last reply: a pass has no faults."""

    prompt: HeldOutPrompt
    replies: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`overlap_with_corpus` counts the `heldout_texts` that the corpus holds too. Times are in seconds."""

    english_passed: int
    english_total: int
    chinese_passed: int
    chinese_total: int
    overlap_with_corpus: int
    heldout_texts: int
    first_reply_seconds: float
    asking_seconds: float
    model: str
    device: str
    sampling: dict[str, object]
    topics: dict[str, tuple[int, int]]
    """By language and topic, as in "en-recall": how many passed, of how many."""
    failures: list[dict[str, object]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        print(asyncio.run(say_hello(options.model)) if options.say_hello else _told(options), flush=True)
    except ModelError as error:
        sys.exit(str(error))


def _told(options: argparse.Namespace) -> str:
    changes = {} if options.temperature is None else {"temperature": options.temperature}
    report = measure(options.model, seed=options.seed, changes=changes, failures=options.show_failures)
    return json.dumps(asdict(report), ensure_ascii=False) if options.json else "\n".join(_lines(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starter_quality", description=__doc__)
    parser.add_argument(
        "--model", default="starter", help="the starter that ships (default), or a model folder"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")
    parser.add_argument("--show-failures", type=int, default=0, metavar="N", help="show N that fell short")
    parser.add_argument("--temperature", type=float, help="0 is greedy; what the bot uses where left out")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--say-hello", action="store_true", help="load, answer hello once, print it and end")
    return parser


def default_sampling(*, seed: int, recommended: Mapping[str, float] = MappingProxyType({})) -> SamplingParams:
    """The bot's own defaults, whatever the environment says, but what the model recommends; with a fixed seed."""
    names = [field.name for field in fields(SamplingParams) if field.name in Settings.model_fields]
    defaults = {name: Settings.model_fields[name].default for name in names}
    given = {name: value for name, value in defaults.items() if value is not None}
    return SamplingParams.from_mapping({**given, **recommended, "seed": seed})


def measure(model: str, *, seed: int, changes: Mapping[str, float], failures: int) -> Report:
    """Ask everything, then time the first reply in fresh processes. Raises `ModelError` if nothing can serve."""
    prompts = load_prompts()
    started = time.perf_counter()
    outcomes, health, sampling = asyncio.run(_open_and_ask(model, prompts, seed, changes))
    asking = time.perf_counter() - started
    first_reply = statistics.median(first_reply_seconds(model) for _ in range(STARTS))
    failed = spread([outcome for outcome in outcomes if outcome.faults], failures)
    english, chinese = (_count(outcomes, language) for language in ("en", "zh"))
    return Report(
        english_passed=english[0],
        english_total=english[1],
        chinese_passed=chinese[0],
        chinese_total=chinese[1],
        overlap_with_corpus=len(find_overlap(prompts, corpus_texts())),
        heldout_texts=sum(len(prompt.turns) for prompt in prompts),
        first_reply_seconds=round(first_reply, 3),
        asking_seconds=round(asking, 1),
        model=health.model,
        device=health.device,
        sampling=asdict(sampling),
        topics=_count_topics(outcomes),
        failures=[_as_row(outcome) for outcome in failed],
    )


# Asking


async def _open_and_ask(
    model: str, prompts: Sequence[HeldOutPrompt], seed: int, changes: Mapping[str, float]
) -> tuple[list[Outcome], EngineHealth, SamplingParams]:
    engine = _open_engine(model, max_waiting=len(prompts))
    try:
        health = await engine.health()
        sampling = default_sampling(seed=seed, recommended={**dict(health.sampling_defaults), **changes})
        return await ask_all(engine, prompts, sampling), health, sampling
    finally:
        await engine.close()


def _open_engine(model: str, *, max_waiting: int) -> Engine:
    from model.opening import open_engine  # what the model needs takes time to import: --help need not pay

    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return open_engine(
        model,
        device=defaults["device"],
        dtype=defaults["dtype"],
        context_tokens=defaults["context_tokens"],
        max_running=defaults["parallel_replies"],
        max_waiting=max_waiting,
    )


async def ask_all(
    engine: Engine, prompts: Sequence[HeldOutPrompt], sampling: SamplingParams
) -> list[Outcome]:
    """Each with a seed of its own: the same draws for all would make their luck one."""
    seed = SEED if sampling.seed is None else sampling.seed
    seeded = [replace(sampling, seed=seed + index) for index in range(len(prompts))]
    return list(await asyncio.gather(*(ask(engine, *pair) for pair in zip(prompts, seeded, strict=True))))


async def ask(engine: Engine, prompt: HeldOutPrompt, sampling: SamplingParams) -> Outcome:
    """Hold the dialogue, in which the model hears its own earlier replies, and judge the last of them."""
    messages = [ChatMessage("system", DEFAULT_PERSONA)]
    replies: list[str] = []
    for turn in prompt.turns:
        messages.append(ChatMessage("user", turn))
        try:
            reply, completion = await _reply_to(engine, messages, sampling, conversation=prompt.id)
        except BadRequest as error:
            return Outcome(prompt, tuple(replies), (f"got no reply: {error}",))
        messages.append(ChatMessage("assistant", reply))
        replies.append(reply)
    return Outcome(prompt, tuple(replies), tuple(faults_of(prompt, replies[-1], completion.reason)))


async def _reply_to(
    engine: Engine, messages: Sequence[ChatMessage], sampling: SamplingParams, *, conversation: str
) -> tuple[str, Completion]:
    request = GenerationRequest(tuple(messages), sampling, conversation)
    deltas = [delta async for delta in engine.generate(request)]
    completion = deltas[-1].finish
    assert completion is not None  # the seam's promise: the last delta carries it
    return "".join(delta.text for delta in deltas), completion


# The first reply


def first_reply_seconds(model: str) -> float:
    """From the start of a fresh process to its whole reply to "hello": interpreter, imports, weights, answer."""
    command = [sys.executable, "-m", "benchmarks.starter_quality", "--say-hello", "--model", model]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # asked for above
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
    if not line or process.returncode:
        raise ModelError(f"A fresh process with the model {model} ended without a reply to hello.")
    return seconds


async def say_hello(model: str) -> str:
    """The reply to "hello" in one line."""
    engine = _open_engine(model, max_waiting=1)
    try:
        recommended = dict((await engine.health()).sampling_defaults)
        sampling = default_sampling(seed=SEED, recommended=recommended)
        messages = [ChatMessage("system", DEFAULT_PERSONA), ChatMessage("user", "hello")]
        reply, _ = await _reply_to(engine, messages, sampling, conversation="hello")
    finally:
        await engine.close()
    return repr(reply)


# Counting and telling


def corpus_texts() -> Iterator[str]:
    """What people say in the corpus that the starter is trained on."""
    from model.starter.corpus import dialogues

    for dialogue in dialogues():
        yield from (message.content for message in dialogue.messages if message.role == "user")


def _count(outcomes: Sequence[Outcome], language: Language) -> tuple[int, int]:
    """Passed, and all."""
    mine = [outcome for outcome in outcomes if outcome.prompt.language == language]
    return sum(not outcome.faults for outcome in mine), len(mine)


def _count_topics(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    topics: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        name = f"{outcome.prompt.language}-{outcome.prompt.topic}"
        passed, total = topics.get(name, (0, 0))
        topics[name] = (passed + (not outcome.faults), total + 1)
    return topics


def spread(outcomes: Sequence[Outcome], number: int) -> list[Outcome]:
    """At most `number` of them at even distances, so that every topic has its chance to be seen."""
    number = min(number, len(outcomes))
    return [outcomes[index * len(outcomes) // number] for index in range(number)]


def _as_row(outcome: Outcome) -> dict[str, object]:
    prompt = outcome.prompt
    return {"id": prompt.id, "turns": prompt.turns, "replies": outcome.replies, "faults": outcome.faults}


def _lines(report: Report) -> Iterator[str]:
    for name, passed, total in (
        ("English", report.english_passed, report.english_total),
        ("Chinese", report.chinese_passed, report.chinese_total),
    ):
        yield f"{name}: {passed} of {total} held-out prompts pass ({passed / total:.1%})"
    yield f"Overlap with the corpus: {report.overlap_with_corpus} of {report.heldout_texts} texts"
    yield f"First reply {report.first_reply_seconds:.2f} s after start, all replies {report.asking_seconds:.0f} s"
    yield f"Model {report.model} on {report.device}, sampling {report.sampling}"
    for topic, (passed, total) in report.topics.items():
        yield f"  {topic:<16} {passed:>3} of {total}"
    for row in report.failures:
        yield "\n".join(f"{name}: {value}" for name, value in row.items())


if __name__ == "__main__":
    main()
