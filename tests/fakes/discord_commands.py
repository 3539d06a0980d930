"""The commands that a bot registers with the fake Discord, for all workspaces or for one."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_command_rules import CHAT_INPUT, check_commands
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_places import Json
from tests.fakes.discord_rules import Refusal
from tests.fakes.discord_state import State

COMMANDS = (r"/applications/{app:\d+}/commands", r"/applications/{app:\d+}/guilds/{guild:\d+}/commands")


class Commands:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            *(("GET", path, self._get_all) for path in COMMANDS),
            *(("PUT", path, self._put_all) for path in COMMANDS),
            *(("POST", path, self._post) for path in COMMANDS),
            *(("GET", path + r"/{command:\d+}", self._get) for path in COMMANDS),
            *(("PATCH", path + r"/{command:\d+}", self._patch) for path in COMMANDS),
            *(("DELETE", path + r"/{command:\d+}", self._delete) for path in COMMANDS),
        ]

    async def _get_all(self, request: web.Request, body: Json) -> list[Json]:
        return self._registered(request)

    async def _put_all(self, request: web.Request, body: list[Json]) -> list[Json]:
        registered = self._registered(request)
        check_commands(body)
        registered[:] = [self._complete(request, command, registered) for command in body]
        return registered

    async def _post(self, request: web.Request, body: Json) -> Json:
        registered = self._registered(request)
        command = self._complete(request, body, registered)
        others = [other for other in registered if other["id"] != command["id"]]
        check_commands([*others, command])
        registered[:] = [*others, command]
        return command

    async def _get(self, request: web.Request, body: Json) -> Json:
        return self._find(request)

    async def _patch(self, request: web.Request, body: Json) -> Json:
        registered, command = self._registered(request), self._find(request)
        changed = {**command, **body, "version": str(self._state.next_id())}
        others = [other for other in registered if other is not command]
        check_commands([*others, changed])
        registered[registered.index(command)] = changed
        return changed

    async def _delete(self, request: web.Request, body: Json) -> None:
        self._registered(request).remove(self._find(request))

    def _registered(self, request: web.Request) -> list[Json]:
        if request.match_info["app"] != str(self._state.bot.id):
            raise Refusal(rules.NOT_YOUR_APPLICATION)
        guild = request.match_info.get("guild", "")
        if guild and int(guild) not in self._state.guilds:
            raise Refusal(rules.MISSING_ACCESS)
        return self._state.commands.setdefault(guild, [])

    def _find(self, request: web.Request) -> Json:
        for command in self._registered(request):
            if command["id"] == request.match_info["command"]:
                return command
        raise Refusal(rules.UNKNOWN_COMMAND)

    def _complete(self, request: web.Request, command: Json, registered: list[Json]) -> Json:
        """As Discord gives it back. A command that is registered again keeps its id."""
        version = str(self._state.next_id())
        named = (command["name"], command.get("type", CHAT_INPUT))
        kept = [other["id"] for other in registered if (other["name"], other["type"]) == named]
        about = {"id": kept[0] if kept else version, "application_id": str(self._state.bot.id)}
        defaults = {"type": CHAT_INPUT, "description": "", "default_member_permissions": None, "nsfw": False}
        place = {"guild_id": guild} if (guild := request.match_info.get("guild")) else {}
        return {**defaults, **command, **place, **about, "version": version}
