"""A run that is killed goes on, and ends as if it had never been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import PretrainError
from model.pretrain.checkpoint import find_checkpoint
from model.pretrain.run import pretrain
from model.pretrain.settings import PretrainSettings
from tests.model.pretrain.small_corpora import Notebook, dialogues, settings_for, texts, write_lines

KILLED = """
import os, signal, sys
from pathlib import Path
from model.pretrain.run import pretrain
from tests.model.pretrain.small_corpora import Notebook, settings_for

class Killer(Notebook):
    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        super().step(done, loss, tokens_per_second)
        if len(self.losses) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

pretrain(settings_for(Path(sys.argv[1]), Path(sys.argv[2])), Killer())
"""


class Stopped(Exception):
    pass


class Stopper(Notebook):
    """Breaks off as a Ctrl-C does, after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        super().step(done, loss, tokens_per_second)
        if len(self.losses) == self._after:
            raise Stopped


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("corpus") / "small.jsonl", dialogues() + texts())


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainSettings, Notebook]:
    settings, notebook = settings_for(corpus, tmp_path_factory.mktemp("runs") / "whole"), Notebook()
    pretrain(settings, notebook)
    return settings, notebook


def results(out: Path) -> tuple[object, object, dict[str, torch.Tensor]]:
    report = json.loads((out / "run" / "report.json").read_text())
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return report["stages"], kept, load_file(out / "model.safetensors")


def assert_alike(one: Path, two: Path) -> None:
    (stages, metrics, weights), (stages2, metrics2, weights2) = results(one), results(two)
    assert stages == stages2
    assert metrics == metrics2
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_run_killed_in_the_middle_ends_with_the_same_losses_and_weights(
    corpus: Path, whole: tuple[PretrainSettings, Notebook], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(corpus), str(out), "11"], env=environment, check=False, timeout=100
    )
    assert killed.returncode == -signal.SIGKILL
    checkpoint = find_checkpoint(out / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.name == "0-00000008"
    assert not (out / "model.safetensors").exists()

    notebook = Notebook()
    pretrain(settings_for(corpus, out), notebook)
    assert notebook.stages[0][2] == 8
    assert notebook.losses == whole[1].losses[8:]
    assert_alike(whole[0].out, out)


def test_a_run_broken_off_anywhere_in_either_stage_ends_alike(
    corpus: Path, whole: tuple[PretrainSettings, Notebook], tmp_path: Path
) -> None:
    first_stage = whole[1].stages[0][1]
    for after in (1, first_stage, first_stage + 1, first_stage + 5):
        out = tmp_path / str(after)
        with pytest.raises(Stopped):
            pretrain(settings_for(corpus, out), Stopper(after))
        pretrain(settings_for(corpus, out))
        assert_alike(whole[0].out, out)


def test_a_run_with_muon_goes_on_with_its_momentum(corpus: Path, tmp_path: Path) -> None:
    settings = settings_for(corpus, tmp_path / "whole", optimiser="muon")
    pretrain(settings)
    with pytest.raises(Stopped):
        pretrain(settings_for(corpus, tmp_path / "broken", optimiser="muon"), Stopper(7))
    pretrain(settings_for(corpus, tmp_path / "broken", optimiser="muon"))
    assert_alike(tmp_path / "whole", tmp_path / "broken")


def test_a_checkpoint_that_was_not_finished_is_passed_over(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        pretrain(settings_for(corpus, tmp_path / "out"), Stopper(6))
    checkpoints = tmp_path / "out" / "run" / "checkpoints"
    (checkpoints / ".0-00000008").mkdir()
    notebook = Notebook()
    pretrain(settings_for(corpus, tmp_path / "out", sft_epochs=2.0), notebook)
    assert notebook.stages[0][2] == 4


def test_a_run_is_not_continued_under_other_settings_or_on_another_corpus(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        pretrain(settings_for(corpus, out), Stopper(6))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(PretrainError, match=r"another run: seed was 0 and is 7"):
        pretrain(settings_for(corpus, out, seed=7))
    other = write_lines(tmp_path / "other.jsonl", dialogues())
    with pytest.raises(PretrainError, match=r"another run: sha256 was .* and is"):
        pretrain(settings_for(other, out))
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_told(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        pretrain(settings_for(corpus, out), Stopper(6))
    path = find_checkpoint(out / "run" / "checkpoints")
    assert path is not None
    (path / "optimiser.pt").write_bytes(b"broken")
    with pytest.raises(PretrainError, match="cannot be read"):
        pretrain(settings_for(corpus, out))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        pretrain(settings_for(corpus, out), Stopper(6))
    path = find_checkpoint(out / "run" / "checkpoints")
    assert path is not None
    weights = {
        name: torch.full_like(weight, torch.nan)
        for name, weight in load_file(path / "weights.safetensors").items()
    }
    save_file(weights, path / "weights.safetensors")
    with pytest.raises(PretrainError, match=r"The loss was nan in step 5 .*rate of 0\.01 is too high"):
        pretrain(settings_for(corpus, out))
    assert find_checkpoint(out / "run" / "checkpoints") == path
