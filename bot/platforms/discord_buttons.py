"""The buttons under an answer, as Discord shows them."""

from collections.abc import Mapping
from typing import Any

import discord

from bot.controls import Button, Controls, Name

_STYLES: Mapping[Name, discord.ButtonStyle] = {"stop": discord.ButtonStyle.danger}


def view_of(controls: Controls | None) -> discord.ui.View | None:
    """Dead at once: discord.py need not remember it, for presses are read by their id, also after a restart."""
    if controls is None:
        return None
    view = discord.ui.View(timeout=None)
    for row, buttons in enumerate(controls.rows()):
        for button in buttons:
            view.add_item(_item(button, row))
    view.stop()
    return view


def components_of(controls: Controls | None) -> list[dict[str, Any]]:
    view = view_of(controls)
    return [] if view is None else view.to_components()


def _item(button: Button, row: int) -> discord.ui.Button[discord.ui.View]:
    style = _STYLES.get(button.name, discord.ButtonStyle.secondary)
    return discord.ui.Button(
        label=button.label, custom_id=button.id, style=style, disabled=not button.works, row=row
    )
