"""Attachments on Discord: what a message says of them, and how they are fetched."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import discord as library
import pytest

from bot.chat import Attachment, IncomingMessage
from bot.errors import DeliveryFailed
from bot.platforms.discord_files import fetch_from_discord
from bot.platforms.discord_incoming import read_message
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import Message
from tests.fakes.files import File

LIMIT = 2**20


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


async def attached(discord: FakeDiscord, *files: File) -> tuple[Attachment, ...]:
    """What Parley reads of a direct message with these files."""
    anna = discord.add_user("Anna")
    message = await discord.say(discord.add_dm(anna), anna, "", files=files)
    read = await read_as_direct(discord, message)
    assert read is not None
    return read.attachments


async def read_as_direct(discord: FakeDiscord, message: Message) -> IncomingMessage | None:
    client = library.Client(intents=library.Intents.none())
    state: Any = client._connection
    bot = library.ClientUser(state=state, data=discord.bot.wire())  # type: ignore[arg-type]
    place: Any = message.channel.wire()
    channel = library.DMChannel(me=bot, state=state, data=place)
    data: Any = message.event_wire(discord.bot, message_content=False)
    return read_message(library.Message(state=state, channel=channel, data=data), bot, reads_threads=False)


async def refused(discord: FakeDiscord, attachment: Attachment, limit: int = LIMIT) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        await fetch_from_discord(discord.cdn_url)(attachment, limit)
    return str(caught.value)


async def test_the_files_of_a_message_are_told_with_their_names_types_and_sizes(discord: FakeDiscord) -> None:
    files = await attached(
        discord, File("笔记.md", b"# hi", "text/markdown; charset=utf-8"), File("a.bin", b"", "")
    )
    assert [(file.name, file.media_type, file.size) for file in files] == [
        ("笔记.md", "text/markdown; charset=utf-8", 4),
        ("a.bin", "", 0),
    ]


async def test_a_message_without_files_has_no_attachments(discord: FakeDiscord) -> None:
    assert await attached(discord) == ()


async def test_a_file_is_fetched_by_its_signed_address_and_without_a_token(discord: FakeDiscord) -> None:
    [file] = await attached(discord, File("笔记.md", b"# hi"))
    assert await fetch_from_discord(discord.cdn_url)(file, LIMIT) == b"# hi"
    [headers] = discord.shelf.asked
    assert "Authorization" not in headers
    assert "?ex=" in file.url
    assert "?ex=" not in repr(file)


async def test_a_file_that_is_just_as_large_as_allowed_is_fetched_and_one_byte_more_is_not(
    discord: FakeDiscord,
) -> None:
    fits, larger = await attached(discord, File("a.txt", b"x" * LIMIT), File("b.txt", b"x" * (LIMIT + 1)))
    assert len(await fetch_from_discord(discord.cdn_url)(fits, LIMIT)) == LIMIT
    assert await refused(discord, larger) == "b.txt is larger than 1 MB."


async def test_a_packed_answer_counts_unpacked(discord: FakeDiscord) -> None:
    discord.shelf.packs = True
    [file] = await attached(discord, File("bomb.txt", b"x" * 10_000_000))
    assert "larger" in await refused(discord, replace(file, size=10))


async def test_a_file_that_is_gone_is_named_with_what_discord_says(discord: FakeDiscord) -> None:
    [file] = await attached(discord, File("a.txt", b"words"))
    discord.shelf.files.clear()
    assert await refused(discord, file) == "a.txt could not be fetched from Discord: HTTP 404."


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://cdn.discordapp.com.evil.example/a.txt",
        "https://cdn.discordapp.com@evil.example/a.txt",
        "http://cdn.discordapp.com/a.txt",
        "https://cdn.discordapp.com:8443/a.txt",
        "file:///etc/passwd",
        "/etc/passwd",
        "http://[",
        "",
    ],
)
async def test_nothing_is_fetched_from_anywhere_but_discords_file_server(url: str) -> None:
    with pytest.raises(DeliveryFailed):
        await fetch_from_discord("https://cdn.discordapp.com")(Attachment("a.txt", "", 1, url), LIMIT)


async def test_a_redirect_is_followed_on_the_same_host_and_nowhere_else(discord: FakeDiscord) -> None:
    there, here, round_about = await attached(
        discord, File("a.txt", b"words"), File("b.txt", b""), File("c.txt", b"")
    )
    numbers = list(discord.shelf.files)
    async with FakeDiscord() as elsewhere:
        discord.shelf.moved = {
            numbers[0]: f"{elsewhere.cdn_url}/attachments/1/1/a.txt",
            numbers[2]: round_about.url,
        }
        assert await refused(discord, there) == (
            "a.txt could not be fetched: Discord sends elsewhere for it, and files from elsewhere are not fetched."
        )
        assert elsewhere.shelf.asked == []
    assert "from one address to another" in await refused(discord, round_about)
    discord.shelf.moved = {numbers[0]: here.url}
    assert await fetch_from_discord(discord.cdn_url)(there, LIMIT) == b""


async def test_a_server_that_is_away_is_named_as_such() -> None:
    async with FakeDiscord() as discord:
        [file] = await attached(discord, File("a.txt", b"words"))
        url = discord.cdn_url
    with pytest.raises(DeliveryFailed, match=r"a\.txt could not be fetched from Discord: ") as caught:
        await fetch_from_discord(url)(file, LIMIT)
    assert "?ex=" not in str(caught.value)
