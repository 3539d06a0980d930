"""The rest of the fake Discord's REST API: the bot, users and workspaces."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_gateway import GUILDS, Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_places import DM, Channel, Guild, Json
from tests.fakes.discord_rules import Refusal
from tests.fakes.discord_state import State


class Rest:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state
        self._gateway = gateway

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/users/@me", self._me),
            ("GET", r"/users/{user:\d+}", self._user),
            ("POST", "/users/@me/channels", self._open_dm),
            ("GET", "/oauth2/applications/@me", self._application),
            ("GET", "/gateway/bot", self._gateway_bot),
            ("GET", r"/guilds/{guild:\d+}", self._guild),
            ("GET", r"/guilds/{guild:\d+}/members/{user:\d+}", self._member),
            ("DELETE", r"/users/@me/guilds/{guild:\d+}", self._leave_guild),
        ]

    # The bot and its surroundings.

    async def _me(self, request: web.Request, body: Json) -> Json:
        return {**self._state.bot.wire(), "verified": True, "mfa_enabled": False, "locale": "en-US"}

    async def _user(self, request: web.Request, body: Json) -> Json:
        user = self._state.users.get(int(request.match_info["user"]))
        if user is None:
            raise Refusal(rules.UNKNOWN_USER)
        return user.wire()

    async def _application(self, request: web.Request, body: Json) -> Json:
        bot = self._state.bot
        names = {"id": str(bot.id), "name": bot.name, "description": "", "icon": None, "verify_key": "0"}
        return {**names, "bot_public": True, "bot_require_code_grant": False, "owner": bot.wire(), "flags": 0}

    async def _gateway_bot(self, request: web.Request, body: Json) -> Json:
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return {"url": self._gateway.url, "shards": 1, "session_start_limit": limit}

    async def _guild(self, request: web.Request, body: Json) -> Json:
        return self._joined(request).wire(self._state.bot)

    async def _open_dm(self, request: web.Request, body: Json) -> Json:
        user = self._state.users[int(body["recipient_id"])]
        open_dms = (c for c in self._state.channels.values() if c.recipient is user)
        dm = next(open_dms, None) or self._state.add_channel(
            Channel(self._state.next_id(), user.name, DM, recipient=user)
        )
        return dm.wire()

    async def _member(self, request: web.Request, body: Json) -> Json:
        guild = self._joined(request)
        user = self._state.users.get(int(request.match_info["user"]))
        if user is None:
            raise Refusal(rules.UNKNOWN_USER)
        return {"user": user.wire(), **guild.member_wire(user)}

    async def _leave_guild(self, request: web.Request, body: Json) -> None:
        await leave_guild(self._state, self._joined(request), self._gateway)

    def _joined(self, request: web.Request) -> Guild:
        guild = self._state.guilds.get(int(request.match_info["guild"]))
        if guild is None:
            raise Refusal(rules.MISSING_ACCESS)
        return guild


async def join_guild(state: State, guild: Guild, gateway: Gateway) -> None:
    """Tell of a workspace that the bot was added to: without `unavailable`, which marks one that comes back."""
    guild.joined = True
    state.guilds[guild.id] = guild
    wire = {key: value for key, value in guild.wire(state.bot).items() if key != "unavailable"}
    await gateway.dispatch("GUILD_CREATE", GUILDS, lambda _: wire)


async def leave_guild(state: State, guild: Guild, gateway: Gateway) -> None:
    """Of the bot's own will, or removed. The commands that were registered there are gone."""
    guild.joined = False
    state.guilds.pop(guild.id, None)
    state.commands.pop(str(guild.id), None)
    await gateway.dispatch("GUILD_DELETE", GUILDS, lambda _: {"id": str(guild.id)})
