"""What Discord refuses, with which error code, and whom a message pings. Pure checks of a request's body."""

import re

from tests.fakes.discord_state import Json, User

CONTENT_LIMIT = 2000
NONCE_LIMIT = 25
EMBEDS_LIMIT = 6000
"""Characters in all embeds of a message together."""
UNKNOWN_CHANNEL, UNKNOWN_MESSAGE, UNKNOWN_USER = 10003, 10008, 10013
UNKNOWN_EMOJI, UNKNOWN_WEBHOOK, UNKNOWN_INTERACTION, UNKNOWN_COMMAND = 10014, 10015, 10062, 10063
NOT_YOUR_APPLICATION, TOO_MANY_REACTIONS, TOO_MANY_COMMANDS = 20012, 30010, 30032
ALREADY_ACKNOWLEDGED = 40060
MISSING_ACCESS, NOT_YOUR_MESSAGE, EMPTY_MESSAGE, MISSING_PERMISSIONS = 50001, 50005, 50006, 50013
WRONG_CHANNEL_TYPE = 50024
INVALID_WEBHOOK_TOKEN, INVALID_FORM, ARCHIVED_THREAD, INVALID_JSON = 50027, 50035, 50083, 50109
NO_HISTORY_TO_REPLY, THREAD_EXISTS = 160002, 160004

_STATUS = {UNKNOWN_CHANNEL: 404, UNKNOWN_MESSAGE: 404, UNKNOWN_USER: 404, UNKNOWN_WEBHOOK: 404}
_STATUS |= {UNKNOWN_INTERACTION: 404, UNKNOWN_EMOJI: 400, UNKNOWN_COMMAND: 404, INVALID_WEBHOOK_TOKEN: 401}
_STATUS |= dict.fromkeys((MISSING_ACCESS, NOT_YOUR_MESSAGE, MISSING_PERMISSIONS, NOT_YOUR_APPLICATION), 403)
_MESSAGES = {
    UNKNOWN_CHANNEL: "Unknown Channel",
    UNKNOWN_MESSAGE: "Unknown Message",
    UNKNOWN_USER: "Unknown User",
    UNKNOWN_EMOJI: "Unknown Emoji",
    UNKNOWN_WEBHOOK: "Unknown Webhook",
    UNKNOWN_INTERACTION: "Unknown interaction",
    UNKNOWN_COMMAND: "Unknown application command",
    NOT_YOUR_APPLICATION: "You are not authorized to perform this action on this application",
    TOO_MANY_REACTIONS: "Maximum number of reactions reached (20)",
    TOO_MANY_COMMANDS: "Maximum number of application commands reached",
    ALREADY_ACKNOWLEDGED: "Interaction has already been acknowledged.",
    MISSING_ACCESS: "Missing Access",
    NOT_YOUR_MESSAGE: "Cannot edit a message authored by another user",
    EMPTY_MESSAGE: "Cannot send an empty message",
    MISSING_PERMISSIONS: "Missing Permissions",
    WRONG_CHANNEL_TYPE: "Cannot execute action on this channel type",
    INVALID_WEBHOOK_TOKEN: "Invalid Webhook Token",
    INVALID_FORM: "Invalid Form Body",
    ARCHIVED_THREAD: "Thread is archived",
    INVALID_JSON: "The request body contains invalid JSON.",
    NO_HISTORY_TO_REPLY: "Cannot reply without permission to read message history",
    THREAD_EXISTS: "A thread has already been created for this message",
}


class Refusal(Exception):
    """An answer in the 400s, as Discord words it."""

    def __init__(self, code: int, field: str = "", reason: str = "") -> None:
        super().__init__(f"{code} {field} {reason}")
        self.status = _STATUS.get(code, 400)
        self.body: Json = {"code": code, "message": _MESSAGES[code]}
        if field:
            self.body["errors"] = {field: {"_errors": [{"code": "INVALID", "message": reason}]}}


def check_content(body: Json) -> str:
    """The text that people will see: Discord trims it. It may be empty beside something else to see."""
    content = str(body.get("content") or "").strip()
    if len(content) > CONTENT_LIMIT:
        raise Refusal(INVALID_FORM, "content", f"Must be {CONTENT_LIMIT} or fewer in length.")
    if not content and not any(body.get(part) for part in ("embeds", "components", "attachments")):
        raise Refusal(EMPTY_MESSAGE)
    return content


def check_length(text: object, least: int, most: int, field: str) -> None:
    if not isinstance(text, str) or not least <= len(text) <= most:
        raise Refusal(INVALID_FORM, field, f"Must be between {least} and {most} in length.")


def check_embeds(body: Json) -> list[Json]:
    embeds: list[Json] = body.get("embeds") or []
    if len(embeds) > 10:
        raise Refusal(INVALID_FORM, "embeds", "Must be 10 or fewer in length.")
    total = sum(_check_embed(embed) for embed in embeds)
    if total > EMBEDS_LIMIT:
        raise Refusal(INVALID_FORM, "embeds", f"Embed size exceeds maximum size of {EMBEDS_LIMIT}")
    return embeds


def _check_embed(embed: Json) -> int:
    """The number of its characters that count."""
    fields = embed.get("fields", [])
    if len(fields) > 25:
        raise Refusal(INVALID_FORM, "embeds.fields", "Must be 25 or fewer in length.")
    texts = [
        ("title", embed.get("title"), 0, 256),
        ("description", embed.get("description"), 0, 4096),
        ("footer", (embed.get("footer") or {}).get("text"), 0, 2048),
        ("author", (embed.get("author") or {}).get("name"), 0, 256),
        *(("fields.name", field.get("name", ""), 1, 256) for field in fields),
        *(("fields.value", field.get("value", ""), 1, 1024) for field in fields),
    ]
    for name, text, least, most in texts:
        if text is not None:
            check_length(text, least, most, f"embeds.{name}")
    return sum(len(text or "") for _, text, _, _ in texts)


def check_nonce(body: Json) -> str | None:
    nonce = body.get("nonce")
    if nonce is not None and len(str(nonce)) > NONCE_LIMIT:
        raise Refusal(INVALID_FORM, "nonce", f"Must be {NONCE_LIMIT} or fewer in length.")
    return None if nonce is None else str(nonce)


def check_allowed_mentions(body: Json) -> Json | None:
    """None when the field is absent: then everything in the text pings."""
    allowed: Json | None = body.get("allowed_mentions")
    for kind in ("users", "roles"):
        if allowed and kind in allowed.get("parse", []) and allowed.get(kind):
            raise Refusal(INVALID_FORM, "allowed_mentions", f"parse:['{kind}'] and {kind} are exclusive.")
    return allowed


def find_pings(content: str, allowed: Json | None, replied_to: User | None) -> list[str]:
    """Whom a message notifies. Without `allowed_mentions` everything in the text does, and a reply, too."""
    named = {"users": re.findall(r"<@!?(\d+)>", content), "roles": re.findall(r"<@&(\d+)>", content)}
    everyone = re.findall(r"@(?:everyone|here)", content)
    if allowed is None:
        return [*everyone, *named["users"], *named["roles"], *([str(replied_to.id)] if replied_to else [])]
    parsed = allowed.get("parse", [])
    pings = list(everyone) if "everyone" in parsed else []
    for kind, numbers in named.items():
        pings += [n for n in numbers if kind in parsed or n in map(str, allowed.get(kind) or [])]
    return pings + ([str(replied_to.id)] if replied_to and allowed.get("replied_user") else [])
