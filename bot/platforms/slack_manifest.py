"""The manifest that a Slack app is made from: its one command with what may stand after it, its events and scopes."""

import json
from typing import Any

from bot.commands.table import COMMANDS
from bot.platforms.slack_commands import COMMAND
from bot.platforms.slack_login import SCOPES

EVENTS = ("app_mention", "message.channels", "message.groups", "message.im", "reaction_added")
_HEAD = """\
# Paste this on api.slack.com/apps under "Create New App", "From a manifest".
# The app-level token (SLACK_APP_TOKEN, scope connections:write) is made by hand, under "Basic Information".
# This file is what `parley manifest` prints: change bot/platforms/slack_manifest.py, and not it.
"""


def build_manifest() -> dict[str, Any]:
    command = {
        "command": COMMAND,
        "description": "Ask Parley something, or give it a command",
        "usage_hint": usage_hint(),
        "should_escape": True,
    }
    return {
        "display_information": {
            "name": "Parley",
            "description": "A chatbot that runs on your community's own machine.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": "Parley", "always_online": True},
            "slash_commands": [command],
        },
        "oauth_config": {"scopes": {"bot": sorted(SCOPES)}},
        "settings": {
            "event_subscriptions": {"bot_events": list(EVENTS)},
            "interactivity": {"is_enabled": True},
            "org_deploy_enabled": False,
            "socket_mode_enabled": True,
            "token_rotation_enabled": False,
        },
    }


def usage_hint() -> str:
    """Every command by its first word, each once; help tells the rest."""
    words = dict.fromkeys(command.name.split()[0] for command in COMMANDS if not command.asks)
    return f"[your question | {' | '.join(words)}]"


def write_manifest() -> str:
    """As YAML, in the order of the manifest."""
    return _HEAD + "\n".join(_lines(build_manifest())) + "\n"


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, held in value.items():
        if isinstance(held, dict):
            lines += [f"{indent}{name}:", *_lines(held, f"{indent}  ")]
        elif isinstance(held, list):
            lines += [f"{indent}{name}:", *(line for item in held for line in _item(item, f"{indent}  "))]
        else:
            lines.append(f"{indent}{name}: {_scalar(held)}")
    return lines


def _item(item: object, indent: str) -> list[str]:
    if not isinstance(item, dict):
        return [f"{indent}- {_scalar(item)}"]
    first, *others = _lines(item, f"{indent}  ")
    return [f"{indent}- {first.strip()}", *others]


def _scalar(value: object) -> str:
    """JSON's way of writing one is YAML's, too."""
    text = json.dumps(value, ensure_ascii=False)
    return text if not isinstance(value, str) or set(value) & set("[]{}|#&*!?'\"") or ": " in value else value
