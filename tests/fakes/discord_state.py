"""What the fake Discord remembers, and how messages look on the wire. Knows no socket and no request."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.fakes.discord_places import DM, NOW, TEXT, THREAD, Channel, Guild, Json, User

__all__ = ["DM", "TEXT", "THREAD", "Channel", "Guild", "Json", "User"]

DEFAULT, REPLY, COMMAND, MENU_COMMAND = 0, 19, 20, 23
SUPPRESS_EMBEDS, HAS_THREAD, EPHEMERAL, LOADING = 1 << 2, 1 << 5, 1 << 6, 1 << 7
SILENT, COMPONENTS_V2 = 1 << 12, 1 << 15
SETTABLE = SUPPRESS_EMBEDS | SILENT | COMPONENTS_V2
"""The flags that a bot may set on a message."""
SLASH_COMMAND, COMPONENT, AUTOCOMPLETE, MODAL = 2, 3, 4, 5
DISCORD_EPOCH = 1_420_070_400_000
CUSTOM_EMOJI = re.compile(r"(?:a?:)?(\w{2,32}):(\d+)")
USER_MENTION = re.compile(r"<@!?(\d+)>")


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
    attachments: list[Json] = field(default_factory=list)
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    thread: Channel | None = None
    """The one that began from it."""
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
            "attachments": self.attachments if readable else [],
            "embeds": self.embeds if readable else [],
            "components": self.components if readable else [],
            "reactions": [
                {"emoji": emoji_wire(name), "count": len(users), "me": bot in users}
                for name, users in self.reactions.items()
            ],
        }
        if self.nonce is not None:
            wire["nonce"] = self.nonce
        if self.thread is not None:
            wire["thread"] = self.thread.wire()
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
            guild = self.channel.guild
            wire |= {"guild_id": str(guild.id), "member": guild.member_wire(self.author)}
        return wire


@dataclass(eq=False)
class Interaction:
    """What a user did with the bot: a command, a component, a modal, or the typing that asks for choices.

    `acknowledged` is the callback's type, None while there is none.
    """

    id: int
    token: str
    channel: Channel
    user: User
    command: str
    """The command's name, with those of its group; of a component or modal the custom id."""
    options: Json
    """As they were given; while one is typed, that option's definition."""
    kind: int = SLASH_COMMAND
    data: Json = field(default_factory=dict)
    message: Message | None = None
    """The one whose component was used, also before a modal."""
    given_at: float = field(default_factory=time.monotonic)
    acknowledged: int | None = None
    expired: bool = False
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)
    choices: list[Json] | None = None
    """What the bot offered for an option while it was typed."""
    modal: Json | None = None
    """What the bot opened."""
    opened_by: "Interaction | None" = None
    """The interaction whose modal this one submits."""

    @property
    def messages(self) -> list[Message]:
        return [message for message in (self.original, *self.followups) if message is not None]

    def metadata_wire(self, message: Message | None = None) -> Json:
        """As its messages tell of it; the follow-ups also tell of the response that they follow."""
        wire: Json = {"id": str(self.id), "type": self.kind, "user": self.user.wire()}
        wire["authorizing_integration_owners"] = {}
        if self.kind == COMPONENT and self.message is not None:
            wire["interacted_message_id"] = str(self.message.id)
        if self.opened_by is not None:
            wire["triggering_interaction_metadata"] = self.opened_by.metadata_wire()
        if self.original is not None and message in self.followups:
            wire["original_response_message_id"] = str(self.original.id)
        return wire

    def wire(self, bot: User) -> Json:
        channel, guild = self.channel, self.channel.guild
        wire: Json = {
            "id": str(self.id),
            "application_id": str(bot.id),
            "type": self.kind,
            "token": self.token,
            "version": 1,
            "channel_id": str(channel.id),
            "channel": {**channel.wire(), "permissions": str(channel.permissions_of(self.user))},
            "app_permissions": str(channel.permissions_of(bot)),
            "locale": self.user.locale,
            "entitlements": [],
            "authorizing_integration_owners": {"0": str(guild.id) if guild else "0"},
            "attachment_size_limit": 10_485_760,
            "context": 1 if guild is None else 0,
            "data": self.data,
        }
        if self.message is not None:
            wire["message"] = self.message.wire(bot, message_content=True)
        if guild is None:
            return {**wire, "user": self.user.wire()}
        about = {"id": str(guild.id), "locale": guild.locale, "features": []}
        permissions = str(channel.permissions_of(self.user))
        member = {"user": self.user.wire(), **guild.member_wire(self.user), "permissions": permissions}
        place = {"guild_id": about["id"], "guild": about, "guild_locale": guild.locale}
        return {**wire, **place, "member": member}


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
        self.shown_to: set[tuple[str, int]] = set()
        """The commands' ids with those to whom an administrator shows them."""
        self._last_id = 0
        self.bot = self.add_user("Parley", bot=True)

    def next_id(self) -> int:
        """A snowflake: rising, and telling the time that discord.py reads from it."""
        now = (time.time_ns() // 1_000_000 - DISCORD_EPOCH) << 22
        self._last_id = max(now, self._last_id + 1)
        return self._last_id

    def add_user(self, name: str, *, bot: bool = False, locale: str = "en-US") -> User:
        user = User(self.next_id(), name, bot, locale)
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


def emoji_wire(emoji: str) -> Json:
    custom = CUSTOM_EMOJI.fullmatch(emoji)
    return {"id": custom[2], "name": custom[1]} if custom else {"id": None, "name": emoji}


def snowflake_time(number: int) -> datetime:
    return datetime.fromtimestamp(((number >> 22) + DISCORD_EPOCH) / 1000, UTC)
