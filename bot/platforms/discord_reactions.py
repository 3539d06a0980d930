"""Thumbs under Parley's answers on Discord: what somebody thinks of them."""

from datetime import UTC, datetime

import discord

from bot.actions import Presser
from bot.chat import Author
from bot.platforms.discord_incoming import author_of, conversation_at
from bot.pointing import Pointing
from storage.tables import Rating

_RATINGS: dict[str, Rating] = {"👍": "up", "👎": "down"}


async def take_reaction(
    event: discord.RawReactionActionEvent, client: discord.Client, pointing: Pointing
) -> None:
    """A thumb of any colour under a message of ours; every other reaction is left alone."""
    rating = _RATINGS.get(event.emoji.name[:1]) if event.emoji.is_unicode_emoji() else None
    assert client.user is not None
    if rating is None or event.user_id == client.user.id:
        return
    if event.message_author_id not in (None, client.user.id):
        return
    author = await _author_of(event, client)
    if author.is_bot:
        return
    guild = client.get_guild(event.guild_id) if event.guild_id else None
    place = guild.get_channel_or_thread(event.channel_id) if guild else None
    presser = Presser(
        conversation=conversation_at(guild, place or discord.Object(event.channel_id)),
        author=author,
        press_id=str(event.message_id),
        at=datetime.now(UTC),
        private=guild is None,
    )
    await pointing.react(presser, str(event.message_id), rating)


async def _author_of(event: discord.RawReactionActionEvent, client: discord.Client) -> Author:
    """In a direct message the event names nobody."""
    if event.member is not None:
        return author_of(event.member)
    return author_of(client.get_user(event.user_id) or await client.fetch_user(event.user_id))
