"""What a call to Discord that failed means for delivery, with a sentence that names the place."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import discord

from bot.delivery.courier import InDoubt, NotApplied, Refused
from bot.errors import DeliveryFailed

UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
GARBLED = (AttributeError, LookupError, TypeError, ValueError, RuntimeError)
"""What discord.py raises for a body that is not what it expects, or when its session closes under a request."""
UNKNOWN_CHANNEL, UNKNOWN_MESSAGE = 10003, 10008
TOKEN_GONE = (10015, 10062, 50027)
NOT_ALLOWED = (50001, 50013, 160002)
THREAD_EXISTS = 160004
LIMITED, TIMED_OUT = 429, 408
LIBRARY_PAUSE = 0.9
"""discord.py repeats a request after a server's error, a second later at the earliest."""


class NotAllowed(Refused):
    """The bot lacks permissions there."""


@contextmanager
def judging(place: str) -> Iterator[None]:
    """Turn everything that discord.py and aiohttp raise into one of the courier's three errors."""
    try:
        yield
    except discord.RateLimited as error:
        raise NotApplied(f"Discord limits what I may do in {place}.", error.retry_after) from error
    except discord.HTTPException as error:
        raise _judged(error, place) from error
    except discord.DiscordException as error:
        raise Refused(f"Discord's {place} is nothing that I can use: {error}") from error
    except NEVER_CONNECTED as error:
        raise NotApplied(_unreachable(error, place)) from error
    except UNREACHABLE as error:
        raise InDoubt(_unreachable(error, place)) from error
    except GARBLED as error:
        raise InDoubt(f"Discord's answer for {place} could not be read: {error!r}") from error


@contextmanager
def judging_post(place: str) -> Iterator[None]:
    """As `judging`, for what must not be done twice: a late refusal may follow a try that was applied."""
    began = time.monotonic()
    try:
        with judging(place):
            yield
    except (NotApplied, Refused) as error:
        if time.monotonic() - began < LIBRARY_PAUSE:
            raise
        raise InDoubt(str(error)) from error


def seconds_to_wait(response: object) -> float:
    """What a 429 asks for; a second where it does not say."""
    headers = getattr(response, "headers", {})
    try:
        return float(headers.get("Retry-After", 1.0))
    except ValueError:
        return 1.0


def _judged(error: discord.HTTPException, place: str) -> DeliveryFailed:
    sentence = _sentence(error, place)
    if error.status == LIMITED:
        return NotApplied(sentence, seconds_to_wait(error.response))
    if error.code in NOT_ALLOWED:
        return NotAllowed(sentence)
    if 400 <= error.status < 500 and error.status != TIMED_OUT:
        return Refused(sentence)
    return InDoubt(sentence)


def _sentence(error: discord.HTTPException, place: str) -> str:
    if error.code in NOT_ALLOWED:
        return (
            f"I may not write in {place}: my role needs View Channel, Send Messages (also in threads) "
            f"and Read Message History there (Discord's code {error.code})."
        )
    if error.code == UNKNOWN_CHANNEL:
        return f"I could not answer in {place}: it is gone (Discord's code {error.code})."
    if error.code == UNKNOWN_MESSAGE:
        return f"My answer in {place} was deleted before its end (Discord's code {error.code})."
    # Without a code it is a proxy that speaks, in HTML.
    reason = error.text.replace("\n", " ") if error.code else error.response.reason
    return f"Discord did not take my message for {place}: {reason} (HTTP {error.status}, code {error.code})."


def _unreachable(error: Exception, place: str) -> str:
    return f"Discord could not be reached for {place}: {str(error) or type(error).__name__}"
