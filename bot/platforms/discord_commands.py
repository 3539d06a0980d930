"""The slash commands on Discord, made from the table of commands: read it, one call, one answer."""

from collections.abc import Callable, Coroutine
from inspect import Parameter, Signature
from typing import Any, Literal

import discord
import structlog
from discord import app_commands

from bot.chat import Complete, RunCommand
from bot.commands.table import CHINESE, COMMANDS, GROUPS, Command, Group, Option
from bot.delivery.desk import Delivery
from bot.errors import DeliveryFailed
from bot.platforms.discord_courier import MESSAGE_LIMIT
from bot.platforms.discord_errors import judging
from bot.platforms.discord_incoming import read_chat_command, read_command
from bot.splitting import split_text

log = structlog.get_logger()

LONGEST_QUESTION = 6000
LONGEST_CHOICE = 100
SECONDS_TO_ACKNOWLEDGE = 3.0
TOO_LATE = 10062
SORRY = "Something went wrong on my side. The log has the details."
CHINESE_LOCALES = (discord.Locale.chinese, discord.Locale.taiwan_chinese)

Callback = Callable[..., Coroutine[Any, Any, None]]
Offer = Callable[[discord.Interaction, str], Coroutine[Any, Any, list[app_commands.Choice[str]]]]


class Chinese(app_commands.Translator):
    """The words of the table in Chinese; every other language sees English."""

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: object
    ) -> str | None:
        return string.extras.get("zh") if locale in CHINESE_LOCALES else None


class CommandTree(app_commands.CommandTree[discord.Client]):
    """In workspaces and in direct messages with the bot; for those who installed it to a workspace."""

    def __init__(self, client: discord.Client) -> None:
        super().__init__(
            client,
            allowed_contexts=app_commands.AppCommandContext(
                guild=True, dm_channel=True, private_channel=False
            ),
            allowed_installs=app_commands.AppInstallationType(guild=True, user=False),
        )

    async def publish(self, guild: int | None) -> None:
        """Tell Discord the commands: for all workspaces, or for one where they are tried out, at once."""
        await self.set_translator(Chinese())
        if guild is None:
            await self.sync()
        else:
            self.copy_global_to(guild=discord.Object(guild))
            await self.sync(guild=discord.Object(guild))

    async def on_error(
        self, interaction: discord.Interaction, error: app_commands.AppCommandError, /
    ) -> None:
        """A person sees a sentence, the log sees the traceback."""
        name = interaction.command.qualified_name if interaction.command else "unknown"
        cause = error.__cause__ or error
        if isinstance(cause, discord.NotFound) and cause.code == TOO_LATE:
            log.warning("Discord withdrew a command: it was not acknowledged within 3 s", command=name)
            return
        if isinstance(cause, DeliveryFailed):
            log.warning("the answer to a command was not shown", command=name, reason=str(cause))
            return
        log.error("a command failed", command=name, exc_info=cause)
        try:
            if interaction.response.is_done():
                await interaction.edit_original_response(content=SORRY)
            else:
                await interaction.response.send_message(SORRY, ephemeral=True)
        except discord.HTTPException as refused:
            log.warning("the failure of a command could not be told", command=name, reason=str(refused))


def add_commands(
    tree: CommandTree, *, delivery: Delivery, run_command: RunCommand, complete: Complete
) -> None:
    """Every command of the table: those that ask go to the inbox, the others answer between the two."""

    async def ask(interaction: discord.Interaction, message: str) -> None:
        asked = read_chat_command(interaction, message)
        await delivery.receive(asked, rest_seconds=SECONDS_TO_ACKNOWLEDGE)
        await interaction.response.defer(thinking=True)
        await delivery.acknowledged(asked)

    def running(name: str) -> Callback:
        async def run(interaction: discord.Interaction, **options: Any) -> None:
            await interaction.response.defer(ephemeral=True)
            await show_privately(interaction, await run_command(read_command(interaction, name, options)))

        return run

    def completing(name: str, option: str) -> Offer:
        async def offer(interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
            values = await complete(read_command(interaction, name, {}), option, typed)
            return [
                app_commands.Choice(name=value, value=value)
                for value in values
                if len(value) <= LONGEST_CHOICE
            ]

        return offer

    groups = {name: _build_group(group) for name, group in GROUPS.items()}
    for command in COMMANDS:
        built = _build(command, ask if command.asks else running(command.name))
        for option in command.options:
            if option.completion is not None:
                built.autocomplete(option.name)(completing(command.name, option.name))
        owner = groups.get(command.name.split()[0])
        if owner is not None:
            owner.add_command(built)
        else:
            tree.add_command(built)
    for group in groups.values():
        tree.add_command(group)


async def show_privately(interaction: discord.Interaction, text: str) -> None:
    """Answer a deferred interaction between the two."""
    first, *others = split_text(text, MESSAGE_LIMIT)
    with judging(place_name(interaction)):
        await interaction.edit_original_response(content=first)
        for part in others:
            await interaction.followup.send(part, ephemeral=True, suppress_embeds=True)


def _build_group(group: Group) -> app_commands.Group:
    return app_commands.Group(
        name=words(group.name, CHINESE[group.name]),
        description=words(group.about, group.about_zh),
        default_permissions=discord.Permissions(manage_guild=True) if group.for_managers else None,
    )


def _build(command: Command, does: Callback) -> app_commands.Command[Any, ..., None]:
    """discord.py reads a command's options from the signature of a function, so that each gets one made for it."""

    async def callback(interaction: discord.Interaction, **options: Any) -> None:
        await does(interaction, **{name: value for name, value in options.items() if value is not None})

    first = Parameter("interaction", Parameter.POSITIONAL_OR_KEYWORD, annotation=discord.Interaction)
    callback.__signature__ = Signature([first, *map(_parameter, command.options)])  # type: ignore[attr-defined]
    about = {option.name: words(option.about, option.about_zh) for option in command.options}
    word = command.name.split()[-1]
    return app_commands.Command(
        name=words(word, CHINESE[word]),
        description=words(command.about, command.about_zh),
        callback=app_commands.describe(**about)(callback) if about else callback,
    )


def _parameter(option: Option) -> Parameter:
    annotation: Any = app_commands.Range[str, 1, LONGEST_QUESTION]
    if option.choices:
        annotation = Literal[option.choices]
    if option.required:
        return Parameter(option.name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    return Parameter(option.name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation | None, default=None)


def words(english: str, chinese: str) -> app_commands.locale_str:
    return app_commands.locale_str(english, zh=chinese)


def place_name(interaction: discord.Interaction) -> str:
    if interaction.guild_id is None:
        return "a direct message"
    name = getattr(interaction.channel, "name", None)
    return f"#{name}" if name else f"channel {interaction.channel_id}"
