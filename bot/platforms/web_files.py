"""Downloads one file from the platform's own servers, and from nowhere else. Knows neither Discord nor Slack."""

from collections.abc import Collection, Mapping

import aiohttp
from yarl import URL

from bot.attachments.values import safe_name
from bot.chat import Attachment
from bot.errors import DeliveryFailed

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
MOST_REDIRECTS = 3
_PIECE = 2**16


async def download(
    attachment: Attachment,
    limit: int,
    *,
    origins: Collection[URL],
    headers: Mapping[str, str] | None = None,
    where: str,
) -> bytes:
    """The file, if it has at most `limit` bytes. Raises `DeliveryFailed`, with the sentence for a person.

    `headers` go to `origins` (scheme, host and port) alone, for each step of a redirect is checked, too.
    """
    name = safe_name(attachment.name)
    try:
        url = URL(attachment.url)
        async with aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
            for step in range(MOST_REDIRECTS + 1):
                if not url.absolute or url.origin() not in origins:
                    fault = (
                        f"could not be fetched: {where} sends elsewhere for it"
                        if step
                        else f"is not kept by {where}"
                    )
                    raise DeliveryFailed(f"{name} {fault}, and files from elsewhere are not fetched.")
                async with session.get(
                    url, headers={"Accept-Encoding": "identity", **(headers or {})}, allow_redirects=False
                ) as response:
                    if response.status in (301, 302, 303, 307, 308) and "Location" in response.headers:
                        url = url.join(URL(response.headers["Location"]))
                        continue
                    return await _read(attachment, response, limit, where)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".strip().replace(attachment.url, "its address")
        raise DeliveryFailed(f"{name} could not be fetched from {where}: {reason}.") from error
    raise DeliveryFailed(f"{name} could not be fetched from {where}: it leads from one address to another.")


async def _read(attachment: Attachment, response: aiohttp.ClientResponse, limit: int, where: str) -> bytes:
    name = safe_name(attachment.name)
    if response.status != 200:
        raise DeliveryFailed(f"{name} could not be fetched from {where}: HTTP {response.status}.")
    page = response.content_type == "text/html" and not attachment.media_type.startswith("text/html")
    if page and not name.lower().endswith((".html", ".htm")):  # Slack's login, for those without the right
        raise DeliveryFailed(f"{name} could not be fetched from {where}: a web page came in its place.")
    data = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        data += piece
        if len(data) > limit:
            raise DeliveryFailed(f"{name} is larger than {limit / 2**20:g} MB.")
    return bytes(data)
