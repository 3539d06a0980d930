"""An answer with buttons, as Slack's Block Kit shows it: its text in sections, and the buttons below."""

from collections.abc import Mapping
from typing import Any

from bot.controls import Button, Controls, Name
from bot.platforms.slack_text import LONGEST_SECTION, section_text
from bot.splitting import split_text

Block = dict[str, Any]

PIECE = LONGEST_SECTION - 200
"""Characters of one section, before escapes."""
_STYLES: Mapping[Name, str] = {"stop": "danger"}


def blocks_of(markdown: str, heading: str, controls: Controls | None) -> list[Block]:
    """Empty where there are no buttons: the message's text is shown then. `heading` is mrkdwn."""
    if controls is None:
        return []
    texts = [heading.strip(), *(section_text(piece) for piece in split_text(markdown, PIECE))]
    sections = [_section(text) for text in texts if text.strip()]
    return [*sections, *(_actions(row) for row in controls.rows())]


def _section(text: str) -> Block:
    """Shown in full, and without Slack's own search for names in it: nothing in an answer pings."""
    return {"type": "section", "expand": True, "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _actions(row: list[Button]) -> Block:
    """Slack knows no buttons that do nothing: those are left out."""
    return {"type": "actions", "elements": [_button(button) for button in row if button.works]}


def _button(button: Button) -> Block:
    label = {"type": "plain_text", "text": button.label, "emoji": True}
    style = {"style": _STYLES[button.name]} if button.name in _STYLES else {}
    return {"type": "button", "action_id": button.id, "text": label, **style}
