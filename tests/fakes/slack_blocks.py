"""What the fake Slack checks of the blocks of a message and of a form, as Slack does. Raises `SlackError`.

Sources: https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/reference/views/modal-views
"""

from collections.abc import Iterable

from tests.fakes.slack_state import Json, SlackError

MOST_BLOCKS, MOST_ELEMENTS = 50, 25
LONGEST_SECTION, LONGEST_LABEL, LONGEST_ID = 3000, 75, 255
LONGEST_TITLE, LONGEST_METADATA = 24, 3000


def check_blocks(blocks: list[Json]) -> None:
    """Of a message."""
    if len(blocks) > MOST_BLOCKS:
        raise _invalid("no more than 50 items allowed")
    elements = [element for block in blocks for element in block.get("elements", [])]
    _check_unique("block_id", (block["block_id"] for block in blocks if "block_id" in block))
    _check_unique("action_id", (element["action_id"] for element in elements))
    for block in blocks:
        if block["type"] == "section":
            _check_text(block["text"], LONGEST_SECTION)
        elif block["type"] == "actions":
            _check_buttons(block["elements"])
        else:
            raise _invalid(f"unsupported type: {block['type']}")


def check_view(view: Json) -> None:
    """Of a form."""
    if view.get("type") != "modal" or not view.get("blocks") or "submit" not in view:
        raise SlackError("invalid_arguments")
    for name in ("title", "submit", "close"):
        _check_text(view[name], LONGEST_TITLE)
    too_long = len(view.get("private_metadata", "")) > LONGEST_METADATA
    if too_long or len(view.get("callback_id", "")) > LONGEST_ID:
        raise SlackError("invalid_arguments")
    _check_unique("block_id", (block["block_id"] for block in view["blocks"]))


def _check_buttons(buttons: list[Json]) -> None:
    if not 0 < len(buttons) <= MOST_ELEMENTS:
        raise _invalid("must provide 1 to 25 elements")
    for button in buttons:
        if button["type"] != "button" or button.get("style", "danger") not in ("primary", "danger"):
            raise _invalid("invalid element")
        if not 0 < len(button["action_id"]) <= LONGEST_ID or button["text"]["type"] != "plain_text":
            raise _invalid("invalid button")
        _check_text(button["text"], LONGEST_LABEL)


def _check_text(text: Json, longest: int) -> None:
    if text["type"] not in ("plain_text", "mrkdwn") or not text["text"].strip():
        raise _invalid("must be more than 0 characters")
    if len(text["text"]) > longest:
        raise _invalid(f"must be less than {longest + 1} characters")


def _check_unique(name: str, ids: Iterable[str]) -> None:
    found = list(ids)
    if len(set(found)) < len(found):
        raise _invalid(f"{name} already exists")


def _invalid(why: str) -> SlackError:
    return SlackError("invalid_blocks", response_metadata={"messages": [f"[ERROR] {why}"]})
