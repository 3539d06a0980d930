"""Files that people attach in the fake Discord and the fake Slack, and how they are handed over."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class File:
    name: str
    data: bytes
    media_type: str = "text/plain"


@dataclass
class Shelf:
    """The files of one fake, by number. `asked` holds the headers of every request for one."""

    files: dict[int, File] = field(default_factory=dict)
    asked: list[Mapping[str, str]] = field(default_factory=list)
    moved: dict[int, str] = field(default_factory=dict)
    """Files that are to be found at another address."""
    packs: bool = False
    """Whether answers are packed, although nobody asked for it."""

    def add(self, number: int, file: File) -> None:
        self.files[number] = file

    async def hand_over(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        self.asked.append(dict(request.headers))
        if number in self.moved:
            return web.Response(status=302, headers={"Location": self.moved[number]})
        if number not in self.files:
            return web.Response(status=404)
        file = self.files[number]
        headers = {"Content-Type": file.media_type or "application/octet-stream"}
        if self.packs:
            return web.Response(
                body=gzip.compress(file.data), headers={**headers, "Content-Encoding": "gzip"}
            )
        return web.Response(body=file.data, headers=headers)
