"""What is done when a button under an answer is pressed on Discord."""

from collections.abc import Mapping
from typing import Any

import discord

from bot.actions import Actions, Presser
from bot.controls import Pressed, read_button
from bot.platforms.discord_commands import show_privately
from bot.platforms.discord_incoming import author_of, conversation_at

LONGEST_REASON = 1000
RATED_DOWN = "parley-reason"


async def press(interaction: discord.Interaction, actions: Actions) -> None:
    """Do what a button says; a press that is none of ours is left alone."""
    data: Mapping[str, Any] = dict(interaction.data or {})
    if interaction.type is discord.InteractionType.modal_submit:
        await _take_reason(interaction, actions, str(data.get("custom_id", "")))
        return
    pressed = read_button(str(data.get("custom_id", "")))
    if pressed is None:
        return
    presser = presser_of(interaction)
    if pressed.name == "down":
        await actions.rate(pressed, presser, "down")
        await interaction.response.send_modal(_ask_for_reason(pressed))
        return
    await interaction.response.defer(ephemeral=True, thinking=pressed.name in ("why", "context", "up"))
    said = await actions.press(pressed, presser)
    if said is None:
        return
    if pressed.name in ("why", "context", "up"):
        await show_privately(interaction, said)
    else:
        await interaction.followup.send(said, ephemeral=True)


def presser_of(interaction: discord.Interaction) -> Presser:
    return Presser(
        conversation=conversation_at(interaction.guild, interaction.channel),
        author=author_of(interaction.user),
        press_id=str(interaction.id),
        at=interaction.created_at,
        private=interaction.guild is None,
    )


def _ask_for_reason(pressed: Pressed) -> discord.ui.Modal:
    modal = discord.ui.Modal(title="What was wrong with it?", custom_id=f"{RATED_DOWN}:{pressed.inbox_id}")
    modal.add_item(
        discord.ui.TextInput(
            label="Why? (may stay empty)",
            style=discord.TextStyle.paragraph,
            custom_id="reason",
            required=False,
            max_length=LONGEST_REASON,
        )
    )
    return modal


async def _take_reason(interaction: discord.Interaction, actions: Actions, identifier: str) -> None:
    kind, _, inbox_id = identifier.partition(":")
    if kind != RATED_DOWN or not inbox_id.isdigit():
        return
    await interaction.response.defer(ephemeral=True, thinking=True)
    pressed = Pressed("down", int(inbox_id))
    said = await actions.rate(
        pressed, presser_of(interaction), "down", typed(dict(interaction.data or {})) or None
    )
    await show_privately(interaction, said)


def typed(data: Mapping[str, Any]) -> str:
    """The one text of a form."""
    for row in data.get("components", []):
        for item in (*row.get("components", []), row.get("component") or {}):
            if item.get("custom_id") == "reason":
                return str(item.get("value", "")).strip()
    return ""
