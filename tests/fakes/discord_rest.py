"""The rest of the fake Discord's REST API: the bot, users, workspaces, threads and commands."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_gateway import GUILDS, Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_messages import CHANNEL, MESSAGE, find_channel
from tests.fakes.discord_rules import Refusal
from tests.fakes.discord_state import DM, THREAD, Channel, Json, State

COMMANDS = (r"/applications/{app:\d+}/commands", r"/applications/{app:\d+}/guilds/{guild:\d+}/commands")


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
            ("POST", MESSAGE + "/threads", self._start_thread),
            ("POST", CHANNEL + "/threads", self._start_thread),
            ("PUT", CHANNEL + "/thread-members/@me", self._join_thread),
            *((("GET", path, self._get_commands)) for path in COMMANDS),
            *((("PUT", path, self._put_commands)) for path in COMMANDS),
            *((("POST", path, self._post_command)) for path in COMMANDS),
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
        guild = self._state.guilds.get(int(request.match_info["guild"]))
        if guild is None:
            raise Refusal(rules.MISSING_ACCESS)
        return guild.wire(self._state.bot)

    async def _open_dm(self, request: web.Request, body: Json) -> Json:
        user = self._state.users[int(body["recipient_id"])]
        open_dms = (c for c in self._state.channels.values() if c.recipient is user)
        dm = next(open_dms, None) or self._state.add_channel(
            Channel(self._state.next_id(), user.name, DM, recipient=user)
        )
        return dm.wire()

    # Threads.

    async def _start_thread(self, request: web.Request, body: Json) -> Json:
        parent = find_channel(self._state, request, "CREATE_PUBLIC_THREADS")
        number = int(request.match_info.get("message") or self._state.next_id())
        thread = Channel(number, body["name"], THREAD, guild=parent.guild, parent=parent)
        await announce_thread(self._state.add_channel(thread), self._gateway)
        return thread.wire()

    async def _join_thread(self, request: web.Request, body: Json) -> None:
        find_channel(self._state, request)

    # Application commands.

    async def _get_commands(self, request: web.Request, body: Json) -> list[Json]:
        return self._state.commands.get(request.match_info.get("guild", ""), [])

    async def _put_commands(self, request: web.Request, body: list[Json]) -> list[Json]:
        scope = request.match_info.get("guild", "")
        self._state.commands[scope] = [self._registered(command) for command in body]
        return self._state.commands[scope]

    async def _post_command(self, request: web.Request, body: Json) -> Json:
        commands = self._state.commands.setdefault(request.match_info.get("guild", ""), [])
        commands[:] = [command for command in commands if command["name"] != body["name"]]
        commands.append(self._registered(body))
        return commands[-1]

    def _registered(self, command: Json) -> Json:
        rules.check_command(command)
        number = str(self._state.next_id())
        names = {"id": number, "version": number, "application_id": str(self._state.bot.id), "type": 1}
        return {"default_member_permissions": None, "nsfw": False, **names, **command}


async def announce_thread(thread: Channel, gateway: Gateway) -> None:
    await gateway.dispatch(
        "THREAD_CREATE", GUILDS, lambda _: {**thread.wire(), "newly_created": True}, thread
    )
