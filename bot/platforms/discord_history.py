"""What stands in Discord's channels: the bot's own messages, and questions that no event told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import discord

from bot.chat import ConversationKey, IncomingMessage
from bot.delivery.courier import HistoryPage, Post
from bot.platforms.discord_incoming import conversation_at, read_message

PER_PAGE = 100

Readable = discord.TextChannel | discord.VoiceChannel | discord.StageChannel | discord.Thread
Place = tuple[ConversationKey, bool, str]
"""A conversation, whether it is private, and the id to begin after."""
NEW = timedelta(days=1)
"""A place this young may have begun while nobody listened: it is read from its begin."""


async def find_own(channel: discord.abc.Messageable, bot: discord.abc.Snowflake, post: Post) -> str | None:
    """The id of the message that `post` became. Its text may be another by now: a preview, or a final edit."""
    after = discord.Object(int(post.previous or post.question.message_id))
    async for message in channel.history(after=after, limit=None, oldest_first=True):
        if message.author.id != bot.id or message.flags.loading or message.flags.silent:  # or a notice
            continue
        if post.nonce == message.nonce or _is_it(message, post):
            return str(message.id)
        if post.part and _belongs_elsewhere(message, post):
            return None
    return None


async def is_answered(
    channel: discord.abc.Messageable, bot: discord.abc.Snowflake, question: IncomingMessage
) -> bool:
    """Whether a message of the bot's replies to the question, or came of it if it was a command."""
    async for message in channel.history(after=discord.Object(int(question.message_id)), limit=None):
        command, reference = message.interaction_metadata, message.reference
        asked = command.id if command is not None else reference.message_id if reference is not None else None
        if message.author.id == bot.id and not message.flags.loading and str(asked) == question.message_id:
            return True
    return False


async def read_page(
    channel: discord.abc.Messageable, bot: discord.ClientUser, after: str, *, reads_threads: bool
) -> HistoryPage:
    """The next messages after `after`, without those that the bot answers on the same page."""
    history = channel.history(after=discord.Object(int(after)), limit=PER_PAGE, oldest_first=True)
    page = [message async for message in history]
    answered = {m.reference.message_id for m in page if m.author.id == bot.id and m.reference}
    open_ones = (message for message in page if message.id not in answered)
    read = (read_message(message, bot, reads_threads=reads_threads) for message in open_ones)
    upto = str(page[-1].id) if page else after
    return HistoryPage([said for said in read if said is not None], upto, more=len(page) == PER_PAGE)


def list_places(client: discord.Client) -> list[Place]:
    """Every channel and active thread of a workspace that the bot can read."""
    return [place for guild in client.guilds for place in _places_in(guild)]


def _places_in(guild: discord.Guild) -> Iterator[Place]:
    channels: list[Readable] = [*guild.text_channels, *guild.voice_channels, *guild.stage_channels]
    threads = (thread for thread in guild.threads if thread.parent is not None)
    for channel in (*channels, *threads):
        allowed = channel.permissions_for(guild.me)
        if allowed.view_channel and allowed.read_message_history:
            yield conversation_at(guild, channel), False, str(_begin_of(channel))


def _begin_of(channel: Readable) -> int:
    if datetime.now(UTC) - discord.utils.snowflake_time(channel.id) < NEW:
        return channel.id
    return channel.last_message_id or channel.id


def _is_it(message: discord.Message, post: Post) -> bool:
    """One answer at a time is under way in a conversation, so what follows its last part is its next one.

    Where there is no last part, and nothing says which question it answers, only the text tells.
    """
    command, reference = message.interaction_metadata, message.reference
    if command is not None:
        follows = command.original_response_message_id is not None
        return str(command.id) == post.question.message_id and follows == (post.part > 0)
    if reference is not None:
        return post.part == 0 and str(reference.message_id) == post.question.message_id
    return (post.part > 0 and post.previous is not None) or message.content == post.text.strip()


def _belongs_elsewhere(message: discord.Message, post: Post) -> bool:
    """The next answer begins here: what comes after it is no part of this one."""
    reference = message.reference if message.interaction_metadata is None else None
    return reference is not None and str(reference.message_id) != post.question.message_id
