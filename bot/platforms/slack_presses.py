"""What is done when a button under an answer is pressed on Slack, and what comes of the form that asks why."""

import json
from datetime import UTC, datetime
from typing import Any

import structlog

from bot.actions import THANKS, Actions, Presser
from bot.chat import Author, ConversationKey
from bot.controls import Pressed, read_button
from bot.errors import DeliveryFailed
from bot.platforms.slack_api import SlackApi, judging
from bot.platforms.slack_incoming import Event, People
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_private import tell_privately
from bot.pointing import Pointing
from storage.tables import Rating

log = structlog.get_logger()

LONGEST_REASON = 1000
RATED_DOWN = "parley-reason"
_RATINGS: dict[str, Rating] = {"+1": "up", "thumbsup": "up", "-1": "down", "thumbsdown": "down"}
FAILED = "Something went wrong on my side. The log has the details."


class Presses:
    def __init__(
        self, api: SlackApi, workspace: Workspace, people: People, actions: Actions, pointing: Pointing
    ) -> None:
        self._api = api
        self._workspace = workspace
        self._people = people
        self._actions = actions
        self._pointing = pointing

    async def press(self, body: Event) -> None:
        """Do what a button says; a press that is none of ours is left alone. Raises what a courier raises."""
        pressed = read_button(str(body["actions"][0]["action_id"]))
        if pressed is None or "message" not in body:
            return
        try:
            said = await self._press(pressed, body)
        except Exception:
            log.exception("a button failed", button=pressed.name)
            said = FAILED
        if said is not None:
            await tell_privately(body["response_url"], said, _thread_of(body))

    async def take_reason(self, body: Event) -> str:
        """Keep what somebody wrote into the form. Raises `StorageError`."""
        about = json.loads(body["view"]["private_metadata"])
        place = ConversationKey("slack", self._workspace.team, about["channel"], about["thread"])
        presser = Presser(place, self._recall(body), body["view"]["id"], datetime.now(UTC))
        pressed = Pressed("down", int(about["inbox"]))
        return await self._actions.rate(pressed, presser, "down", _typed(body) or None)

    async def thank(self, body: Event, said: str) -> None:
        """The form has no place of its own: the sentence comes where the button stands."""
        about = json.loads(body["view"]["private_metadata"])
        await tell_privately(about["url"], said, about["thread"])

    async def take_reaction(self, event: Event) -> None:
        """A thumb of any colour under a message of the bot's is a rating. Raises `StorageError`."""
        rating = _RATINGS.get(str(event.get("reaction", "")).partition("::")[0])
        item = event.get("item") or {}
        if rating is None or event.get("item_user") != self._workspace.bot_user or "ts" not in item:
            return
        author = await self._people.get(event["user"])
        if author.is_bot:
            return
        place = ConversationKey("slack", self._workspace.team, item["channel"])
        presser = Presser(place, author, event["event_ts"], datetime.now(UTC))
        await self._pointing.react(presser, item["ts"], rating)

    async def _press(self, pressed: Pressed, body: Event) -> str | None:
        """Slack opens a form within three seconds of the press, or not at all: nobody's name is looked up before."""
        down, action_ts = pressed.name == "down", body["actions"][0]["action_ts"]
        presser = Presser(
            conversation=ConversationKey(
                "slack", self._workspace.team, body["channel"]["id"], _thread_of(body)
            ),
            author=self._recall(body) if down else await self._people.get(body["user"]["id"]),
            press_id=action_ts,
            at=datetime.fromtimestamp(float(action_ts), UTC),
            private=body["channel"].get("name") == "directmessage",
        )
        said = await self._actions.press(pressed, presser)
        if down and said == THANKS and await self._ask_for_reason(pressed, body):
            return None
        return said

    def _recall(self, body: Event) -> Author:
        user = body["user"]
        return self._people.recall(user["id"], user.get("name") or user["id"])

    async def _ask_for_reason(self, pressed: Pressed, body: Event) -> bool:
        about = {
            "inbox": pressed.inbox_id,
            "channel": body["channel"]["id"],
            "thread": _thread_of(body),
            "url": body["response_url"],
        }
        try:
            with judging("views.open"):
                await self._api.once.views_open(trigger_id=body["trigger_id"], view=_form(json.dumps(about)))
        except DeliveryFailed as error:
            log.warning("nobody can be asked why an answer is bad", reason=str(error))
            return False
        return True


def _thread_of(body: Event) -> str:
    """The thread that the message stands in. Empty outside threads, also where a thread was begun under it."""
    thread = str(body["message"].get("thread_ts") or "")
    return "" if thread == body["message"]["ts"] else thread


def _form(private_metadata: str) -> dict[str, Any]:
    def plain(text: str) -> dict[str, str]:
        return {"type": "plain_text", "text": text}

    field = {
        "type": "plain_text_input",
        "action_id": "reason",
        "multiline": True,
        "max_length": LONGEST_REASON,
    }
    return {
        "type": "modal",
        "callback_id": RATED_DOWN,
        "title": plain("What was wrong?"),
        "submit": plain("Send"),
        "close": plain("Leave it at that"),
        "private_metadata": private_metadata,
        "blocks": [
            {
                "type": "input",
                "block_id": "reason",
                "optional": True,
                "label": plain("Why? (may stay empty)"),
                "element": field,
            }
        ],
    }


def _typed(body: Event) -> str:
    values = body["view"].get("state", {}).get("values", {})
    return str(values.get("reason", {}).get("reason", {}).get("value") or "").strip()
