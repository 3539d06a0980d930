"""From discord.py's objects to the core's values: the only place that reads a message or a command."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import discord

from bot.chat import Attachment, Author, CommandCall, ConversationKey, IncomingMessage, Via
from bot.commands.parse import check_options
from bot.commands.table import BY_NAME

_SPOKEN = (discord.MessageType.default, discord.MessageType.reply)
_COMMANDED = (discord.MessageType.chat_input_command, discord.MessageType.context_menu_command)
_LEADING_MENTION = re.compile(r"\s*<@[!&]?\d{15,20}>")
_MARKUP = re.compile(r"<(?P<kind>@!?|@&|#)(?P<id>\d{15,20})>|<a?(?P<emoji>:\w+:)\d{15,20}>")


def read_message(
    message: discord.Message, bot: discord.ClientUser, *, reads_threads: bool
) -> IncomingMessage | None:
    """What a person said to the bot; None for programs, system messages and what is not meant for it.

    `reads_threads`: what is said in a thread counts without a mention, for Discord shows its text.
    """
    if message.author.bot or message.webhook_id is not None or message.type not in _SPOKEN:
        return None
    via = _way_to_the_bot(message, bot)
    if via is None or (via == "thread" and not reads_threads):
        return None
    answered = message.reference if message.type is discord.MessageType.reply else None
    return IncomingMessage(
        conversation=conversation_at(message.guild, message.channel),
        message_id=str(message.id),
        author=author_of(message.author),
        text=_readable(_without_leading_mention(message, bot), message.guild, message.mentions),
        created_at=message.created_at,
        via=via,
        private=via == "dm",
        reply_to=str(answered.message_id) if answered else None,
        attachments=tuple(_attachment(file) for file in message.attachments),
        category=_category(message.channel),
    )


def read_overheard(message: discord.Message, bot: discord.ClientUser) -> tuple[IncomingMessage, bool] | None:
    """What a person said in a channel, not to the bot, and whether it was meant for somebody else."""
    strange = message.author.bot or message.webhook_id is not None or message.type not in _SPOKEN
    if strange or message.guild is None or not message.content or _way_to_the_bot(message, bot) is not None:
        return None
    heard = IncomingMessage(
        conversation=conversation_at(message.guild, message.channel),
        message_id=str(message.id),
        author=author_of(message.author),
        text=_readable(message.content, message.guild, message.mentions),
        created_at=message.created_at,
        via="wake",
        category=_category(message.channel),
    )
    for_others = message.type is discord.MessageType.reply or bool(_LEADING_MENTION.match(message.content))
    return heard, for_others


def read_edit(message: discord.Message, bot: discord.ClientUser) -> str | None:
    """The new words of a message; None where only something else of it changed, such as an embed."""
    if (
        message.author.bot or message.edited_at is None or not message.content
    ):  # a text that we may not read is empty
        return None
    return _readable(_without_leading_mention(message, bot), message.guild, message.mentions)


def read_chat_command(interaction: discord.Interaction, text: str) -> IncomingMessage:
    return IncomingMessage(
        conversation=conversation_at(interaction.guild, interaction.channel),
        message_id=str(interaction.id),
        author=author_of(interaction.user),
        text=_readable(text, interaction.guild, ()),
        created_at=interaction.created_at,
        via="command",
        private=interaction.guild is None,
        token=interaction.token,
        category=_category(interaction.channel),
    )


def read_menu_question(
    interaction: discord.Interaction,
    message: discord.Message,
    request: str,
    lines: Sequence[str] | None = None,
) -> IncomingMessage | None:
    """What is asked about a message, which is quoted with its files, or about these lines; None without either."""
    quoted = lines or _readable(message.content, interaction.guild, message.mentions).split("\n")
    files = () if lines else tuple(_attachment(file) for file in message.attachments)
    if not files and not any(line.strip() for line in quoted):
        return None
    text = "\n".join([request, *(f"> {line}" for line in quoted)])
    return replace(read_chat_command(interaction, ""), text=text, attachments=files)


def read_line(message: discord.Message) -> str:
    """Who said what, in one line; empty where nothing was said."""
    if message.type not in (*_SPOKEN, *_COMMANDED) or not message.content.strip():
        return ""
    text = _readable(message.content, message.guild, message.mentions)
    return " ".join(f"{message.author.display_name}: {text}".split())


def read_command(interaction: discord.Interaction, name: str, options: Mapping[str, str]) -> CommandCall:
    """Raises nothing: what does not fit is the call's fault."""
    call = CommandCall(
        name=name,
        conversation=conversation_at(interaction.guild, interaction.channel),
        author=author_of(interaction.user),
        private=interaction.guild is None,
        options=options,
        category=_category(interaction.channel),
    )
    try:
        return replace(call, options=check_options(BY_NAME[name], options))
    except ValueError as error:
        return replace(call, fault=str(error))


