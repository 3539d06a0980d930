"""How fast we call Discord: below its limit for a whole bot, with previews left out before anything else waits."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import aiohttp

from bot.platforms.discord_errors import LIMITED, seconds_to_wait

A_SECOND, AT_ONCE = 35.0, 10
"""Discord allows a bot 50 requests a second. A full bucket and a second's refill are 45 together."""
EVERYWHERE = ""


class Limiter:
    """A bucket of turns for all calls together, and a note of the channels in which Discord said 429."""

    def __init__(
        self,
        *,
        a_second: float = A_SECOND,
        at_once: int = AT_ONCE,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._now, self._sleep = now, sleep
        self._left, self._counted_at = float(at_once), now()
        self._limited_until: dict[str, float] = {}

    async def turn(self) -> None:
        """Wait for the next turn. Those who wait get theirs in the order in which they came."""
        self._refill()
        self._left -= 1
        if self._left < 0:
            await self._sleep(-self._left / self._a_second)

    def take_if_free(self, share: float = 1 / 3) -> bool:
        """Take a turn for something that may be left out, where more than `share` of the bucket is full."""
        self._refill()
        if self._left <= max(share * self._at_once, 1):
            return False
        self._left -= 1
        return True

    def note_limit(self, channel: str, seconds: float) -> None:
        """Discord said 429 in this channel, or `EVERYWHERE`."""
        now = self._now()
        self._limited_until = {key: until for key, until in self._limited_until.items() if until > now}
        self._limited_until[channel] = max(self._limited_until.get(channel, 0.0), now + seconds)

    def seconds_limited(self, channel: str) -> float:
        """How long Discord wants to hear nothing for this channel."""
        until = max(self._limited_until.get(channel, 0.0), self._limited_until.get(EVERYWHERE, 0.0))
        return max(until - self._now(), 0.0)

    def trace(self) -> aiohttp.TraceConfig:
        """For `discord.Client(http_trace=...)`: tells of the 429s that discord.py sits out by itself."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._hear)
        return config

    async def _hear(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, ended: aiohttp.TraceRequestEndParams
    ) -> None:
        if ended.response.status == LIMITED:
            found = re.search(r"/channels/(\d+)", ended.url.path)
            known = found is not None and "X-RateLimit-Global" not in ended.response.headers
            self.note_limit(found[1] if found and known else EVERYWHERE, seconds_to_wait(ended.response))

    def _refill(self) -> None:
        now = self._now()
        self._left = min(self._left + (now - self._counted_at) * self._a_second, float(self._at_once))
        self._counted_at = now
