"""Channels and their messages in the fake Discord's REST API, with the typing sign."""

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_components import check_components
from tests.fakes.discord_gateway import DIRECT_MESSAGES, GUILD_MESSAGES, GUILDS, Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_rules import Refusal, find_pings
from tests.fakes.discord_state import (
    DEFAULT,
    LOADING,
    REPLY,
    SETTABLE,
    SUPPRESS_EMBEDS,
    Channel,
    Json,
    Message,
    State,
)

CHANNEL = r"/channels/{channel:\d+}"
MESSAGE = CHANNEL + r"/messages/{message:\d+}"


class Messages:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state
        self._gateway = gateway

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", CHANNEL, self._get_channel),
            ("POST", CHANNEL + "/typing", self._typing),
            ("GET", CHANNEL + "/messages", self._history),
            ("POST", CHANNEL + "/messages", self._create_message),
            ("GET", MESSAGE, self._get_message),
            ("PATCH", MESSAGE, self._edit_message),
            ("DELETE", MESSAGE, self._delete_message),
        ]

    async def _get_channel(self, request: web.Request, body: Json) -> Json:
        return find_channel(self._state, request).wire()

    async def _typing(self, request: web.Request, body: Json) -> None:
        find_channel(self._state, request, "SEND_MESSAGES").typing += 1

    async def _history(self, request: web.Request, body: Json) -> list[Json]:
        channel = find_channel(self._state, request)
        limit = int(request.query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise Refusal(rules.INVALID_FORM, "limit", "Must be between 1 and 100.")
        if "READ_MESSAGE_HISTORY" in channel.forbidden:
            return []
        found = [message for message in channel.messages.values() if not message.ephemeral]
        if after := request.query.get("after"):
            found = [message for message in found if message.id > int(after)][:limit]
        elif before := request.query.get("before"):
            found = [message for message in found if message.id < int(before)]
        page = [self._wire(message) for message in reversed(found[-limit:])]
        return [{key: value for key, value in wire.items() if key != "nonce"} for wire in page]

    async def _get_message(self, request: web.Request, body: Json) -> Json:
        return self._wire(find_message(self._state, request, "READ_MESSAGE_HISTORY"))

    async def _create_message(self, request: web.Request, body: Json) -> Json:
        channel = find_channel(self._state, request, "SEND_MESSAGES")
        content, nonce = rules.check_content(body), rules.check_nonce(body)
        allowed = rules.check_allowed_mentions(body)
        if nonce is not None and body.get("enforce_nonce"):
            for earlier in channel.messages.values():
                if earlier.nonce == nonce:
                    return self._wire(earlier)
        answered = self._referenced(channel, body.get("message_reference"))
        embeds, components = rules.check_embeds(body), check_components(body)
        if channel.archived:
            channel.archived = False
            await self._gateway.dispatch("THREAD_UPDATE", GUILDS, lambda _: channel.wire(), channel)
        message = Message(
            self._state.next_id(),
            channel,
            self._state.bot,
            content,
            kind=REPLY if answered else DEFAULT,
            reply_to=answered.id if answered else None,
            nonce=nonce,
            flags=int(body.get("flags") or 0) & SETTABLE,
            embeds=embeds,
            components=components,
            sent=body,
            shown=[content],
            pings=find_pings(content, allowed, answered.author if answered else None),
        )
        channel.messages[message.id] = message
        await self._gateway.dispatch_message("MESSAGE_CREATE", message)
        return self._wire(message)

    async def _edit_message(self, request: web.Request, body: Json) -> Json:
        message = find_message(self._state, request)
        if message.author is not self._state.bot:
            raise Refusal(rules.NOT_YOUR_MESSAGE)
        await edit_message(message, body, self._gateway)
        return self._wire(message)

    async def _delete_message(self, request: web.Request, body: Json) -> None:
        message = find_message(self._state, request)
        if message.author is not self._state.bot and "MANAGE_MESSAGES" in message.channel.forbidden:
            raise Refusal(rules.MISSING_PERMISSIONS)
        await delete_message(message, self._gateway)

    def _referenced(self, channel: Channel, reference: Json | None) -> Message | None:
        if reference is None:
            return None
        if "READ_MESSAGE_HISTORY" in channel.forbidden:
            raise Refusal(rules.NO_HISTORY_TO_REPLY)
        found = channel.messages.get(int(reference["message_id"]))
        if found is None and reference.get("fail_if_not_exists", True):
            raise Refusal(rules.INVALID_FORM, "message_reference", "Unknown message")
        return found

    def _wire(self, message: Message) -> Json:
        return message.wire(self._state.bot, message_content=self._state.message_content)


def find_channel(state: State, request: web.Request, permission: str = "") -> Channel:
    channel = state.channels.get(int(request.match_info["channel"]))
    if channel is None or channel.deleted:
        raise Refusal(rules.UNKNOWN_CHANNEL)
    if not channel.visible:
        raise Refusal(rules.MISSING_ACCESS)
    if permission in channel.forbidden:
        raise Refusal(rules.MISSING_PERMISSIONS)
    if channel.locked and permission not in ("", "READ_MESSAGE_HISTORY"):
        raise Refusal(rules.ARCHIVED_THREAD)
    return channel


def find_message(state: State, request: web.Request, permission: str = "") -> Message:
    message = find_channel(state, request, permission).messages.get(int(request.match_info["message"]))
    if message is None:
        raise Refusal(rules.UNKNOWN_MESSAGE)
    return message


async def edit_message(message: Message, body: Json, gateway: Gateway) -> None:
    """What PATCH does, on a channel's message as on an interaction's. What the body leaves out stays."""
    parts = {"embeds": message.embeds, "components": message.components, "attachments": message.attachments}
    after = {"content": message.content, **parts, **body}
    after["flags"] = message.flags | int(body.get("flags") or 0)
    content, allowed = rules.check_content(after), rules.check_allowed_mentions(body)
    message.embeds, message.components = rules.check_embeds(after), check_components(after)
    if "content" in body or message.flags & LOADING:
        message.pings += find_pings(content, allowed, None)
        message.show(content, body)
    if "flags" in body:
        message.flags = message.flags & ~SUPPRESS_EMBEDS | int(body["flags"] or 0) & SUPPRESS_EMBEDS
    if not message.ephemeral:
        await gateway.dispatch_message("MESSAGE_UPDATE", message)


async def delete_message(message: Message, gateway: Gateway) -> None:
    channel = message.channel
    channel.messages.pop(message.id, None)
    message.deleted = True
    data = {"id": str(message.id), "channel_id": str(channel.id)}
    if channel.guild is not None:
        data["guild_id"] = str(channel.guild.id)
    intent = GUILD_MESSAGES if channel.guild else DIRECT_MESSAGES
    await gateway.dispatch("MESSAGE_DELETE", intent, lambda _: data, channel)
