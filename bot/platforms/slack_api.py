"""Calls to Slack's Web API: when they are repeated, how fast they go, and what their errors say."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from bot.delivery.courier import InDoubt, NotApplied, Refused

TIMEOUT = aiohttp.ClientTimeout(total=30)
EDITS_A_MINUTE, EDITS_AT_ONCE = 40, 10
"""Slack allows an app about fifty `chat.update` a minute in a workspace, for all its replies together."""
NOBODY_KNOWS = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
"""Slack's words for a call that failed at some point, perhaps after it took effect."""
LIMITED = frozenset({"ratelimited", "rate_limited"})
GARBLED = (AttributeError, TypeError, ValueError)
"""What the library raises for a body that is not the JSON that it expects."""


class Pace:
    """Lets the first few through at once and the others one by one, in order, so that Slack need not say 429."""

    def __init__(self, *, a_minute: float, at_once: int) -> None:
        self._seconds = 60 / a_minute
        self._burst = self._seconds * (at_once - 1)
        self._next = 0.0

    async def turn(self) -> None:
        await asyncio.sleep(self.reserve())

    def reserve(self) -> float:
        """Take the next turn; the seconds until then."""
        now = asyncio.get_running_loop().time()
        turn = max(self._next, now - self._burst)
        self._next = turn + self._seconds
        return max(turn - now, 0)

    def take_if_free(self, keep: float = 1 / 3) -> bool:
        """Take a turn, but only one that need not be waited for and leaves `keep` of the first few to others."""
        now = asyncio.get_running_loop().time()
        turn = max(self._next, now - self._burst)
        if now - turn < keep * (self._burst + self._seconds):
            return False
        self._next = turn + self._seconds
        return True


@dataclass(frozen=True, slots=True)
class SlackApi:
    """The bot's clients. `calling` repeats what failed; `once` tries each call once: repeated, it would be said twice.

    `once` also takes a new connection each time: a kept one may break under the request, and nobody knows what came
    of it.
    """

    calling: AsyncWebClient
    once: AsyncWebClient
    edits: Pace = field(default_factory=lambda: Pace(a_minute=EDITS_A_MINUTE, at_once=EDITS_AT_ONCE))


def open_api(token: str, url: str, session: aiohttp.ClientSession) -> SlackApi:
    logger = logging.getLogger("slack_sdk")
    repeating = [wait_when_limited(), AsyncConnectionErrorRetryHandler()]
    calling = AsyncWebClient(token, url, session=session, logger=logger, retry_handlers=repeating)
    once = AsyncWebClient(token, url, logger=logger, retry_handlers=[])
    return SlackApi(calling, once)


def wait_when_limited() -> AsyncRetryHandler:
    """Waits as long as Slack's Retry-After says. A request that got 429 did not take effect."""
    return AsyncRateLimitErrorRetryHandler(max_retry_count=5)


@contextmanager
def judging(what: str) -> Iterator[None]:
    """Turns every way in which Slack can fail into what is known of the call: not applied, refused, or in doubt."""
    try:
        yield
    except SlackApiError as error:
        sentence = f"Slack refused {what}: {refusal(error)}."
        raise judge(error_code(error), _status(error), error.response.headers, sentence) from error
    except aiohttp.ClientConnectorError as error:
        raise NotApplied(f"Slack could not be reached for {what}: {reason(error)}.") from error
    except (aiohttp.ClientError, TimeoutError, OSError, *GARBLED) as error:
        raise InDoubt(f"Slack could not be reached for {what}: {reason(error)}.") from error


def judge(
    code: str, status: int, headers: Mapping[str, str], sentence: str
) -> NotApplied | Refused | InDoubt:
    """What an answer other than yes says of a call. A body that says nothing leaves it in doubt."""
    if status == 429 or code in LIMITED:
        return NotApplied(sentence, _seconds(headers.get("Retry-After", "1")))
    if code in NOBODY_KNOWS or status >= 500 or code == "HTTP 200":
        return InDoubt(sentence)
    return Refused(sentence)


def error_code(error: SlackApiError) -> str:
    """Slack's word for it, such as `invalid_auth`; the HTTP status where there is none."""
    data = getattr(error.response, "data", None)
    if isinstance(data, dict) and "error" in data:
        return str(data["error"])
    return f"HTTP {_status(error) or 'no status'}"


def refusal(error: SlackApiError) -> str:
    """The code, and the scope where one is missing."""
    code = error_code(error)
    needed = error.response.get("needed") if code == "missing_scope" else None
    return f"{code}, the app needs the scope {needed}" if needed else code


def reason(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()


def _status(error: SlackApiError) -> int:
    """The library hands over its own answer, or aiohttp's where it could not read the body."""
    response = error.response
    return int(getattr(response, "status_code", None) or getattr(response, "status", None) or 0)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
