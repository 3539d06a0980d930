"""Whole runs, of seconds."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.chat_format import ChatFormat
from model.errors import PretrainError
from model.pretrain.network import summed_cross_entropy
from model.pretrain.packing import IGNORED
from model.pretrain.run import pretrain
from model.pretrain.settings import PretrainReport
from model.request import ChatMessage
from tests.model.pretrain.small_corpora import Notebook, dialogues, settings_for, texts, write_lines


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("corpus") / "small.jsonl", dialogues() + texts())


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainReport, Notebook, Path]:
    out = tmp_path_factory.mktemp("runs") / "finished"
    notebook = Notebook()
    return pretrain(settings_for(corpus, out, check_every=None), notebook), notebook, out


def test_a_run_learns(finished: tuple[PretrainReport, Notebook, Path]) -> None:
    report, notebook, _ = finished
    first, second = report.stages
    assert (first.name, second.name) == ("language modelling", "dialogue")
    assert notebook.losses[0] == pytest.approx(5.8, abs=0.2)  # the logarithm of the vocabulary
    assert first.held_out_loss < notebook.losses[0] - 2
    assert second.held_out_loss < first.held_out_loss
    assert report.tokens_per_second > 0
    assert report.peak_memory_bytes > 10_000_000


def test_the_model_is_a_folder_that_transformers_loads(
    finished: tuple[PretrainReport, Notebook, Path],
) -> None:
    report, _, out = finished
    network = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    chat = ChatFormat(AutoTokenizer.from_pretrained(out))
    assert network.dtype == torch.bfloat16
    assert sum(weight.numel() for weight in network.parameters()) == report.parameters
    prompt = torch.tensor([chat.render([ChatMessage("user", "What colour is the cat?")])])
    reply = network.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, do_sample=False
    )
    assert reply.shape[1] > prompt.shape[1]
    assert set(network.generation_config.eos_token_id) >= chat.stop_token_ids


def test_the_folder_tells_what_was_done(
    corpus: Path, finished: tuple[PretrainReport, Notebook, Path]
) -> None:
    report, _, out = finished
    told = json.loads((out / "run" / "run.json").read_text())
    assert told["settings"]["seed"] == 0
    assert len(told["corpus"]["sha256"]) == len(told["code"]["sha256"]) == 64
    assert told["corpus"]["train_documents"] + told["corpus"]["held_out_documents"] == 100
    metrics = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["held_out_loss"] for line in metrics if "held_out_loss" in line]
    assert (out / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "run" / "report.json").read_text())["parameters"] == report.parameters
    assert not (out / "run" / "checkpoints").exists()


def test_a_finished_run_is_not_overwritten(
    corpus: Path, finished: tuple[PretrainReport, Notebook, Path]
) -> None:
    out = finished[2]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(PretrainError, match="holds a finished run"):
        pretrain(settings_for(corpus, out))
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_same_run_gives_the_same_weights(
    corpus: Path, finished: tuple[PretrainReport, Notebook, Path], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is as good as none
    pretrain(settings_for(corpus, tmp_path / "again", check_every=None))
    one, two = (load_file(out / "model.safetensors") for out in (finished[2], tmp_path / "again"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_foreign_folder_is_not_touched(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(PretrainError, match="holds no run"):
        pretrain(settings_for(corpus, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_corpus_that_cannot_be_learnt_from_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("one line only\n")
    with pytest.raises(PretrainError, match="too small"):
        pretrain(settings_for(tmp_path / "corpus.txt", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_beyond_the_corpus_leaves_no_folder(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="supports a vocabulary of"):
        pretrain(settings_for(corpus, tmp_path / "out", vocabulary=50_000))
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_without_dialogues_has_one_stage_and_says_so(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "texts.jsonl", texts())
    notebook = Notebook()
    report = pretrain(settings_for(path, tmp_path / "out", epochs=1), notebook)
    assert [stage.name for stage in report.stages] == ["language modelling"]
    assert any("'dialogue' is left out" in note for note in notebook.notes)


def test_a_stage_ends_when_the_held_out_loss_no_longer_falls(corpus: Path, tmp_path: Path) -> None:
    settings = settings_for(
        corpus, tmp_path / "out", epochs=60, sft_epochs=0, check_every=2, patience=2, learning_rate=0.03
    )
    notebook = Notebook()
    [stage] = pretrain(settings, notebook).stages
    assert stage.steps < stage.planned_steps
    assert stage.steps == stage.best_step + 2 * 2
    assert stage.held_out_loss == min(notebook.checks)


def test_a_run_ends_when_its_time_has_passed_with_a_low_rate(corpus: Path, tmp_path: Path) -> None:
    settings = settings_for(corpus, tmp_path / "out", epochs=10_000, minutes=0.02, check_every=1_000_000)
    notebook = Notebook()
    report = pretrain(settings, notebook)
    assert report.seconds == pytest.approx(1.2, abs=0.8)
    first, second = report.stages
    assert 1 <= first.steps < first.planned_steps
    assert second.steps == 1  # no time was left
    assert len(notebook.checks) == 2


def test_accumulating_small_forward_passes_changes_nothing_but_memory(corpus: Path, tmp_path: Path) -> None:
    losses = []
    for micro in (512, 128):
        notebook = Notebook()
        out = tmp_path / str(micro)
        pretrain(settings_for(corpus, out, micro_tokens=micro, sft_epochs=0, patience=100), notebook)
        losses.append(notebook.losses)
    assert losses[0][:3] != losses[1][:3]  # rows are drawn in another order
    assert losses[0][0] == pytest.approx(losses[1][0], abs=0.1)
    assert losses[0][-1] == pytest.approx(losses[1][-1], abs=0.5)


def test_a_run_goes_on_from_what_another_has_left(
    corpus: Path, finished: tuple[PretrainReport, Notebook, Path], tmp_path: Path
) -> None:
    report, _, earlier = finished
    notebook = Notebook()
    further = pretrain(settings_for(corpus, tmp_path / "out", start_from=earlier, epochs=0), notebook)
    assert notebook.losses[0] < report.stages[1].held_out_loss + 0.5
    assert further.stages[0].held_out_loss <= report.stages[1].held_out_loss + 0.05
    told = json.loads((tmp_path / "out" / "run" / "run.json").read_text())
    assert len(told["settings"]["start_from"]) == 64


def test_a_folder_that_no_run_has_left_is_refused_by_name(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match=r"is no folder that a run has left: it has no config\.json"):
        settings_for(corpus, tmp_path / "out", start_from=tmp_path)


def test_the_folder_says_how_the_model_is_best_sampled(corpus: Path, tmp_path: Path) -> None:
    advised = {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.0}
    for name, advice in (("silent", {}), ("advised", advised)):
        pretrain(settings_for(corpus, tmp_path / name, epochs=0.1, sft_epochs=0, **advice))
        told = json.loads((tmp_path / name / "generation_config.json").read_text())
        assert {key: told[key] for key in advised if key in told} == advice
        network = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert network.generation_config.do_sample is (True if advice else None)


def test_the_losses_do_not_depend_on_the_number_of_rows_of_logits_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    labels = torch.where(torch.rand(50) < 0.4, IGNORED, torch.randint(0, 30, (50,)))
    logits = torch.nn.functional.linear(hidden, weight)
    plain = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    expected = torch.autograd.grad(plain * 0.5, (hidden, weight))
    for chunk in (7, 1000):
        monkeypatch.setattr("model.pretrain.network.CHUNK", chunk)
        total = summed_cross_entropy(hidden, weight, labels, mixed=False)
        assert torch.allclose(total, plain, rtol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(total * 0.5, (hidden, weight)), expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    nothing = summed_cross_entropy(hidden, weight, torch.full((50,), IGNORED), mixed=False)
    assert float(nothing) == 0 and not torch.autograd.grad(nothing, hidden)[0].any()
