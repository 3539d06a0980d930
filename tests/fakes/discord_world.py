"""What a test builds in the fake Discord, and what happens to workspaces, threads and messages without the bot."""

from collections.abc import Callable, Iterable

from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_http import ChannelLimit, Desk
from tests.fakes.discord_messages import delete_message
from tests.fakes.discord_places import CATEGORY, DM, TEXT, THREAD, Channel, Guild, Json, Role, User
from tests.fakes.discord_places import permission_bits as bits
from tests.fakes.discord_reactions import add_reaction, remove_reaction
from tests.fakes.discord_rest import join_guild, leave_guild
from tests.fakes.discord_state import Message, State
from tests.fakes.discord_threads import announce_thread, change_thread, delete_channel, make_thread


class World:
    state: State
    gateway: Gateway
    desk: Desk

    async def wait_for(self, happened: Callable[[], object], *, seconds: float = 10.0) -> None:
        raise NotImplementedError

    # Who and what there is.

    def add_user(self, name: str, *, bot: bool = False, locale: str = "en-US") -> User:
        return self.state.add_user(name, bot=bot, locale=locale)

    def add_guild(self, name: str, *, owner: User | None = None, joined: bool = True) -> Guild:
        """Before a client connects. One that the bot has not joined can be joined later."""
        guild = Guild(self.state.next_id(), name, bot_role=self.state.next_id(), owner=owner, joined=joined)
        if joined:
            self.state.guilds[guild.id] = guild
        return guild

    def add_role(self, guild: Guild, name: str, *, permissions: Iterable[str] = ()) -> Role:
        """Before a client connects. The permissions by Discord's names, such as MANAGE_GUILD."""
        guild.roles.append(role := Role(self.state.next_id(), name, bits(permissions)))
        return role

    def join(self, guild: Guild, user: User, *, roles: Iterable[Role] = ()) -> User:
        """Be a member with these roles. Without, everybody is a plain member of every workspace."""
        guild.members[user.id] = list(roles)
        return user

    def add_channel(self, guild: Guild, name: str, *, category: Channel | None = None) -> Channel:
        channel = Channel(self.state.next_id(), name, TEXT, guild=guild, category=category)
        return self.state.add_channel(channel)

    def add_category(self, guild: Guild, name: str) -> Channel:
        return self.state.add_channel(Channel(self.state.next_id(), name, CATEGORY, guild=guild))

    def add_dm(self, user: User) -> Channel:
        return self.state.add_channel(Channel(self.state.next_id(), user.name, DM, recipient=user))

    # What happens to workspaces, channels and threads.

    async def join_guild(self, guild: Guild) -> None:
        """Add the bot to a workspace while it runs."""
        await join_guild(self.state, guild, self.gateway)

    async def leave_guild(self, guild: Guild) -> None:
        """Remove the bot from a workspace."""
        await leave_guild(self.state, guild, self.gateway)

    async def start_thread(
        self, parent: Channel, name: str, *, message: Message | None = None, user: User | None = None
    ) -> Channel:
        """From a message or without one. Who began it counts only when `user` tells."""
        thread = make_thread(self.state, parent, name, user, THREAD, message)
        await announce_thread(thread, self.gateway)
        return thread

    async def change_thread(self, thread: Channel, *, archived: bool = False, locked: bool = False) -> None:
        await change_thread(thread, self.gateway, archived=archived, locked=locked)

    async def delete_channel(self, channel: Channel) -> None:
        """A channel or a thread."""
        await delete_channel(channel, self.gateway)

    # What happens to messages.

    async def edit_message(self, message: Message, text: str) -> None:
        """As its author does it, who is a person."""
        message.mentions = self.state.mentioned_in(text)
        message.content = text
        message.shown.append(text)
        await self.gateway.dispatch_message("MESSAGE_UPDATE", message)

    async def delete_message(self, message: Message) -> None:
        await delete_message(message, self.gateway)

    async def react(self, message: Message, user: User, emoji: str) -> None:
        await add_reaction(message, user, emoji, self.gateway)

    async def unreact(self, message: Message, user: User, emoji: str) -> None:
        await remove_reaction(message, user, emoji, self.gateway)

    # What there is to see of the bot.

    @property
    def presence(self) -> Json | None:
        """What the bot last told of its state and activities."""
        return self.gateway.presence

    @property
    def limit_channels(self) -> bool:
        """Whether messages and edits in one channel are refused beyond five in five seconds."""
        return self.desk.channel_limit is not None

    @limit_channels.setter
    def limit_channels(self, on: bool) -> None:
        self.desk.channel_limit = ChannelLimit() if on else None
