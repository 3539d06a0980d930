"""Files that people attach on Discord. Its file server asks for no token: the address itself is signed."""

from functools import partial

from yarl import URL

from bot.chat import Fetch
from bot.platforms.web_files import download


def fetch_from_discord(cdn_url: str) -> Fetch:
    return partial(download, origins=[URL(cdn_url).origin()], where="Discord")
