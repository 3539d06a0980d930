"""The menu of a message on Discord (Apps): explain, translate, summarise from here, ask again, report."""

import discord
from discord import app_commands

from bot.chat import IncomingMessage
from bot.delivery.desk import Delivery
from bot.errors import DeliveryFailed
from bot.platforms.discord_commands import (
    CHINESE_LOCALES,
    LONGEST_QUESTION,
    SECONDS_TO_ACKNOWLEDGE,
    CommandTree,
    place_name,
    show_privately,
    words,
)
from bot.platforms.discord_errors import judging
from bot.platforms.discord_incoming import read_line, read_menu_question
from bot.platforms.discord_presses import LONGEST_REASON, presser_of, typed
from bot.pointing import NOT_STORED, Pointing

MOST_SUMMARISED = 50
REPORTED = "parley-report"
NOTHING_TO_READ = "There is nothing in this message that I could read."
CANNOT_READ = (
    "I cannot read what others say here, so I cannot summarise it: whoever runs me would have to switch on "
    "Message Content (PARLEY_DISCORD_MESSAGE_CONTENT)."
)


def add_menus(tree: CommandTree, *, delivery: Delivery, pointing: Pointing, message_content: bool) -> None:
    async def ask_about(interaction: discord.Interaction, message: discord.Message, request: str) -> None:
        asked = read_menu_question(interaction, message, request)
        if asked is None:
            await interaction.response.send_message(NOTHING_TO_READ, ephemeral=True)
            return
        await delivery.receive(asked, rest_seconds=SECONDS_TO_ACKNOWLEDGE)
        await interaction.response.defer(thinking=True)
        await delivery.acknowledged(asked)

    async def explain(interaction: discord.Interaction, message: discord.Message) -> None:
        request = "请解释这条消息：" if _is_chinese(interaction) else "Please explain this message:"
        await ask_about(interaction, message, request)

    async def translate(interaction: discord.Interaction, message: discord.Message) -> None:
        await ask_about(interaction, message, _request_translation(interaction.locale))

    async def summarise(interaction: discord.Interaction, message: discord.Message) -> None:
        """Acknowledged first, for reading may take longer than Discord waits."""
        if interaction.guild is not None and not message_content:
            await interaction.response.send_message(CANNOT_READ, ephemeral=True)
            return
        await interaction.response.defer(thinking=True)
        try:
            with judging(place_name(interaction)):
                lines = await _read_from(message)
        except DeliveryFailed as error:
            await show_privately(interaction, str(error))
            return
        asked = _request_summary(interaction, message, lines)
        if asked is None:
            await show_privately(interaction, NOTHING_TO_READ)
        else:
            await delivery.receive(asked)

    async def ask_again(interaction: discord.Interaction, message: discord.Message) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        await show_privately(interaction, await pointing.ask_again(presser_of(interaction), str(message.id)))

    async def report(interaction: discord.Interaction, message: discord.Message) -> None:
        if await pointing.is_stored(presser_of(interaction), str(message.id)):
            await interaction.response.send_modal(_ask_why(message))
        else:
            await interaction.response.send_message(NOT_STORED, ephemeral=True)

    for name, chinese, does in (
        ("Explain", "解释", explain),
        ("Translate", "翻译", translate),
        ("Summarise from here", "从这里开始总结", summarise),
        ("Ask again", "再答一次", ask_again),
        ("Report", "举报", report),
    ):
        tree.add_command(app_commands.ContextMenu(name=words(name, chinese), callback=does))


async def take_report(interaction: discord.Interaction, pointing: Pointing) -> None:
    """The form of a report; everything else is left alone."""
    data = dict(interaction.data or {})
    kind, _, message_id = str(data.get("custom_id", "")).partition(":")
    if interaction.type is not discord.InteractionType.modal_submit or kind != REPORTED:
        return
    await interaction.response.defer(ephemeral=True, thinking=True)
    said = await pointing.report(presser_of(interaction), message_id, typed(data))
    await show_privately(interaction, said)


def _ask_why(message: discord.Message) -> discord.ui.Modal:
    modal = discord.ui.Modal(title="Report this message", custom_id=f"{REPORTED}:{message.id}")
    modal.add_item(
        discord.ui.TextInput(
            label="What is wrong with it?",
            style=discord.TextStyle.paragraph,
            custom_id="reason",
            max_length=LONGEST_REASON,
        )
    )
    return modal


def _request_translation(locale: discord.Locale) -> str:
    """Into the language in which the reader sees Discord."""
    if locale in CHINESE_LOCALES:
        kind = "简体" if locale is discord.Locale.chinese else "繁体"
        return f"请把这条消息翻译成{kind}中文："
    *_, language = locale.name.split("_")  # such as brazil_portuguese
    return f"Please translate this message into {language.capitalize()}:"


async def _read_from(message: discord.Message) -> list[str]:
    """This message and those after it, one line each, so that nobody can speak in another's name."""
    later = message.channel.history(after=message, limit=MOST_SUMMARISED - 1, oldest_first=True)
    messages = [message, *[one async for one in later]]
    return [line for one in messages if not one.flags.loading and (line := read_line(one))]


def _request_summary(
    interaction: discord.Interaction, message: discord.Message, lines: list[str]
) -> IncomingMessage | None:
    """As many lines, from the first on, as a question may be long."""
    kept, length = list[str](), 0
    for line in lines:
        length += len(line) + len("\n> ")
        if length > LONGEST_QUESTION:
            break
        kept.append(line)
    chinese = _is_chinese(interaction)
    if len(kept) == len(lines):
        request = "请总结这些消息：" if chinese else f"Please summarise these {len(kept)} messages:"
    elif chinese:
        request = f"请总结这些消息（最早的{len(kept)}条）："
    else:
        request = f"Please summarise these messages, the first {len(kept)} of {len(lines)}:"
    return read_menu_question(interaction, message, request, kept) if kept else None


def _is_chinese(interaction: discord.Interaction) -> bool:
    return interaction.locale in CHINESE_LOCALES
