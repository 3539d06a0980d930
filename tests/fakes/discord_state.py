"""What the fake Discord remembers, and how each thing looks on the wire. Knows no socket and no request."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

TEXT, DM, THREAD = 0, 1, 11
DEFAULT, REPLY, COMMAND = 0, 19, 20
SUPPRESS_EMBEDS, EPHEMERAL, LOADING = 1 << 2, 1 << 6, 1 << 7
DISCORD_EPOCH = 1_420_070_400_000
SEEING_AND_WRITING = 1 << 10 | 1 << 11 | 1 << 16 | 1 << 38
NOW = "2026-01-01T00:00:00.000000+00:00"
USER_MENTION = re.compile(r"<@!?(\d+)>")


@dataclass(eq=False)
class User:
    id: int
    name: str
    bot: bool = False

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"

    def wire(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.name if self.bot else self.name.lower(),
            "global_name": None if self.bot else self.name,
            "discriminator": "0",
            "avatar": None,
            "bot": self.bot,
            "public_flags": 0,
        }

    def member_wire(self) -> Json:
        return {"roles": [], "joined_at": NOW, "nick": None, "deaf": False, "mute": False, "flags": 0}


@dataclass(eq=False)
class Guild:
    id: int
    name: str
    bot_role: int
    """Discord gives every bot a role of the bot's name."""
    channels: "list[Channel]" = field(default_factory=list)

    def wire(self, bot: User) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "icon": None,
            "owner_id": "1",
            "unavailable": False,
            "large": False,
            "member_count": 2,
            "joined_at": NOW,
            "preferred_locale": "en-US",
            "features": [],
            "emojis": [],
            "stickers": [],
            "roles": [
                {**role_wire(self.id, "@everyone"), "permissions": str(SEEING_AND_WRITING)},
                {**role_wire(self.bot_role, bot.name), "managed": True, "tags": {"bot_id": str(bot.id)}},
            ],
            "channels": [c.wire() for c in self.channels if c.kind != THREAD and c.visible],
            "threads": [c.wire() for c in self.channels if c.kind == THREAD and c.visible],
            "members": [{"user": bot.wire(), **bot.member_wire()}],
        }


@dataclass(eq=False)
class Channel:
    """A channel, a thread (it has a `parent`) or a direct message (it has a `recipient`)."""

    id: int
    name: str
    kind: int
    guild: Guild | None = None
    parent: "Channel | None" = None
    recipient: User | None = None
    messages: "dict[int, Message]" = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    """Permissions that the bot lacks here, by Discord's names, such as SEND_MESSAGES."""
    typing: int = 0
    locked: bool = False
    deleted: bool = False

    @property
    def visible(self) -> bool:
        return not self.deleted and "VIEW_CHANNEL" not in self.forbidden

    def wire(self) -> Json:
        last = str(max(self.messages)) if self.messages else None
        wire: Json = {"id": str(self.id), "type": self.kind, "last_message_id": last, "flags": 0}
        if self.recipient is not None:
            return {**wire, "recipients": [self.recipient.wire()]}
        assert self.guild is not None
        wire |= {"name": self.name, "guild_id": str(self.guild.id), "permissions": "0"}
        if self.parent is None:
            return {**wire, "position": 0, "parent_id": None, "nsfw": False, "permission_overwrites": []}
        metadata = {"archived": self.locked, "locked": self.locked, "auto_archive_duration": 1440}
        return {
            **wire,
            "parent_id": str(self.parent.id),
            "owner_id": "1",
            "message_count": len(self.messages),
            "member_count": 1,
            "rate_limit_per_user": 0,
            "thread_metadata": {**metadata, "archive_timestamp": NOW},
        }


