"""What the fake Slack holds: people, channels, messages and their history. No network here."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

Json = dict[str, Any]
TEAM = "T0PARLEY"
Kind = Literal["channel", "group", "im"]

SCOPE_PREFIX: dict[Kind, str] = {"channel": "channels", "group": "groups", "im": "im"}


class SlackError(Exception):
    """An answer with `ok: false`: Slack's code for it, and what else the answer holds."""

    def __init__(self, code: str, **details: object) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


@dataclass
class User:
    id: str
    name: str
    display_name: str
    bot_id: str | None = None
    admin: bool = False
    team: str = TEAM

    def as_json(self) -> Json:
        rights = {"is_admin": self.admin, "is_owner": False, "is_primary_owner": False}
        names = {"display_name": self.display_name, "real_name": self.name.title()}
        who = {"id": self.id, "team_id": self.team, "name": self.name, "is_bot": self.bot_id is not None}
        return {**who, **rights, "profile": names}


@dataclass
class Channel:
    id: str
    name: str
    kind: Kind
    members: set[str]
    archived: bool = False

    def as_json(self, bot_user: str) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "is_channel": self.kind == "channel",
            "is_private": self.kind == "group",
            "is_im": self.kind == "im",
            "is_member": bot_user in self.members,
            "is_archived": self.archived,
        }


@dataclass
class Message:
    """`shown` is every text that people saw here, in order; the last one is what they see now."""

    channel: str
    ts: str
    user: str
    shown: list[str]
    thread: str | None = None
    bot_id: str | None = None
    subtype: str | None = None
    options: Json = field(default_factory=dict)
    """What else was asked for, but for the blocks: unfurl_links, unfurl_media, parse, metadata ... as sent last."""
    blocks: list[Json] = field(default_factory=list)
    reactions: dict[str, set[str]] = field(default_factory=dict)
    files: list[Json] = field(default_factory=list)
    deleted: bool = False

    @property
    def text(self) -> str:
        return self.shown[-1]

    @property
    def buttons(self) -> list[str]:
        """What stands on the buttons under it."""
        return [button["text"]["text"] for button in self._buttons]

    def button(self, label: str) -> Json:
        return next(button for button in self._buttons if button["text"]["text"] == label)

    @property
    def _buttons(self) -> list[Json]:
        return [button for block in self.blocks for button in block.get("elements", [])]

    @property
    def client_msg_id(self) -> str | None:
        """What Slack gives the messages of people, one for each; programs' have none."""
        return None if self.bot_id else f"00000000-0000-0000-0000-{self.ts.replace('.', '')[-12:]}"

    def as_json(self) -> Json:
        body: Json = {"type": "message", "user": self.user, "text": self.text, "ts": self.ts}
        extras = {
            "thread_ts": self.thread,
            "bot_id": self.bot_id,
            "subtype": self.subtype,
            "client_msg_id": self.client_msg_id,
            "metadata": self.options.get("metadata"),
        }
        body |= {key: value for key, value in extras.items() if value is not None}
        if self.blocks:
            body["blocks"] = self.blocks
        if self.files:
            body["files"] = self.files
        if self.reactions:
            body["reactions"] = [
                {"name": name, "users": sorted(users), "count": len(users)}
                for name, users in self.reactions.items()
            ]
        return body


@dataclass(frozen=True)
class Ephemeral:
    """A post that only one person sees."""

    channel: str
    user: str
    text: str
    thread: str | None = None


@dataclass(frozen=True)
class Status:
    """The line under a thread that says what the bot is doing; an empty text takes it away."""

    channel: str
    thread: str
    text: str


@dataclass(frozen=True)
class View:
    """A form that is open for one person."""

    id: str
    user: str
    content: Json


class SlackState:
    """One workspace with one app in it. Times are real, moved by `forward`."""

    def __init__(self) -> None:
        self.team = TEAM
        self.app_id = "A0PARLEY"
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.all_messages: list[Message] = []
        self.ephemerals: list[Ephemeral] = []
        self.statuses: list[Status] = []
        self.views: list[View] = []
        self.triggers: dict[str, tuple[str, float]] = {}
        """Who did something that a form may answer, and when."""
        self._numbers = count(1)
        self._started = time.time()
        self._moved = 0.0
        self.bot = self.add_user("parley", bot=True)

    def now(self) -> float:
        return time.time() + self._moved

    def forward(self, seconds: float) -> None:
        self._moved += seconds

    def number(self) -> int:
        return next(self._numbers)

    def new_ts(self) -> str:
        return f"{self.now():.0f}.{self.number():06}"

    def add_user(self, name: str, *, display_name: str = "", bot: bool = False, admin: bool = False) -> User:
        number = self.number()
        bot_id = f"B{number:08}" if bot else None
        user = User(f"U{number:08}", name, display_name or name, bot_id, admin)
        self.users[user.id] = user
        return user

    def add_channel(self, name: str, kind: Kind, members: set[str]) -> Channel:
        letter = {"channel": "C", "group": "G", "im": "D"}[kind]
        channel = Channel(f"{letter}{self.number():08}", name, kind, members)
        self.channels[channel.id] = channel
        return channel

    def new_trigger(self, user: str) -> str:
        trigger = f"{self.number()}.{self.number()}.fake"
        self.triggers[trigger] = user, self.now()
        return trigger

    def open_dm(self, user: str) -> Channel:
        for channel in self.channels.values():
            if channel.kind == "im" and channel.members == {user, self.bot.id}:
                return channel
        return self.add_channel("directmessage", "im", {user, self.bot.id})

    def add_message(self, channel: str, user: str, text: str, **fields: Any) -> Message:
        message = Message(channel, self.new_ts(), user, [text], **fields)
        message.bot_id = message.bot_id or self.users[user].bot_id
        self.all_messages.append(message)
        return message

    def messages(self, channel: str) -> Iterator[Message]:
        """What can be read in the channel and its threads, oldest first."""
        return (m for m in self.all_messages if m.channel == channel and not m.deleted)

    def get_message(self, channel: str, ts: str) -> Message:
        for message in self.messages(channel):
            if message.ts == ts:
                return message
        raise SlackError("message_not_found")
