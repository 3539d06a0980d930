"""The slash commands on Discord, each as thin as it gets: read it, one call, one answer."""

import discord
import structlog
from discord import app_commands

from bot.chat import RunCommand
from bot.delivery.desk import Delivery
from bot.errors import DeliveryFailed
from bot.platforms.discord_courier import MESSAGE_LIMIT
from bot.platforms.discord_errors import judging
from bot.platforms.discord_incoming import read_chat_command, read_command
from bot.splitting import split_text

log = structlog.get_logger()


LONGEST_QUESTION = 6000
SECONDS_TO_ACKNOWLEDGE = 3.0
TOO_LATE = 10062
SORRY = "Something went wrong on my side. The log has the details."


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

    async def on_error(
        self, interaction: discord.Interaction, error: app_commands.AppCommandError, /
    ) -> None:
        """A person sees a sentence, the log sees the traceback."""
        name = interaction.command.name if interaction.command else "unknown"
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


def add_commands(tree: CommandTree, *, delivery: Delivery, run_command: RunCommand) -> None:
    @tree.command(description="Ask me something")
    @app_commands.describe(message="What you want to say")
    async def chat(
        interaction: discord.Interaction, message: app_commands.Range[str, 1, LONGEST_QUESTION]
    ) -> None:
        asked = read_chat_command(interaction, message)
        await delivery.receive(asked, rest_seconds=SECONDS_TO_ACKNOWLEDGE)
        await interaction.response.defer(thinking=True)
        await delivery.acknowledged(asked)

    @tree.command(description="Forget what was said here and start afresh")
    async def reset(interaction: discord.Interaction) -> None:
        await run(interaction, "reset")

    @tree.command(name="help", description="Show what I can do")
    async def show_help(interaction: discord.Interaction) -> None:
        await run(interaction, "help")

    async def run(interaction: discord.Interaction, name: str) -> None:
        await interaction.response.defer(ephemeral=True)
        first, *others = split_text(await run_command(read_command(interaction, name)), MESSAGE_LIMIT)
        with judging(_name(interaction)):
            await interaction.edit_original_response(content=first)
            for part in others:
                await interaction.followup.send(part, ephemeral=True, suppress_embeds=True)


def _name(interaction: discord.Interaction) -> str:
    if interaction.guild_id is None:
        return "a direct message"
    name = getattr(interaction.channel, "name", None)
    return f"#{name}" if name else f"channel {interaction.channel_id}"
