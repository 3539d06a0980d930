"""What the bot answers to interactions: callbacks within three seconds, then the interaction's own webhook."""

import time

from aiohttp import web

from tests.fakes import discord_rules as rules
from tests.fakes.discord_command_rules import check_choices
from tests.fakes.discord_components import check_components, check_modal
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_http import Handler
from tests.fakes.discord_messages import delete_message, edit_message
from tests.fakes.discord_rules import Refusal, find_pings
from tests.fakes.discord_state import (
    AUTOCOMPLETE,
    COMMAND,
    COMPONENT,
    DEFAULT,
    EPHEMERAL,
    LOADING,
    MENU_COMMAND,
    MODAL,
    REPLY,
    SETTABLE,
    SLASH_COMMAND,
    Interaction,
    Json,
    Message,
    State,
)

MESSAGE, DEFERRED_MESSAGE, DEFERRED_UPDATE, UPDATE, CHOICES, OPEN_MODAL = 4, 5, 6, 7, 8, 9
UPDATES = (DEFERRED_UPDATE, UPDATE)
RESPONSES = {
    SLASH_COMMAND: (MESSAGE, DEFERRED_MESSAGE, OPEN_MODAL),
    COMPONENT: (MESSAGE, DEFERRED_MESSAGE, OPEN_MODAL),
    AUTOCOMPLETE: (CHOICES,),
    MODAL: (MESSAGE, DEFERRED_MESSAGE),
}
"""What answers which kind of interaction. With a message there is also that message to update."""
WEBHOOK = r"/webhooks/{app:\d+}/{token}"
SECONDS_TO_ACKNOWLEDGE = 3.0


class Interactions:
    def __init__(self, state: State, gateway: Gateway) -> None:
        self._state = state
        self._gateway = gateway

    def routes(self) -> list[tuple[str, str, Handler]]:
        """None of them needs the bot's token: the interaction's own token is in the path."""
        return [
            ("POST", r"/interactions/{interaction:\d+}/{token}/callback", self._callback),
            ("POST", WEBHOOK, self._follow_up),
            ("GET", WEBHOOK + "/messages/{message}", self._get),
            ("PATCH", WEBHOOK + "/messages/{message}", self._edit),
            ("DELETE", WEBHOOK + "/messages/{message}", self._delete),
        ]

    async def _callback(self, request: web.Request, body: Json) -> Json | None:
        interaction = self._state.interactions.get(request.match_info["token"])
        if interaction is None or str(interaction.id) != request.match_info["interaction"]:
            raise Refusal(rules.UNKNOWN_INTERACTION)
        if interaction.acknowledged is not None:
            raise Refusal(rules.ALREADY_ACKNOWLEDGED)
        if interaction.expired or time.monotonic() - interaction.given_at > SECONDS_TO_ACKNOWLEDGE:
            raise Refusal(rules.UNKNOWN_INTERACTION)
        kind, data = body["type"], body.get("data") or {}
        allowed = RESPONSES[interaction.kind] + (UPDATES if interaction.message else ())
        if kind not in allowed:
            raise Refusal(rules.INVALID_FORM, "type", f"Value must be one of {allowed}.")
        interaction.acknowledged = kind
        try:
            await self._respond(interaction, kind, data)
        except Refusal:
            interaction.acknowledged = None
            raise
        await self._state.note_change()
        if request.query.get("with_response") not in ("1", "true"):
            return None
        return self._callback_wire(interaction)

    async def _respond(self, interaction: Interaction, kind: int, data: Json) -> None:
        if kind == MESSAGE:
            interaction.original = self._message(interaction, data)
            await self._announce(interaction.original)
        elif kind == DEFERRED_MESSAGE:
            flags = LOADING | int(data.get("flags") or 0) & EPHEMERAL
            interaction.original = self._new_message(interaction, flags)
            await self._announce(interaction.original)
        elif kind in UPDATES:
            message = interaction.message
            if message is None or message.deleted:
                raise Refusal(rules.UNKNOWN_MESSAGE)
            if kind == UPDATE:
                await edit_message(message, data, self._gateway)
            interaction.original = message
        elif kind == CHOICES:
            check_choices(data.get("choices") or [], interaction.options["type"])
            interaction.choices = data.get("choices") or []
        else:
            interaction.modal = check_modal(data)

    def _callback_wire(self, interaction: Interaction) -> Json:
        about: Json = {"id": str(interaction.id), "type": interaction.kind}
        resource: Json = {"type": interaction.acknowledged}
        if (message := interaction.original) is not None:
            about["response_message_id"] = str(message.id)
            about["response_message_loading"] = bool(message.flags & LOADING)
            about["response_message_ephemeral"] = message.ephemeral
            if interaction.acknowledged in (MESSAGE, UPDATE):
                resource["message"] = self._wire(message)
        return {"interaction": about, "resource": resource}

    async def _follow_up(self, request: web.Request, body: Json) -> Json:
        interaction = self._by_token(request)
        original = interaction.original
        if original is not None and original.flags & LOADING:  # Discord, too, fills the waiting message first
            await edit_message(original, body, self._gateway)
            return self._wire(original)
        message = self._message(interaction, body)
        interaction.followups.append(message)
        await self._announce(message)
        return self._wire(message)

    async def _get(self, request: web.Request, body: Json) -> Json:
        return self._wire(self._find(request))

    async def _edit(self, request: web.Request, body: Json) -> Json:
        message = self._find(request)
        await edit_message(message, body, self._gateway)
        return self._wire(message)

    async def _delete(self, request: web.Request, body: Json) -> None:
        await delete_message(self._find(request), self._gateway)

    def _by_token(self, request: web.Request) -> Interaction:
        interaction = self._state.interactions.get(request.match_info["token"])
        if interaction is None or interaction.acknowledged is None:
            raise Refusal(rules.UNKNOWN_WEBHOOK)
        if interaction.expired:
            raise Refusal(rules.INVALID_WEBHOOK_TOKEN)
        return interaction

    def _find(self, request: web.Request) -> Message:
        interaction, wanted = self._by_token(request), request.match_info["message"]
        for message in interaction.messages:
            named = wanted == str(message.id) or (wanted == "@original" and message is interaction.original)
            if named and not message.deleted:
                return message
        raise Refusal(rules.UNKNOWN_MESSAGE)

    def _message(self, interaction: Interaction, body: Json) -> Message:
        content = rules.check_content(body)
        message = self._new_message(interaction, int(body.get("flags") or 0) & (SETTABLE | EPHEMERAL))
        message.embeds, message.components = rules.check_embeds(body), check_components(body)
        message.pings = find_pings(content, rules.check_allowed_mentions(body), None)
        message.show(content, body)
        return message

    def _new_message(self, interaction: Interaction, flags: int) -> Message:
        """An answer to a component replies to its message."""
        kind = MENU_COMMAND if interaction.data.get("target_id") else COMMAND
        if interaction.kind == MODAL:
            kind = DEFAULT
        return Message(
            self._state.next_id(),
            interaction.channel,
            self._state.bot,
            "",
            kind=REPLY if interaction.message else kind,
            reply_to=interaction.message.id if interaction.message else None,
            flags=flags,
            interaction=interaction,
        )

    async def _announce(self, message: Message) -> None:
        """An ephemeral message is nobody's but the user's: it enters no channel and no gateway."""
        if message.ephemeral:
            await self._state.note_change()
        else:
            message.channel.messages[message.id] = message
            await self._gateway.dispatch_message("MESSAGE_CREATE", message)

    def _wire(self, message: Message) -> Json:
        return message.wire(self._state.bot, message_content=self._state.message_content)
