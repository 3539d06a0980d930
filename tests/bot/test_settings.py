"""Settings: documented one by one, checked by name, and never showing a secret."""

import logging
import re
from pathlib import Path

import pytest

from bot.errors import SettingsError
from bot.logs import configure_logging
from bot.settings import Settings, environment_name, load_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.env"
    file.write_text(text)
    return file


def test_the_example_documents_every_setting_and_no_other() -> None:
    documented = re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(environment_name(field) for field in Settings.model_fields)


def test_the_example_shows_the_true_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"^#([A-Z_]+=)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert load_settings(write(tmp_path, uncommented)) == load_settings(None)


def test_a_copied_example_starts_as_it_is() -> None:
    assert load_settings(EXAMPLE) == load_settings(None)


def test_every_fault_is_named_in_one_error(tmp_path: Path) -> None:
    file = write(tmp_path, "PARLEY_TEMPERATURE=9\nPARLEY_MODLE=x\nDISCORD_TOKEN=sesame\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert "PARLEY_TEMPERATURE" in str(caught.value)
    assert "PARLEY_MODLE is no setting of Parley; did you mean PARLEY_MODEL?" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_an_unknown_setting_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TEMPRATURE", "1")
    with pytest.raises(SettingsError, match="PARLEY_TEMPRATURE is no setting"):
        load_settings(None)


def test_secrets_never_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("DISCORD_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "HF_TOKEN", "PARLEY_DATABASE_URL")
    lines = [f"{name}=sesame-{name.lower()}" for name in names]
    settings = load_settings(write(tmp_path, "\n".join(lines)))
    print(settings, repr(settings), settings.model_dump(), settings.model_dump_json())
    assert "sesame" not in capsys.readouterr().out


def test_secrets_are_struck_out_of_every_log_line_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        configure_logging("info", ["sesame"])
        try:
            raise ValueError("the token is sesame")
        except ValueError:
            logging.getLogger("some.library").exception("refused sesame at %s", "https://x/?token=sesame")
        written = capsys.readouterr().err
    finally:
        logging.getLogger().handlers, level = before[0], before[1]
        logging.getLogger().setLevel(level)
    assert "refused ******** at" in written
    assert "ValueError" in written
    assert "sesame" not in written