def read_typing(event: discord.RawTypingEvent, guild: discord.Guild | None) -> ConversationKey:
    """Where somebody types."""
    place = guild.get_channel_or_thread(event.channel_id) if guild else None
    return conversation_at(guild, place or discord.Object(event.channel_id))


def _way_to_the_bot(message: discord.Message, bot: discord.ClientUser) -> Via | None:
    if isinstance(message.channel, discord.DMChannel):
        return "dm"
    if message.guild is None:
        return None
    if re.search(_mention_of(bot), message.content) or _bot_role(message) in message.role_mentions:
        return "mention"
    if message.type is discord.MessageType.reply and _answers_the_bot(message, bot):
        return "reply"
    return "thread" if isinstance(message.channel, discord.Thread) else None


def _answers_the_bot(message: discord.Message, bot: discord.ClientUser) -> bool:
    """Discord leaves out a message that it did not look up; the ping of the reply then tells."""
    answered = message.reference.resolved if message.reference else None
    if isinstance(answered, discord.Message):
        return answered.author.id == bot.id
    return any(user.id == bot.id for user in message.mentions)


def conversation_at(guild: discord.Guild | None, place: discord.abc.Snowflake | None) -> ConversationKey:
    """A thread has an id of its own on Discord, and belongs to a channel."""
    workspace = str(guild.id) if guild else "dm"
    if isinstance(place, discord.Thread):
        return ConversationKey("discord", workspace, str(place.parent_id), str(place.id))
    return ConversationKey("discord", workspace, str(place.id) if place else "")


def author_of(user: discord.abc.User) -> Author:
    """In a workspace, with the roles there and what Discord lets them do."""
    author = Author(id=str(user.id), name=user.display_name, is_bot=user.bot)
    if not isinstance(user, discord.Member):
        return author
    may = user.resolved_permissions or user.guild_permissions
    return replace(
        author,
        roles=tuple(str(role.id) for role in user.roles if not role.is_default()),
        manages=may.manage_guild or may.administrator,
        moderates=may.manage_messages or may.moderate_members,
    )


def _category(place: object) -> str:
    """Of the channel, or of the channel that a thread belongs to."""
    category = getattr(place, "category_id", None)
    return str(category) if category else ""


def _attachment(file: discord.Attachment) -> Attachment:
    return Attachment(file.filename, file.content_type or "", file.size, file.url)


def _mention_of(bot: discord.ClientUser) -> str:
    return rf"<@!?{bot.id}>"


def _bot_role(message: discord.Message) -> discord.Role | None:
    """Discord gives a bot a role of the same name, and offers both when people type @."""
    return message.guild.self_role if message.guild else None


def _without_leading_mention(message: discord.Message, bot: discord.ClientUser) -> str:
    role = _bot_role(message)
    mention = _mention_of(bot) + (rf"|<@&{role.id}>" if role else "")
    return re.sub(rf"^\s*(?:{mention})[,:]?", "", message.content).strip()


def _readable(text: str, guild: discord.Guild | None, mentioned: Sequence[discord.abc.User]) -> str:
    """Mentions and emoji as people see them: @names, #channels, :emoji:."""
    users = {user.id: user.display_name for user in mentioned}

    def name(markup: re.Match[str]) -> str:
        if markup["emoji"]:
            return markup["emoji"]
        kind, number = markup["kind"], int(markup["id"])
        if kind == "#":
            channel = guild and guild.get_channel_or_thread(number)
            return f"#{channel.name}" if channel else "#unknown"
        if kind == "@&":
            role = guild and guild.get_role(number)
            return f"@{role.name}" if role else "@unknown"
        member = guild and guild.get_member(number)
        return f"@{users.get(number) or (member.display_name if member else 'unknown')}"

    return _MARKUP.sub(name, text)
