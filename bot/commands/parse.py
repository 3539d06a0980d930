"""Typed commands: `!sampling set temperature 0.7`, or `/reset` after a mention and in a terminal."""

import difflib
import re
from collections.abc import Mapping, Sequence

from bot.chat import CommandCall, IncomingMessage
from bot.commands.table import BY_NAME, COMMANDS, GROUPS, Command, Option

_FIRST_WORDS = {command.name.split()[0] for command in COMMANDS}
_MARKED = re.compile(r"\s*[/!](?P<line>[A-Za-z].*)", re.DOTALL)


def names_command(line: str) -> bool:
    """Whether a line without mark, as it stands after /parley, is a command: the whole of its name, and what may
    follow that. "reset" is one, "reset my password" is a question.
    """
    name, rest = _split_name(line)
    command = BY_NAME.get(name)
    if command is None:
        return line.strip().lower() in GROUPS
    return bool(command.options) or not rest.strip()


def read_command(message: IncomingMessage) -> CommandCall | None:
    """The command that a message is. A word without its mark is a question, and so is a mark before another word."""
    match = _MARKED.fullmatch(message.text)
    if match is None or match["line"].split()[0].lower() not in _FIRST_WORDS:
        return None
    call = parse_command(match["line"], message)
    return None if call.fault is None and BY_NAME[call.name].asks else call


def question_of(message: IncomingMessage) -> str:
    """What is asked: the text, without the name of the command that asks."""
    match = _MARKED.fullmatch(message.text)
    if match is None:
        return message.text
    name, rest = _split_name(match["line"])
    return rest if name in BY_NAME and BY_NAME[name].asks else message.text


def parse_command(line: str, message: IncomingMessage) -> CommandCall:
    """`line` is without its mark. What is wrong with it stands in `fault`."""
    name, rest = _split_name(line)
    options: dict[str, str] = {}
    command = BY_NAME.get(name)
    try:
        if command is None:
            raise ValueError(_unknown(name))
        options = _read_options(command, rest)
        fault = None
    except ValueError as error:
        fault = str(error)
    return CommandCall(
        name,
        message.conversation,
        message.author,
        private=message.private,
        options=options,
        fault=fault,
        message_id=message.message_id,
        reply_to=message.reply_to,
        category=message.category,
    )


def check_options(command: Command, given: Mapping[str, str]) -> dict[str, str]:
    """Options that came by name, as platforms send them. Raises `ValueError` with a sentence."""
    return {
        option.name: _read(option, str(given[option.name]))
        for option in command.options
        if given.get(option.name) not in (None, "")
    }


def _split_name(line: str) -> tuple[str, str]:
    words = line.split(maxsplit=2)
    two = " ".join(words[:2]).lower()
    if two in BY_NAME:
        return two, words[2] if len(words) > 2 else ""
    one, *rest = line.split(maxsplit=1)
    if one.lower() in BY_NAME:
        return one.lower(), rest[0] if rest else ""
    return two, ""


def _read_options(command: Command, rest: str) -> dict[str, str]:
    values = _distribute(command.options, rest)
    missing = next((o.name for o in command.options if o.required and o.name not in values), None)
    if missing is not None:
        raise ValueError(f"{command.name} needs {missing} as well: {command.usage}")
    return {
        option.name: _read(option, values[option.name]) for option in command.options if option.name in values
    }


def _distribute(options: Sequence[Option], rest: str) -> dict[str, str]:
    """A word for each option in turn. The last one that takes any text takes all the words that those after it leave,
    and these are taken from the line's end where they fit.
    """
    free = [index for index, option in enumerate(options) if _is_free(option)]
    heads, tails = (options, ()) if not free else (options[: free[-1]], options[free[-1] + 1 :])
    values: dict[str, str] = {}
    for option in heads:
        if rest.strip():
            word, *others = rest.split(maxsplit=1)
            values[option.name], rest = word, others[0] if others else ""
    for option in reversed(tails):
        words = rest.rsplit(maxsplit=1)
        if len(words) == 2 and words[1].lower() in option.choices:
            rest, values[option.name] = words
    if free and rest.strip():
        values[options[free[-1]].name] = rest.strip()
    elif rest.strip():
        raise ValueError(f"There is more than I understand in {rest.strip()!r}.")
    return values


def _is_free(option: Option) -> bool:
    return not option.choices


def _read(option: Option, text: str) -> str:
    value = text.strip()
    if option.choices and value.lower() not in option.choices:
        raise ValueError(f"{option.name} is one of {', '.join(option.choices)}, not {value!r}.")
    return value.lower() if option.choices else value


def _unknown(name: str) -> str:
    first = name.split()[0] if name else ""
    near = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.6)
    group = [command.name for command in COMMANDS if command.name.split()[0] == first and " " in command.name]
    if group and (name == first or not near):
        return f"After {first} comes one of: {', '.join(entry.split()[1] for entry in group)}."
    if near:
        return f"There is no command {name}; did you mean {near[0]}?"
    return f"There is no command {name}. Try help."
