"""slack_manifest.yaml asks for what Parley uses, and for nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bot.cli import app
from bot.commands.table import COMMANDS
from bot.platforms.slack_commands import COMMAND
from bot.platforms.slack_login import SCOPES
from bot.platforms.slack_manifest import build_manifest, write_manifest

EVENTS_NEED = {
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "reaction_added": "reactions:read",
}
CALLS_NEED = {"chat:write", "files:read", "users:read"}


FILE = Path(__file__).parents[3] / "slack_manifest.yaml"


@pytest.fixture
def manifest() -> Any:
    return yaml.safe_load(FILE.read_text())


def test_the_file_is_what_the_table_of_commands_makes() -> None:
    assert FILE.read_text() == write_manifest()


def test_what_is_written_reads_as_what_was_built(manifest: Any) -> None:
    assert manifest == build_manifest()


def test_a_command_prints_it() -> None:
    printed = CliRunner().invoke(app, ["manifest"])
    assert printed.output == write_manifest()


def test_the_hint_names_every_command_shortly(manifest: Any) -> None:
    (command,) = manifest["features"]["slash_commands"]
    words = {command.name.split()[0] for command in COMMANDS if not command.asks}
    assert set(command["usage_hint"].strip("[]").split(" | ")) == {"your question", *words}


def test_buttons_come_to_parley(manifest: Any) -> None:
    assert manifest["settings"]["interactivity"] == {"is_enabled": True}


def test_it_asks_for_the_events_that_are_listened_to(manifest: Any) -> None:
    assert manifest["settings"]["event_subscriptions"]["bot_events"] == list(EVENTS_NEED)
    assert manifest["settings"]["socket_mode_enabled"] is True


def test_it_asks_for_the_scopes_that_are_checked_at_the_start(manifest: Any) -> None:
    scopes = manifest["oauth_config"]["scopes"]["bot"]
    assert scopes == sorted(SCOPES)
    assert {*EVENTS_NEED.values(), *CALLS_NEED, "commands"} == SCOPES


def test_it_declares_the_command(manifest: Any) -> None:
    (command,) = manifest["features"]["slash_commands"]
    assert (command["command"], command["should_escape"]) == (COMMAND, True)
    assert manifest["features"]["app_home"]["messages_tab_enabled"] is True
