"""The run folder: what it says about itself, its metrics, its checkpoints. Writes nothing over what it didn't write.

DIR/run/run.json       settings, seed, data hash, versions: a second start compares itself with it
DIR/run/tokenizer/     the tokenizer, trained once
DIR/run/metrics.jsonl  a line every ten steps and for each check
DIR/run/checkpoints/   the newest; gone once the run is finished
DIR/run/loss.png       the loss curves
DIR/run/report.json    written last: the run is finished
DIR/                   the model, when it is finished
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from model.errors import PretrainError
from model.pretrain.settings import PretrainReport


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that this run may write to."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.run / "tokenizer")

    def add_metrics(self, **values: object) -> None:
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every whole line; a line that a kill cut short is left out."""
        path = self.run / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rewind_metrics(self, stage: int, step: int) -> None:
        """Drop what was recorded after this step of this stage: it will be done again."""
        kept = [line for line in self.read_metrics() if (line["stage"], line["step"]) <= (stage, step)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        replace_text(self.run / "metrics.jsonl", text)

    def save_model(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put the finished model into the folder, file by file, `config.json` last: no half of it loads."""
        staged = self.run / "model"
        shutil.rmtree(staged, ignore_errors=True)
        transformers_logging.disable_progress_bar()  # it would break through our own
        network.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        for file in sorted(staged.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(self.path / file.name)
        staged.rmdir()

    def finish(self, report: PretrainReport) -> None:
        replace_text(self.run / "report.json", json.dumps(asdict(report), indent=2) + "\n")
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def check_folder(path: Path) -> bool:
    """Whether `path` holds an unfinished run; `PretrainError` if it holds anything else."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    if (path / "run" / "report.json").is_file():
        raise PretrainError(f"{path} holds a finished run, which stays as it is. Choose another folder.")
    if not (path / "run" / "run.json").is_file():
        raise PretrainError(
            f"{path} exists and holds no run of `parley pretrain`. Nothing was touched; choose another folder."
        )
    return True


def create_folder(path: Path, description: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> RunFolder:
    """A new run's folder. It appears as a whole: a kill leaves none, or one that can be continued."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            staged.chmod(0o755)
            run = staged / "run"
            tokenizer.save_pretrained(run / "tokenizer")
            replace_text(run / "run.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")
            if path.exists():
                path.rmdir()  # it was empty; os.replace onto a folder is refused on Windows
            staged.replace(path)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise PretrainError(f"The folder {path} cannot be written: {error.strerror}.") from error
    return RunFolder(path)


def continue_folder(path: Path, description: dict[str, Any]) -> RunFolder:
    """The folder of an unfinished run, if it was started under the same settings on the same corpus."""
    before = json.loads((path / "run" / "run.json").read_text(encoding="utf-8"))
    differing = [
        f"{name} was {old!r} and is {new!r}"
        for part in ("settings", "corpus")
        for name, new in json.loads(json.dumps(description[part])).items()
        if (old := before[part].get(name)) != new
    ]
    if differing:
        raise PretrainError(
            f"{path} holds the checkpoints of another run: {'; '.join(differing)}. "
            "Start with what it was started with, or choose another folder."
        )
    return RunFolder(path)


def replace_text(path: Path, text: str) -> None:
    """Write the whole file or leave the old one."""
    staged = path.with_name(path.name + ".new")
    with staged.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer
