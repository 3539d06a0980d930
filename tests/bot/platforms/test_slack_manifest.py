"""slack_manifest.yaml asks for what Parley uses, and for nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.platforms.slack_commands import COMMAND
from bot.platforms.slack_login import SCOPES

EVENTS_NEED = {
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
}
CALLS_NEED = {"chat:write", "files:read", "users:read"}


@pytest.fixture
def manifest() -> Any:
    return yaml.safe_load((Path(__file__).parents[3] / "slack_manifest.yaml").read_text())


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
