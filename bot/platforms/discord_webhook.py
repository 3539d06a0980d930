"""A slash command's own webhook, by its token. Each call is one try: discord.py's would repeat a follow-up."""

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import discord
from discord.http import Route, json_or_text

NO_EMBEDS = 1 << 2

Components = Sequence[Mapping[str, Any]]
"""Action rows, as Discord's documentation has them."""


class InteractionWebhook:
    """Raises what discord.py raises for an answer that is an error, and what aiohttp raises for none."""

    def __init__(self, client: discord.Client, token: str) -> None:
        self._client = client
        self._token = token

    async def respond(self, text: str, rows: Components) -> str:
        """Fill the response that the acknowledgement began; the message's id. It may be repeated."""
        return await self.edit("@original", text, rows)

    async def follow_up(self, text: str, rows: Components) -> str:
        return str((await self._call("POST", "?wait=true", text, rows))["id"])

    async def edit(self, message_id: str, text: str, rows: Components) -> str:
        return str((await self._call("PATCH", f"/messages/{message_id}", text, rows))["id"])

    async def delete(self, message_id: str) -> str:
        await self._call("DELETE", f"/messages/{message_id}")
        return message_id

    async def _call(self, method: str, path: str, text: str | None = None, rows: Components = ()) -> Any:
        url = f"{Route.BASE}/webhooks/{self._client.application_id}/{self._token}{path}"
        body: dict[str, Any] = {"content": text, "allowed_mentions": {"parse": []}, "flags": NO_EMBEDS}
        body["components"] = list(rows)
        http = self._client.http
        async with _session(http).request(
            method, url, json=None if text is None else body, proxy=http.proxy, proxy_auth=http.proxy_auth
        ) as response:
            data = await json_or_text(response)
            if not 200 <= response.status < 300:
                raise discord.HTTPException(response, data)
            return data


def _session(http: discord.http.HTTPClient) -> aiohttp.ClientSession:
    """discord.py takes this way, too, for the webhooks of its interactions."""
    session: aiohttp.ClientSession = http._HTTPClient__session  # type: ignore[attr-defined]
    return session
