"""The engine benchmark: every peer writes the same from the same weights, and figures follow from what was seen."""

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from benchmarks import engine
from benchmarks.engine import GENERATE, LLAMACPP, PARLEY, QUICK, Measured, decode_rate, percentile
from benchmarks.engine_parley import ParleyPeer
from benchmarks.engine_peer import Interruption, Peer, PeerSettings, Prompt, Remote, Stream
from benchmarks.engine_plots import draw
from benchmarks.engine_prompts import Prompts
from benchmarks.engine_transformers import TransformersPeer
from benchmarks.engine_weights import Shape, make_folder
from model.checkpoint import open_checkpoint
from model.request import ChatMessage
from tests.benchmarks.echo_peer import EchoPeer

TINY = Shape(64, 2, 4, 2, 16, 128, 2000, tied=True)
PLAN = replace(
    QUICK,
    rounds=2,
    streams=(1, 2),
    prompt_tokens=40,
    new_tokens=6,
    prefill_tokens=60,
    turns=4,
    history_tokens=120,
    turn_tokens=20,
    reply_tokens=4,
    long_prompt_tokens=300,
    undisturbed_tokens=8,
    starter_prompt_tokens=40,
    starter_new_tokens=6,
    continuous=True,
    prefetch=True,
    every_conversation=True,
    bandwidth_megabytes=4,
    matrix_size=64,
    context_tokens=512,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(TINY, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def prompts(folder: Path) -> Prompts:
    return Prompts(AutoTokenizer.from_pretrained(folder))


def settings_of(folder: Path) -> PeerSettings:
    return PeerSettings(folder, "cpu", threads=1, context_tokens=512, streams=2)


@pytest.fixture
def transformers(folder: Path) -> TransformersPeer:
    return TransformersPeer(settings_of(folder))


@pytest.fixture
def parley(folder: Path) -> Iterator[ParleyPeer]:
    peer = ParleyPeer(settings_of(folder))
    yield peer
    peer.close()


class Here:
    """A peer in this process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._peer, method)(*arguments)

    def peak_memory(self) -> int:
        return 2**30

    def close(self) -> None:
        self._peer.close()


def open_here(name: str, settings: PeerSettings) -> Here:
    if name == LLAMACPP:
        raise RuntimeError("llama.cpp stays away from this test.")
    return Here(engine.BUILDERS[name](settings))


# Prompts and weights


@pytest.mark.parametrize("tokens", [12, 30, 200])
def test_a_prompt_has_exactly_as_many_tokens_as_were_asked_for(prompts: Prompts, tokens: int) -> None:
    first, second = prompts.of(tokens), prompts.of(tokens)
    assert len(first.ids) == len(second.ids) == tokens
    assert first.ids != second.ids


def test_the_starters_prompts_are_exact_too() -> None:
    prompts = Prompts(AutoTokenizer.from_pretrained(open_checkpoint("starter").folder))
    assert [len(prompts.of(tokens).ids) for tokens in (30, 128)] == [30, 128]


def test_a_prompt_that_is_too_short_for_its_template_is_refused(prompts: Prompts) -> None:
    with pytest.raises(ValueError, match="prompt of 3 tokens"):
        prompts.of(3)


def test_the_next_turn_repeats_the_tokens_before_it_and_the_reply(
    prompts: Prompts, transformers: TransformersPeer
) -> None:
    first = prompts.of(40)
    reply = transformers.answer(first, 6)
    following = prompts.following(first, prompts.decode(reply.ids), 20)
    assert following.ids[:46] == first.ids + reply.ids
    assert len(following.ids) == 66


def test_greedy_replies_neither_end_nor_repeat(prompts: Prompts, transformers: TransformersPeer) -> None:
    reply = transformers.answer(prompts.of(40), 24)
    assert len(reply.ids) == len(reply.times) == 24
    assert len(set(reply.ids)) > 12


# Peers


def test_every_peer_writes_what_generate_writes(
    prompts: Prompts, transformers: TransformersPeer, parley: ParleyPeer
) -> None:
    several = [prompts.of(40), prompts.of(40)]
    expected = [transformers.answer(prompt, 6) for prompt in several]
    texts = [prompts.decode(stream.ids) for stream in expected]
    assert [stream.ids for stream in transformers.decode(several, 6)] == [each.ids for each in expected]
    assert [stream.ids for stream in transformers.continuous(several, 6)] == [each.ids for each in expected]
    assert [stream.text for stream in parley.decode(several, 6)] == texts
    assert [parley.answer(prompt, 6).text for prompt in several] == texts


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
def test_llama_cpp_computes_the_same_model(
    folder: Path, prompts: Prompts, transformers: TransformersPeer
) -> None:
    from benchmarks.engine_llamacpp import LlamaCppPeer

    peer = LlamaCppPeer(settings_of(folder))
    prompt = prompts.of(40)
    alone = peer.answer(prompt, 6)
    assert alone.ids[:3] == transformers.answer(prompt, 3).ids  # its matrices are rounded otherwise
    assert peer.answer(prompt, 6).cached_tokens == 39
    assert peer.decode([prompt, prompts.of(40)], 6)[0].ids == alone.ids
    peer.close()


def test_a_process_of_its_own_has_its_own_environment_and_tells_its_errors(folder: Path) -> None:
    remote = Remote(EchoPeer, settings_of(folder), {"OMP_WAIT_POLICY": "PASSIVE"})
    try:
        described = remote.call("describe")
        assert described["wait"] == "PASSIVE"
        assert described["process"] != os.getpid()
        assert "OMP_WAIT_POLICY" not in os.environ
        prompt = Prompt((ChatMessage("user", "Hi"),), (1, 2))
        assert remote.call("decode", [prompt], 3) == [Stream((0.0,), 3, (1, 2))]
        with pytest.raises(RuntimeError, match="no answer to 2 tokens"):
            remote.call("answer", prompt, 1)
        assert remote.peak_memory() > 2**20
    finally:
        remote.close()


def test_a_peer_that_cannot_be_built_says_why(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no cuda"):
        Remote(EchoPeer, replace(settings_of(folder), device="cuda"), {})


# Figures


def test_the_rate_counts_while_all_streams_write() -> None:
    early, late = Stream((1.0, 2.0, 3.0, 4.0), 4), Stream((2.0, 3.0, 4.0, 5.0), 4)
    assert decode_rate([early, late]) == 2
    assert decode_rate([early]) == 1


def test_the_rate_of_streams_one_after_another_is_over_all_of_the_time() -> None:
    assert decode_rate([Stream((1.0, 2.0), 2), Stream((3.0, 4.0, 5.0), 3)]) == 1


def test_a_piece_of_several_tokens_counts_them_all() -> None:
    assert decode_rate([Stream((1.0, 2.0, 3.0), 6)]) == 2


def test_a_gap_belongs_to_the_long_prompt_if_it_overlaps_its_time() -> None:
    seen = Interruption(Stream((1, 2, 3, 4, 5, 9, 12, 13), 8), arrived=5.5, answered=10)
    assert seen.undisturbed_gaps() == [1, 1]
    assert seen.disturbed_gaps() == [4, 3]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 201)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (100, 198, 7)


def test_a_whole_run_gives_every_figure_the_table_and_the_pictures(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    measured = engine.measure(PLAN, folder, starter=folder, open_peer=open_here, told=told.append)
    figures = engine.to_figures(measured, PLAN)
    missing = [name for name, value in figures.items() if value is None]
    assert missing == ["decode_64_vs_continuous", "decode_1_vs_llamacpp", "prefill_vs_llamacpp"]
    assert measured.notes[LLAMACPP].endswith(("this test.", "(pip install '.[bench]')."))
    assert set(engine.TITLES) == set(figures) - {"detail"}
    assert all(set(wanted) < set(engine.TITLES) for wanted in engine.WANTED.values())
    assert all(value > 0 for name, value in figures.items() if name not in {*missing, "detail"})
    assert len(measured.unknown) == len(measured.prefetched) == PLAN.long_rounds
    assert {len(rates) for rates in measured.decode.values()} <= {1, PLAN.rounds}
    assert len(measured.conversation[PARLEY]) == len(measured.conversation[GENERATE]) == PLAN.turns
    figures["detail"] |= {"model": "tiny", "seconds": 1}
    assert json.loads(json.dumps(figures))["detail"]["turn10_cached_tokens"] > 0.8 * PLAN.history_tokens
    console = Console(record=True, width=120)
    engine.show(figures, console)
    assert "llama.cpp" in console.export_text()
    assert [path.exists() for path in draw(measured, PLAN, tmp_path)] == [True] * 3


def test_the_quick_plan_measures_less_than_the_whole_one() -> None:
    assert (QUICK.rounds, QUICK.streams) == (3, (1, 8))
    assert QUICK.long_prompt_tokens == engine.Plan().long_prompt_tokens == 4000
    assert isinstance(Measured().last_turn, list)