@dataclass(eq=False)
class Message:
    """`shown` is every text that people saw in it, in order; `pings` those whom it notified."""

    id: int
    channel: Channel
    author: User
    content: str
    kind: int = DEFAULT
    mentions: tuple[User, ...] = ()
    reply_to: int | None = None
    flags: int = 0
    nonce: str | None = None
    sent: Json = field(default_factory=dict)
    """The request's body that made it, or last edited it."""
    shown: list[str] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    reactions: dict[str, list[User]] = field(default_factory=dict)
    interaction: "Interaction | None" = None
    deleted: bool = False

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & EPHEMERAL)

    def show(self, content: str, sent: Json) -> None:
        self.content, self.sent = content, sent
        self.flags &= ~LOADING
        self.shown.append(content)

    def readable_by(self, bot: User, *, message_content: bool) -> bool:
        """Whether the bot gets the text: by the privileged intent, or by one of its four exceptions."""
        return message_content or self.channel.kind == DM or self.author is bot or bot in self.mentions

    def wire(self, bot: User, *, message_content: bool) -> Json:
        readable = self.readable_by(bot, message_content=message_content)
        wire: Json = {
            "id": str(self.id),
            "channel_id": str(self.channel.id),
            "author": self.author.wire(),
            "content": self.content if readable else "",
            "timestamp": snowflake_time(self.id).isoformat(),
            "edited_timestamp": NOW if len(self.shown) > 1 else None,
            "type": self.kind,
            "flags": self.flags,
            "tts": False,
            "pinned": False,
            "mention_everyone": False,
            "mentions": [user.wire() for user in self.mentions],
            "mention_roles": re.findall(r"<@&(\d+)>", self.content),
            "attachments": [],
            "embeds": [],
            "components": [],
            "reactions": [
                {"emoji": {"id": None, "name": name}, "count": len(users), "me": bot in users}
                for name, users in self.reactions.items()
            ],
        }
        if self.nonce is not None:
            wire["nonce"] = self.nonce
        if self.reply_to is not None:
            reference = {"type": 0, "message_id": str(self.reply_to), "channel_id": str(self.channel.id)}
            found = self.channel.messages.get(self.reply_to)
            wire["message_reference"] = reference
            wire["referenced_message"] = found and found.wire(bot, message_content=message_content)
        if self.interaction is not None:
            wire["webhook_id"] = wire["application_id"] = str(bot.id)
            wire["interaction_metadata"] = self.interaction.metadata_wire(self)
        return wire

    def event_wire(self, bot: User, *, message_content: bool) -> Json:
        """As the gateway sends it: with the workspace and the member, which REST leaves out."""
        wire = self.wire(bot, message_content=message_content)
        if self.channel.guild is not None:
            wire |= {"guild_id": str(self.channel.guild.id), "member": self.author.member_wire()}
        return wire


@dataclass(eq=False)
class Interaction:
    """A slash command that a user gave. `acknowledged` is the callback's type, None while there is none."""

    id: int
    token: str
    channel: Channel
    user: User
    command: str
    options: dict[str, str]
    given_at: float = field(default_factory=time.monotonic)
    acknowledged: int | None = None
    expired: bool = False
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [message for message in (self.original, *self.followups) if message is not None]

    def metadata_wire(self, message: Message) -> Json:
        """As its messages tell of it; the follow-ups also tell of the response that they follow."""
        wire = {"id": str(self.id), "type": 2, "user": self.user.wire(), "authorizing_integration_owners": {}}
        if self.original is None or message not in self.followups:
            return wire
        return {**wire, "original_response_message_id": str(self.original.id)}

    def wire(self, bot: User) -> Json:
        wire: Json = {
            "id": str(self.id),
            "application_id": str(bot.id),
            "type": 2,
            "token": self.token,
            "version": 1,
            "channel_id": str(self.channel.id),
            "channel": self.channel.wire(),
            "app_permissions": "0",
            "locale": "en-US",
            "entitlements": [],
            "authorizing_integration_owners": {"0": "0"},
            "attachment_size_limit": 10_485_760,
            "context": 1 if self.channel.guild is None else 0,
            "data": {
                "id": "1",
                "name": self.command,
                "type": 1,
                "options": [{"name": k, "type": 3, "value": v} for k, v in self.options.items()],
            },
        }
        if self.channel.guild is None:
            return {**wire, "user": self.user.wire()}
        member = {"user": self.user.wire(), **self.user.member_wire(), "permissions": "0"}
        guild = {"id": str(self.channel.guild.id), "locale": "en-US", "features": []}
        return {**wire, "guild_id": guild["id"], "guild": guild, "member": member}


class State:
    """Everything that the fake holds. `changed` is notified after every change, for `FakeDiscord.wait_for`."""

    def __init__(self, *, token: str, message_content: bool) -> None:
        self.token = token
        self.message_content = message_content
        """The switch in the developer portal, without which the privileged intent is refused."""
        self.changed = asyncio.Condition()
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.interactions: dict[str, Interaction] = {}
        self.commands: dict[str, list[Json]] = {}
        """By scope: "" for the global ones, else the workspace's id."""
        self._last_id = 0
        self.bot = self.add_user("Parley", bot=True)

    def next_id(self) -> int:
        """A snowflake: rising, and telling the time that discord.py reads from it."""
        now = (time.time_ns() // 1_000_000 - DISCORD_EPOCH) << 22
        self._last_id = max(now, self._last_id + 1)
        return self._last_id

    def add_user(self, name: str, *, bot: bool = False) -> User:
        user = User(self.next_id(), name, bot)
        self.users[user.id] = user
        return user

    def add_channel(self, channel: Channel) -> Channel:
        self.channels[channel.id] = channel
        if channel.guild is not None:
            channel.guild.channels.append(channel)
        return channel

    def mentioned_in(self, content: str) -> tuple[User, ...]:
        found = dict.fromkeys(int(number) for number in USER_MENTION.findall(content))
        return tuple(self.users[number] for number in found if number in self.users)

    async def note_change(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def role_wire(number: int, name: str) -> Json:
    about = {"id": str(number), "name": name, "permissions": "0", "position": 0, "flags": 0}
    return {**about, "hoist": False, "managed": False, "mentionable": True}


def snowflake_time(number: int) -> datetime:
    return datetime.fromtimestamp(((number >> 22) + DISCORD_EPOCH) / 1000, UTC)
