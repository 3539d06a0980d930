"""The first calls to Slack: who the bot is, and where its socket is. Refused tokens become sentences."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.errors import PlatformRefused
from bot.platforms.slack_api import SlackApi, error_code, reason, refusal

log = structlog.get_logger()

SCOPES = frozenset(
    {
        "app_mentions:read",
        "channels:history",
        "chat:write",
        "commands",
        "files:read",
        "groups:history",
        "im:history",
        "reactions:read",
        "users:read",
    }
)
"""What the bot token must be allowed; slack_manifest.yaml asks for the same."""
HOW_TO_GET = {
    "SLACK_BOT_TOKEN": "It is the Bot User OAuth Token, xoxb-..., under OAuth & Permissions of your Slack app",
    "SLACK_APP_TOKEN": "It is an app-level token, xapp-..., with the scope connections:write, "
    "under Basic Information of your Slack app",
}
_PASSING = {"fatal_error", "internal_error", "ratelimited", "request_timeout", "service_unavailable"}
_LONGEST_PAUSE = 60.0
"""Seconds between two tries while Slack cannot be reached."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The workspace that the bot token belongs to, and who the bot is there."""

    team: str
    bot_user: str
    bot_id: str


async def log_in(api: SlackApi) -> Workspace:
    """Raises `PlatformRefused` for a refused token, a token that is not a bot's, or missing scopes."""
    answer = await _patiently(api.calling.auth_test, "SLACK_BOT_TOKEN")
    if not answer.get("bot_id"):
        raise PlatformRefused(
            f"SLACK_BOT_TOKEN belongs to a person, not to a bot. {HOW_TO_GET['SLACK_BOT_TOKEN']}."
        )
    granted = answer.headers.get("x-oauth-scopes")
    missing = SCOPES - {scope.strip() for scope in granted.split(",")} if granted else set()
    if missing:
        raise PlatformRefused(
            f"The token in SLACK_BOT_TOKEN lacks the scope {', '.join(sorted(missing))}. "
            "Bring your Slack app up to slack_manifest.yaml, and install it to the workspace again."
        )
    return Workspace(str(answer["team_id"]), str(answer["user_id"]), str(answer["bot_id"]))


async def open_socket_url(api: SlackApi, app_token: str) -> str:
    """Where the socket is: an address that is good for one connection. Raises `PlatformRefused`."""

    async def ask() -> AsyncSlackResponse:
        return await api.calling.apps_connections_open(app_token=app_token)

    return str((await _patiently(ask, "SLACK_APP_TOKEN"))["url"])


async def _patiently(call: Callable[[], Awaitable[Answer]], token: str) -> Answer:
    """Try until Slack answers. A network that is away is waited for; only Slack's own no is an end."""
    pause = 1.0
    while True:
        try:
            return await call()
        except SlackApiError as error:
            if error_code(error) not in _PASSING and not error_code(error).startswith("HTTP 5"):
                sentence = f"Slack refused {token}: {refusal(error)}. {HOW_TO_GET[token]}."
                raise PlatformRefused(sentence) from error
            cause = error_code(error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = reason(error)
        log.warning("Slack cannot be reached, trying again", cause=cause, seconds=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
