"""From Slack's events to `IncomingMessage`: whom a message is for, who wrote it, and its words."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.chat import Attachment, Author, ConversationKey, IncomingMessage, Via
from bot.commands.parse import read_command
from bot.platforms.slack_api import GARBLED, error_code, reason
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_text import mentioned_users, to_command, to_plain, unescape, without_bot

log = structlog.get_logger()

Event = dict[str, Any]
"""A Slack event, or the body of a slash command, as it came."""

_WRITTEN_BY_PEOPLE = {None, "file_share", "thread_broadcast"}
"""Subtypes of a message that somebody wrote; the others tell of edits, joins, deletions ..."""
_SLACKBOT = "USLACKBOT"
_NAME_SECONDS = 5.0
_REMEMBERED = 2000
KNOWN_SECONDS = 300.0
"""How long somebody who administers the workspace no longer may still be taken for one who does."""


class People:
    """Who is behind a user id, and whether they administer the workspace; asked of `users.info` now and then."""

    def __init__(self, client: AsyncWebClient, team: str, *, known_seconds: float = KNOWN_SECONDS) -> None:
        """`team` is the workspace: who administers another one has no rights in this."""
        self._client = client
        self._team = team
        self._known_seconds = known_seconds
        self._known: dict[str, tuple[Author, float]] = {}

    async def get(self, user: str) -> Author:
        """The person with the name that people see; with the id for a name when Slack does not tell. Nobody has the
        empty id: it stands where who wrote a message was forgotten."""
        if not user:
            return Author("", "")
        now = asyncio.get_running_loop().time()
        known, asked_at = self._known.get(user, (None, 0.0))
        if known is None or now - asked_at >= self._known_seconds:
            nobody = Author(user, user) if known is None else replace(known, manages=False, moderates=False)
            try:
                async with asyncio.timeout(_NAME_SECONDS):
                    author = _author((await self._client.users_info(user=user))["user"], self._team)
            except SlackApiError as error:
                log.warning("a name could not be looked up", user=user, cause=error_code(error))
                return nobody
            except (aiohttp.ClientError, TimeoutError, OSError, *GARBLED) as error:
                log.warning("a name could not be looked up", user=user, cause=reason(error))
                return nobody
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[user] = (author, now)
            return author
        return known

    def recall(self, user: str, otherwise: str) -> Author:
        """Without asking Slack: the name that is known or else this one, and no rights."""
        known, _ = self._known.get(user, (Author(user, otherwise), 0.0))
        return replace(known, manages=False, moderates=False)

    async def read(self, text: str, workspace: Workspace) -> str:
        """The words of a message as people read them, with names in place of ids."""
        users = mentioned_users(text) - {workspace.bot_user}
        names = {user: (await self.get(user)).name for user in sorted(users)}
        return to_plain(text, workspace.bot_user, names)

    async def describe(self, message: IncomingMessage, workspace: Workspace) -> IncomingMessage:
        """A raw message as people see it. Never fails: an id stands where Slack does not tell the name.

        A command keeps the ids of those whom it is about.
        """
        author = await self.get(message.author.id)
        described = replace(message, author=author, text=await self.read(message.text, workspace))
        if read_command(described) is None:
            return described
        return replace(described, text=to_command(without_bot(message.text, workspace.bot_user)))


def is_said_by_a_person(event: Event, workspace: Workspace) -> bool:
    by_program = event.get("bot_id") or event.get("user") in (None, _SLACKBOT, workspace.bot_user)
    return not by_program and event.get("subtype") in _WRITTEN_BY_PEOPLE


def how_addressed(event: Event, workspace: Workspace) -> Via | None:
    """How a message reaches the bot; None when it does not concern it."""
    if not is_said_by_a_person(event, workspace):
        return None
    if event["type"] == "app_mention":
        return "mention"
    if event.get("channel_type") == "im":
        return "dm"
    # A mention in a channel comes a second time as `app_mention`; whichever comes first is stored.
    if workspace.bot_user in mentioned_users(event.get("text") or ""):
        return "mention"
    return "thread" if event.get("thread_ts", event["ts"]) != event["ts"] else None


def read_event(event: Event, via: Via, workspace: Workspace) -> IncomingMessage:
    """The message of a `message` or `app_mention` event as Slack writes it: ids for names, and its marks in the text.

    A mention at the top of a channel begins a thread. What is said in a thread replies to all of it, and not to one
    message of it.
    """
    ts = event["ts"]
    parent = event.get("thread_ts") if event.get("thread_ts") != ts else None
    thread = parent or ("" if via == "dm" else ts)
    return IncomingMessage(
        conversation=ConversationKey("slack", workspace.team, event["channel"], thread),
        message_id=ts,
        author=Author(event["user"], event["user"]),
        text=event.get("text") or "",
        created_at=datetime.fromtimestamp(float(ts), UTC),
        via=via,
        private=via == "dm",
        client_msg_id=event.get("client_msg_id"),
        attachments=tuple(_attachment(file) for file in event.get("files") or ()),
    )


def _attachment(file: Event) -> Attachment:
    """Slack keeps an entry without an address for a file that was deleted, or that the bot may not see."""
    return Attachment(
        name=file.get("name") or file.get("title") or "file",
        media_type=file.get("mimetype") or "",
        size=int(file.get("size") or 0),
        url=file.get("url_private") or "",
    )


def _author(user: Event, team: str) -> Author:
    profile = user.get("profile", {})
    name = profile.get("display_name") or profile.get("real_name") or user.get("name") or user["id"]
    administers = any(user.get(right) for right in ("is_admin", "is_owner", "is_primary_owner"))
    manages = administers and user.get("team_id") == team
    return Author(user["id"], unescape(name), bool(user.get("is_bot")), manages=manages, moderates=manages)
