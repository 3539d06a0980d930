"""Threads in the fake Discord's REST API: beginning, joining, archiving and deleting them."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_gateway import GUILDS, Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_messages import CHANNEL, MESSAGE, find_channel, find_message
from tests.fakes.discord_places import PERMISSIONS, PRIVATE_THREAD, TEXT, THREAD, Channel, Json, User
from tests.fakes.discord_rules import Refusal
from tests.fakes.discord_state import HAS_THREAD, Message, State

ARCHIVE_MINUTES = (60, 1440, 4320, 10080)
ME = CHANNEL + "/thread-members/@me"


class Threads:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state
        self._gateway = gateway

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", MESSAGE + "/threads", self._start_from_message),
            ("POST", CHANNEL + "/threads", self._start),
            ("PUT", ME, self._member),
            ("DELETE", ME, self._member),
            ("PATCH", CHANNEL, self._change),
            ("DELETE", CHANNEL, self._delete),
        ]

    async def _start_from_message(self, request: web.Request, body: Json) -> Json:
        parent = find_channel(self._state, request, "CREATE_PUBLIC_THREADS")
        message = find_message(self._state, request)
        if message.thread is not None:
            raise Refusal(rules.THREAD_EXISTS)
        return await self._begin(parent, body, THREAD, message)

    async def _start(self, request: web.Request, body: Json) -> Json:
        """Without a type it is private, as Discord's documentation warns."""
        kind = body.get("type", PRIVATE_THREAD)
        public = kind == THREAD
        permission = "CREATE_PUBLIC_THREADS" if public else "CREATE_PRIVATE_THREADS"
        return await self._begin(find_channel(self._state, request, permission), body, kind, None)

    async def _begin(self, parent: Channel, body: Json, kind: int, message: Message | None) -> Json:
        rules.check_length(body.get("name"), 1, 100, "name")
        minutes = body.get("auto_archive_duration") or 1440
        if minutes not in ARCHIVE_MINUTES:
            raise Refusal(rules.INVALID_FORM, "auto_archive_duration", f"Value must be of {ARCHIVE_MINUTES}.")
        if parent.kind != TEXT or kind not in (THREAD, PRIVATE_THREAD):
            raise Refusal(rules.WRONG_CHANNEL_TYPE)
        thread = make_thread(self._state, parent, body["name"], self._state.bot, kind, message)
        thread.archive_minutes = minutes
        await announce_thread(thread, self._gateway)
        if message is not None:
            await self._gateway.dispatch_message("MESSAGE_UPDATE", message)
        return thread.wire()

    async def _member(self, request: web.Request, body: Json) -> None:
        find_channel(self._state, request)

    async def _change(self, request: web.Request, body: Json) -> Json:
        """Its starter may do it, but lock it only who manages threads."""
        thread = self._managed(request, by_its_starter="locked" not in body)
        if "name" in body:
            rules.check_length(body["name"], 1, 100, "name")
            thread.name = body["name"]
        await change_thread(
            thread,
            self._gateway,
            archived=body.get("archived", thread.archived),
            locked=body.get("locked", thread.locked),
        )
        return thread.wire()

    async def _delete(self, request: web.Request, body: Json) -> Json:
        channel = self._managed(request, by_its_starter=False)
        wire = channel.wire()
        await delete_channel(channel, self._gateway)
        return wire

    def _managed(self, request: web.Request, *, by_its_starter: bool) -> Channel:
        channel, bot = find_channel(self._state, request), self._state.bot
        permission = "MANAGE_CHANNELS" if channel.parent is None else "MANAGE_THREADS"
        granted = channel.permissions_of(bot) & PERMISSIONS[permission]
        if not granted and not (by_its_starter and channel.owner is bot):
            raise Refusal(rules.MISSING_PERMISSIONS)
        return channel


def make_thread(
    state: State, parent: Channel, name: str, owner: User | None, kind: int, message: Message | None
) -> Channel:
    """A thread that begins from a message has its id."""
    number = state.next_id() if message is None else message.id
    thread = Channel(number, name, kind, guild=parent.guild, parent=parent, owner=owner)
    if message is not None:
        message.thread = thread
        message.flags |= HAS_THREAD
    return state.add_channel(thread)


async def announce_thread(thread: Channel, gateway: Gateway) -> None:
    await gateway.dispatch(
        "THREAD_CREATE", GUILDS, lambda _: {**thread.wire(), "newly_created": True}, thread
    )


async def change_thread(thread: Channel, gateway: Gateway, *, archived: bool, locked: bool) -> None:
    thread.archived, thread.locked = archived, locked
    await gateway.dispatch("THREAD_UPDATE", GUILDS, lambda _: thread.wire(), thread)


async def delete_channel(channel: Channel, gateway: Gateway) -> None:
    """A channel or a thread. A channel's threads go with it."""
    event, wire = "CHANNEL_DELETE", channel.wire()
    if channel.parent is not None:
        event = "THREAD_DELETE"
        wire = {key: wire[key] for key in ("id", "guild_id", "parent_id", "type")}
    elif channel.guild is not None:
        for thread in channel.guild.channels:
            thread.deleted = thread.deleted or thread.parent is channel
    seen = channel.visible
    channel.deleted = True
    if seen:
        await gateway.dispatch(event, GUILDS, lambda _: wire)
