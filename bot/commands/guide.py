"""The help text, made from the table of commands."""

from bot.chat import PlatformName
from bot.commands.table import COMMANDS

HOW_TO_TALK: dict[PlatformName, str] = {
    "discord": "Mention me, reply to me, write me a direct message, or use `/chat`.",
    "slack": "Mention me, write in a thread I am in, send me a direct message, or use `/parley your question`.",
    "terminal": "Type a message and press Enter. Ctrl-C stops an answer.",
}
_HOW_TO_TYPE: dict[PlatformName, str] = {
    "discord": "/thread [message] [name] - go on in a thread of its own\n"
    "The menu of a message (Apps) explains, translates, summarises, asks again and reports.\n"
    "`!reset` after a mention, or in a message to me alone, does the same as /reset.",
    "slack": "In threads, where Slack has no slash commands: `@Parley !reset`.",
    "terminal": "/quit - leave",
}


def write_help(platform: PlatformName, model: str) -> str:
    prefix = "/parley " if platform == "slack" else "/"
    lines = [f"{prefix}{command.usage} - {command.about.lower()}" for command in COMMANDS]
    return "\n".join(
        [
            f"I am Parley, a chatbot that runs on this community's own machine, now with {model}.",
            HOW_TO_TALK[platform],
            *lines,
            _HOW_TO_TYPE[platform],
        ]
    )
