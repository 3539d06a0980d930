"""From a message's attachments to their text: fetched from the platform, each read in a process of its own.

A file may be made to run for ever or to fill the memory. A thread could not be ended, and holds up the event loop
while it works; a pool would give a hostile file's process to the next one. A fresh interpreter takes a fifth of a
second, knows no token, and is simply killed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from bot.attachments.reading import find_refusal
from bot.attachments.values import MOST_BYTES, AttachmentText, Note, safe_name
from bot.chat import Attachment, Fetch, PlatformName
from bot.errors import DeliveryFailed

log = structlog.get_logger()

READ_SECONDS = 20.0
MOST_FILES = 5
"""Of one message."""
_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What an interpreter may need of ours."""


class AttachmentReader:
    """Reads the attachments of any message, `at_once` files at a time. `fetches` brings them, platform by platform."""

    def __init__(
        self, fetches: Mapping[PlatformName, Fetch], *, at_once: int = 4, seconds: float = READ_SECONDS
    ) -> None:
        self._fetches = fetches
        self._seconds = seconds
        self._turn = asyncio.Semaphore(at_once)

    async def read(
        self, platform: PlatformName, attachments: Sequence[Attachment]
    ) -> tuple[AttachmentText, ...]:
        """One for each, in order; where there is no text, a note says why. Never raises for what a file does."""
        read = [self._read(platform, attachment) for attachment in attachments[:MOST_FILES]]
        left_out = [
            _unread(
                attachment.name,
                f"was left out: only {MOST_FILES} files of a message are read",
                f"没有读：一条消息只读 {MOST_FILES} 个文件",
            )
            for attachment in attachments[MOST_FILES:]
        ]
        return (*await asyncio.gather(*read), *left_out)

    async def _read(self, platform: PlatformName, attachment: Attachment) -> AttachmentText:
        name = safe_name(attachment.name)
        refusal = find_refusal(name, attachment.media_type)
        if refusal is not None:
            return AttachmentText(name, notes=(refusal,))
        if attachment.size > MOST_BYTES:
            return _too_large(name)
        fetch = self._fetches.get(platform)
        if fetch is None:
            return _unread(name, "cannot be fetched from here", "在这里取不到")
        async with self._turn:
            try:
                data = await fetch(attachment, MOST_BYTES)
            except DeliveryFailed as error:
                log.warning("an attachment could not be fetched", name=name, reason=str(error))
                reason = str(error).rstrip(".")
                return AttachmentText(name, notes=(Note(reason, f"{name} 取不到（{reason}）"),))
            if len(data) > MOST_BYTES:
                return _too_large(name)
            return await read_in_child(name, attachment.media_type, data, seconds=self._seconds)


async def read_in_child(
    name: str, media_type: str, data: bytes, *, seconds: float = READ_SECONDS
) -> AttachmentText:
    """What `read_attachment` reads of it, or a note that it took too long or broke the process."""
    request = json.dumps({"name": name, "media_type": media_type}).encode() + b"\n" + data
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "bot.attachments.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:  # the machine has no room for a process
        log.error("no process could be begun to read a file", name=name, reason=str(error))
        return _unread(name, "cannot be read at the moment", "暂时读不了")
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await process.communicate(request)
    except TimeoutError:
        return _unread(
            name, f"takes longer than {seconds:g} seconds to read", f"读了 {seconds:g} 秒还没有读完，只好放弃"
        )
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode != 0:
        log.warning("a file ended the process that read it", name=name, exit_code=process.returncode)
        return _unread(name, "is damaged, or takes too much memory", "已损坏或太占内存，读不了")
    read = json.loads(answer)
    return AttachmentText(**read | {"notes": tuple(Note(**note) for note in read["notes"])})


def _environment() -> dict[str, str]:
    """Our modules, and none of our tokens."""
    kept = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


def _too_large(name: str) -> AttachmentText:
    most = f"{MOST_BYTES / 2**20:.0f} MB"
    return _unread(name, f"is larger than {most}", f"超过 {most}，没有读")


def _unread(name: str, english: str, chinese: str) -> AttachmentText:
    name = safe_name(name)
    return AttachmentText(name, notes=(Note(f"{name} {english}", f"{name} {chinese}"),))
