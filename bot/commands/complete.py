"""What may be offered while somebody types an option."""

from bot.chat import CommandCall
from bot.choices.book import Books
from bot.choices.table import PRESETS, SAMPLING, SETTINGS
from bot.commands.table import BY_NAME, Completion

MOST = 25
"""Discord shows no more."""


async def complete(books: Books, call: CommandCall, option: str, typed: str) -> list[str]:
    """The values that contain what was typed; those that begin with it come first."""
    command = BY_NAME[call.name]
    kind = next((one.completion for one in command.options if one.name == option), None)
    if kind is None:
        return []
    wanted = typed.casefold()
    fitting = [value for value in await _values(books, call, kind) if wanted in value.casefold()]
    return sorted(fitting, key=lambda value: not value.casefold().startswith(wanted))[:MOST]


async def _values(books: Books, call: CommandCall, kind: Completion) -> list[str]:
    match kind:
        case "settings":
            return list(SETTINGS)
        case "sampling":
            return list(SAMPLING)
        case "bundles":
            return (await books.of(call.conversation)).bundles()
        case "presets":
            return [*PRESETS, *(await books.of(call.conversation)).bundles(owner=call.author.id)]
