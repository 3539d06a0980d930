"""Reactions in the fake Discord: the bot's own by REST, and the events that tell everybody's."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_gateway import DIRECT_REACTIONS, GUILD_REACTIONS, Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_messages import MESSAGE, find_message
from tests.fakes.discord_places import Json, User
from tests.fakes.discord_rules import Refusal
from tests.fakes.discord_state import CUSTOM_EMOJI, Message, State, emoji_wire

REACTION = MESSAGE + "/reactions/{emoji}"
MOST_REACTIONS = 20


class Reactions:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state
        self._gateway = gateway

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("PUT", REACTION + "/@me", self._add),
            ("DELETE", REACTION + "/@me", self._remove),
            ("GET", REACTION, self._users),
        ]

    async def _add(self, request: web.Request, body: Json) -> None:
        """Whoever is the first with an emoji needs the permission for it."""
        message, emoji = find_message(self._state, request), _plain(request.match_info["emoji"])
        if emoji not in message.reactions:
            find_message(self._state, request, "ADD_REACTIONS")
        if emoji.isascii() and not CUSTOM_EMOJI.fullmatch(emoji):
            raise Refusal(rules.UNKNOWN_EMOJI)
        if emoji not in message.reactions and len(message.reactions) >= MOST_REACTIONS:
            raise Refusal(rules.TOO_MANY_REACTIONS)
        await add_reaction(message, self._state.bot, emoji, self._gateway)

    async def _remove(self, request: web.Request, body: Json) -> None:
        message = find_message(self._state, request)
        await remove_reaction(message, self._state.bot, _plain(request.match_info["emoji"]), self._gateway)

    async def _users(self, request: web.Request, body: Json) -> list[Json]:
        message = find_message(self._state, request)
        return [user.wire() for user in message.reactions.get(_plain(request.match_info["emoji"]), [])]


async def add_reaction(message: Message, user: User, emoji: str, gateway: Gateway) -> None:
    """A second time it changes nothing, and nobody hears of it."""
    users = message.reactions.setdefault(emoji, [])
    if user in users:
        return
    users.append(user)
    about: Json = {"message_author_id": str(message.author.id)}
    if message.channel.guild is not None:
        about["member"] = {"user": user.wire(), **message.channel.guild.member_wire(user)}
    await _tell("MESSAGE_REACTION_ADD", message, user, emoji, about, gateway)


async def remove_reaction(message: Message, user: User, emoji: str, gateway: Gateway) -> None:
    users = message.reactions.get(emoji, [])
    if user not in users:
        return
    users.remove(user)
    if not users:
        del message.reactions[emoji]
    await _tell("MESSAGE_REACTION_REMOVE", message, user, emoji, {}, gateway)


async def _tell(event: str, message: Message, user: User, emoji: str, about: Json, gateway: Gateway) -> None:
    channel = message.channel
    data = {
        "user_id": str(user.id),
        "channel_id": str(channel.id),
        "message_id": str(message.id),
        "emoji": emoji_wire(emoji),
        "type": 0,
        "burst": False,
        **({"guild_id": str(channel.guild.id)} if channel.guild else {}),
        **about,
    }
    intent = GUILD_REACTIONS if channel.guild else DIRECT_REACTIONS
    await gateway.dispatch(event, intent, lambda _: data, channel)


def _plain(emoji: str) -> str:
    """A custom one as its name and id."""
    custom = CUSTOM_EMOJI.fullmatch(emoji)
    return f"{custom[1]}:{custom[2]}" if custom else emoji
