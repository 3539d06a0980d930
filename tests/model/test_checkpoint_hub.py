"""Models come from the hub, are kept, and every way in which that fails is a sentence."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from model.checkpoint import open_checkpoint
from model.errors import ModelNotFound
from tests.fakes.hub import FakeHub
from tests.model.tiny_models import Shape

UNREACHABLE = "http://127.0.0.1:9"  # the discard port, where nothing listens


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


def test_a_model_is_fetched_once_and_then_there_without_the_hub(
    folders: dict[Shape, Path], tmp_path: Path
) -> None:
    published = tmp_path / "published"
    shutil.copytree(folders["llama"], published)
    (published / "consolidated.safetensors").write_bytes(b"the same weights again")
    hub = FakeHub(published)
    with hub.serving() as endpoint:
        fetched = open_checkpoint("org/model", endpoint=endpoint)
    again = open_checkpoint("org/model", endpoint=UNREACHABLE)
    assert fetched.name == again.name == "org/model"
    assert fetched.fingerprint == again.fingerprint
    assert (fetched.folder / "tokenizer.json").exists()
    assert not any("consolidated" in path for path in hub.paths)


@pytest.mark.parametrize(
    ("fault", "token", "sentence"),
    [
        (
            (404, "RepoNotFound"),
            None,
            "The hub has no model org/model, or it is private and needs a token in HF_TOKEN",
        ),
        ((404, "RepoNotFound"), "secret", "The hub has no model org/model, or HF_TOKEN has no access to it"),
        (
            (403, "GatedRepo"),
            None,
            "org/model is gated: its licence must be accepted on its hub page. It needs a token",
        ),
        ((403, "GatedRepo"), "secret", "org/model is gated"),
        ((404, "RevisionNotFound"), None, "The hub has no model org/model at revision v9."),
        ((418, ""), None, "org/model at revision v9 cannot be fetched: the hub answers with status 418"),
    ],
)
def test_what_the_hub_refuses_is_told(fault: tuple[int, str], token: str | None, sentence: str) -> None:
    with FakeHub(fault=fault).serving() as endpoint, pytest.raises(ModelNotFound) as refused:
        open_checkpoint("org/model", token=token, revision="v9", endpoint=endpoint)
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_hub_out_of_reach_is_told() -> None:
    with pytest.raises(ModelNotFound, match=r"org/model cannot be fetched: the hub cannot be reached"):
        open_checkpoint("org/model", endpoint=UNREACHABLE)
