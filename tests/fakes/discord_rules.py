"""What Discord refuses, with which error code, and whom a message pings. Pure checks of a request's body."""

import re

from tests.fakes.discord_state import Json, User

CONTENT_LIMIT = 2000
NONCE_LIMIT = 25
UNKNOWN_CHANNEL, UNKNOWN_MESSAGE, UNKNOWN_USER = 10003, 10008, 10013
UNKNOWN_WEBHOOK, UNKNOWN_INTERACTION = 10015, 10062
ALREADY_ACKNOWLEDGED = 40060
MISSING_ACCESS, NOT_YOUR_MESSAGE, EMPTY_MESSAGE, MISSING_PERMISSIONS = 50001, 50005, 50006, 50013
INVALID_WEBHOOK_TOKEN, INVALID_FORM, ARCHIVED_THREAD, INVALID_JSON = 50027, 50035, 50083, 50109
NO_HISTORY_TO_REPLY = 160002

_STATUS = {UNKNOWN_CHANNEL: 404, UNKNOWN_MESSAGE: 404, UNKNOWN_USER: 404, UNKNOWN_WEBHOOK: 404}
_STATUS |= {UNKNOWN_INTERACTION: 404, INVALID_WEBHOOK_TOKEN: 401}
_STATUS |= dict.fromkeys((MISSING_ACCESS, NOT_YOUR_MESSAGE, MISSING_PERMISSIONS), 403)
_MESSAGES = {
    UNKNOWN_CHANNEL: "Unknown Channel",
    UNKNOWN_MESSAGE: "Unknown Message",
    UNKNOWN_USER: "Unknown User",
    UNKNOWN_WEBHOOK: "Unknown Webhook",
    UNKNOWN_INTERACTION: "Unknown interaction",
    ALREADY_ACKNOWLEDGED: "Interaction has already been acknowledged.",
    MISSING_ACCESS: "Missing Access",
    NOT_YOUR_MESSAGE: "Cannot edit a message authored by another user",
    EMPTY_MESSAGE: "Cannot send an empty message",
    MISSING_PERMISSIONS: "Missing Permissions",
    INVALID_WEBHOOK_TOKEN: "Invalid Webhook Token",
    INVALID_FORM: "Invalid Form Body",
    ARCHIVED_THREAD: "Thread is archived",
    INVALID_JSON: "The request body contains invalid JSON.",
    NO_HISTORY_TO_REPLY: "Cannot reply without permission to read message history",
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
    """The text that people will see: Discord trims it."""
    content = str(body.get("content") or "").strip()
    if len(content) > CONTENT_LIMIT:
        raise Refusal(INVALID_FORM, "content", f"Must be {CONTENT_LIMIT} or fewer in length.")
    if not content:
        raise Refusal(EMPTY_MESSAGE)
    return content


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


def check_command(command: Json) -> None:
    if not re.fullmatch(r"[-_\w]{1,32}", command["name"]) or command["name"] != command["name"].lower():
        raise Refusal(INVALID_FORM, "name", "Command name is invalid")
    options = command.get("options", [])
    for described in (command, *options):
        if not 1 <= len(described.get("description", "")) <= 100:
            raise Refusal(INVALID_FORM, "description", "Must be between 1 and 100 in length.")
    required = [bool(option.get("required")) for option in options]
    if len(options) > 25 or required != sorted(required, reverse=True):
        raise Refusal(INVALID_FORM, "options", "Required options come first, and there are 25 at most.")


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
