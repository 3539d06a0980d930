"""Who and what there is in the fake Discord: people, roles, workspaces and channels, and how each looks on the wire."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.discord_state import Message

Json = dict[str, Any]

TEXT, DM, CATEGORY, THREAD, PRIVATE_THREAD = 0, 1, 4, 11, 12
NOW = "2026-01-01T00:00:00.000000+00:00"
PERMISSIONS = {
    name: 1 << bit
    for name, bit in {
        "KICK_MEMBERS": 1,
        "BAN_MEMBERS": 2,
        "ADMINISTRATOR": 3,
        "MANAGE_CHANNELS": 4,
        "MANAGE_GUILD": 5,
        "ADD_REACTIONS": 6,
        "VIEW_AUDIT_LOG": 7,
        "VIEW_CHANNEL": 10,
        "SEND_MESSAGES": 11,
        "MANAGE_MESSAGES": 13,
        "EMBED_LINKS": 14,
        "ATTACH_FILES": 15,
        "READ_MESSAGE_HISTORY": 16,
        "MENTION_EVERYONE": 17,
        "MANAGE_ROLES": 28,
        "MANAGE_WEBHOOKS": 29,
        "USE_APPLICATION_COMMANDS": 31,
        "MANAGE_THREADS": 34,
        "CREATE_PUBLIC_THREADS": 35,
        "CREATE_PRIVATE_THREADS": 36,
        "SEND_MESSAGES_IN_THREADS": 38,
        "MODERATE_MEMBERS": 40,
    }.items()
}
EVERYTHING = sum(PERMISSIONS.values())


def permission_bits(names: Iterable[str]) -> int:
    """Of Discord's names, such as MANAGE_GUILD."""
    return sum(PERMISSIONS[name] for name in set(names))


EVERYBODY_MAY = permission_bits(
    ("VIEW_CHANNEL", "SEND_MESSAGES", "READ_MESSAGE_HISTORY", "SEND_MESSAGES_IN_THREADS", "ADD_REACTIONS")
) | permission_bits(("EMBED_LINKS", "ATTACH_FILES", "USE_APPLICATION_COMMANDS", "CREATE_PUBLIC_THREADS"))


@dataclass(eq=False)
class User:
    id: int
    name: str
    bot: bool = False
    locale: str = "en-US"

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


@dataclass(eq=False)
class Role:
    id: int
    name: str
    permissions: int = 0

    def wire(self) -> Json:
        about = {"id": str(self.id), "name": self.name, "permissions": str(self.permissions), "position": 0}
        return {**about, "flags": 0, "hoist": False, "managed": False, "mentionable": True}


@dataclass(eq=False)
class Guild:
    id: int
    name: str
    bot_role: int
    """Discord gives every bot a role of the bot's name."""
    channels: "list[Channel]" = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    members: dict[int, list[Role]] = field(default_factory=dict)
    """The roles of those who have any, by the person's id. Everybody else is a plain member."""
    owner: User | None = None
    system_channel: "Channel | None" = None
    locale: str = "en-US"
    joined: bool = True
    """Whether the bot is in it."""

    def permissions_of(self, user: User) -> int:
        """In the whole workspace. The owner and administrators may everything."""
        granted = EVERYBODY_MAY
        for role in self.members.get(user.id, []):
            granted |= role.permissions
        return EVERYTHING if user is self.owner or granted & PERMISSIONS["ADMINISTRATOR"] else granted

    def member_wire(self, user: User) -> Json:
        """Without the user, which Discord leaves out of the member in a message."""
        roles = [str(role.id) for role in self.members.get(user.id, [])]
        return {"roles": roles, "joined_at": NOW, "nick": None, "deaf": False, "mute": False, "flags": 0}

    def wire(self, bot: User) -> Json:
        everyone = Role(self.id, "@everyone", EVERYBODY_MAY)
        of_the_bot = Role(self.bot_role, bot.name).wire()
        return {
            "id": str(self.id),
            "name": self.name,
            "icon": None,
            "owner_id": str(self.owner.id) if self.owner else "1",
            "unavailable": False,
            "large": False,
            "member_count": 2,
            "joined_at": NOW,
            "preferred_locale": self.locale,
            "system_channel_id": str(self.system_channel.id) if self.system_channel else None,
            "system_channel_flags": 0,
            "features": [],
            "emojis": [],
            "stickers": [],
            "roles": [
                everyone.wire(),
                {**of_the_bot, "managed": True, "tags": {"bot_id": str(bot.id)}},
                *(role.wire() for role in self.roles),
            ],
            "channels": [c.wire() for c in self.channels if c.parent is None and c.visible],
            "threads": [c.wire() for c in self.channels if c.parent is not None and c.visible],
            "members": [{"user": bot.wire(), **self.member_wire(bot)}],
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
    category: "Channel | None" = None
    owner: User | None = None
    """Who began the thread."""
    messages: "dict[int, Message]" = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    """Permissions that the bot lacks here, by Discord's names, such as SEND_MESSAGES."""
    typing: int = 0
    archived: bool = False
    """A message opens an archived thread again, unless it is locked."""
    locked: bool = False
    """A locked thread is archived, too."""
    archive_minutes: int = 1440
    deleted: bool = False

    @property
    def visible(self) -> bool:
        """Whether the bot sees it."""
        in_a_guild = self.guild is None or self.guild.joined
        return in_a_guild and not self.deleted and "VIEW_CHANNEL" not in self.forbidden

    def permissions_of(self, user: User) -> int:
        """What a user may do here; `forbidden` is the bot's alone."""
        granted = EVERYBODY_MAY if self.guild is None else self.guild.permissions_of(user)
        return granted & ~permission_bits(self.forbidden) if user.bot else granted

    def wire(self) -> Json:
        last = str(max(self.messages)) if self.messages else None
        wire: Json = {"id": str(self.id), "type": self.kind, "last_message_id": last, "flags": 0}
        if self.recipient is not None:
            return {**wire, "recipients": [self.recipient.wire()]}
        assert self.guild is not None
        wire |= {"name": self.name, "guild_id": str(self.guild.id), "permissions": "0"}
        if self.parent is None:
            category = str(self.category.id) if self.category else None
            return {**wire, "position": 0, "parent_id": category, "nsfw": False, "permission_overwrites": []}
        archived = self.archived or self.locked
        metadata = {
            "archived": archived,
            "locked": self.locked,
            "auto_archive_duration": self.archive_minutes,
        }
        return {
            **wire,
            "parent_id": str(self.parent.id),
            "owner_id": str(self.owner.id) if self.owner else "1",
            "message_count": len(self.messages),
            "member_count": 1,
            "rate_limit_per_user": 0,
            "thread_metadata": {**metadata, "archive_timestamp": NOW},
        }
