"""What Discord refuses in the commands that a bot registers: names, descriptions, options, choices and counts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import regex

from tests.fakes.discord_places import Json
from tests.fakes.discord_rules import INVALID_FORM, TOO_MANY_COMMANDS, Refusal, check_length

CHAT_INPUT, USER, MESSAGE = 1, 2, 3
SUB_COMMAND, GROUP, STRING, INTEGER, BOOLEAN = 1, 2, 3, 4, 5
USER_OPTION, CHANNEL_OPTION, ROLE_OPTION, MENTIONABLE, NUMBER, ATTACHMENT = 6, 7, 8, 9, 10, 11
WITH_CHOICES = (STRING, INTEGER, NUMBER)
MOST = {CHAT_INPUT: 100, USER: 15, MESSAGE: 15}
LONGEST_COMMAND = 8000
NAME = regex.compile(r"[-_'\p{L}\p{N}\p{Script=Devanagari}\p{Script=Thai}]{1,32}")
LOCALES = """
id da de en-GB en-US es-ES es-419 fr hr it lt hu nl no pl pt-BR ro fi sv-SE vi tr cs el bg ru uk hi th
zh-CN ja zh-TW ko
"""


def check_commands(commands: Sequence[Json]) -> None:
    """Of one scope, all together."""
    for command in commands:
        check_command(command)
    kinds = [command.get("type", CHAT_INPUT) for command in commands]
    for kind, count in Counter(kinds).items():
        if count > MOST[kind]:
            raise Refusal(TOO_MANY_COMMANDS)
    _check_unique(
        (f"{kind} {command['name']}" for kind, command in zip(kinds, commands, strict=True)), "name"
    )


def check_command(command: Json) -> None:
    kind = command.get("type", CHAT_INPUT)
    permissions = command.get("default_member_permissions")
    if kind not in MOST:
        raise Refusal(INVALID_FORM, "type", f"Value must be one of {set(MOST)}.")
    if permissions is not None and not str(permissions).isdecimal():
        raise Refusal(INVALID_FORM, "default_member_permissions", "Must be a number of bits, as a string.")
    for field, known in (("contexts", {0, 1, 2}), ("integration_types", {0, 1})):
        if not set(command.get(field) or ()) <= known:
            raise Refusal(INVALID_FORM, field, f"Values must be of {known}.")
    if kind != CHAT_INPUT:
        _check_menu(command)
        return
    _check_described(command)
    _check_options(command.get("options") or [], depth=0)
    if _size(command) > LONGEST_COMMAND:
        raise Refusal(INVALID_FORM, "", f"Command exceeds maximum size ({LONGEST_COMMAND})")


def check_choices(choices: Sequence[Json], kind: int) -> None:
    """Of an option, or of an answer to what is typed."""
    if len(choices) > 25:
        raise Refusal(INVALID_FORM, "choices", "Must be 25 or fewer in length.")
    for choice in choices:
        for name in _with_localizations(choice, "name"):
            check_length(name, 1, 100, "choices.name")
        value = choice.get("value")
        if kind == STRING:
            check_length(value, 0, 100, "choices.value")
        elif isinstance(value, bool) or not isinstance(value, int if kind == INTEGER else int | float):
            raise Refusal(INVALID_FORM, "choices.value", "Is no number of the option's kind.")


def _check_menu(command: Json) -> None:
    """A menu's name may have spaces and capitals; it has no description and no options."""
    for name in _with_localizations(command, "name"):
        check_length(name.strip(), 1, 32, "name")
    if command.get("description") or command.get("options"):
        raise Refusal(INVALID_FORM, "description", "Context menu commands cannot have description or options")


def _check_described(described: Json) -> None:
    """A command or an option, in every language."""
    for name in _with_localizations(described, "name"):
        if not NAME.fullmatch(name) or name != name.lower():
            raise Refusal(INVALID_FORM, "name", f"Command name is invalid: {name}")
    for text in _with_localizations(described, "description"):
        check_length(text, 1, 100, "description")


def _check_options(options: Sequence[Json], *, depth: int) -> None:
    """Groups hold sub-commands, and sub-commands options: `depth` counts how deep these options are."""
    if len(options) > 25:
        raise Refusal(INVALID_FORM, "options", "Must be 25 or fewer in length.")
    _check_unique((option["name"] for option in options), "options")
    kinds = {option["type"] for option in options}
    if kinds & {SUB_COMMAND, GROUP} and kinds - {SUB_COMMAND, GROUP}:
        raise Refusal(INVALID_FORM, "options", "Sub-commands are exclusive with options of other kinds.")
    required = [bool(option.get("required")) for option in options]
    if required != sorted(required, reverse=True):
        raise Refusal(INVALID_FORM, "options", "Required options must be placed before non-required options")
    for option in options:
        _check_described(option)
        if (option["type"] == GROUP and depth > 0) or (option["type"] == SUB_COMMAND and depth > 1):
            raise Refusal(INVALID_FORM, "options", "Is nested too deep.")
        if option["type"] in (SUB_COMMAND, GROUP):
            deeper = 1 if option["type"] == GROUP else 2
            _check_options(option.get("options") or [], depth=deeper)
        else:
            if depth == 1:
                raise Refusal(INVALID_FORM, "options", "A group holds sub-commands.")
            _check_value_option(option)


def _check_value_option(option: Json) -> None:
    kind, choices = option["type"], option.get("choices")
    if not STRING <= kind <= ATTACHMENT:
        raise Refusal(INVALID_FORM, "options.type", "There is no such kind of option.")
    if (choices or option.get("autocomplete")) and kind not in WITH_CHOICES:
        raise Refusal(INVALID_FORM, "options.choices", "Are for texts and numbers.")
    if choices and option.get("autocomplete"):
        raise Refusal(INVALID_FORM, "options.autocomplete", "Is exclusive with choices.")
    check_choices(choices or [], kind)
    for field, kinds in (("min_value", (INTEGER, NUMBER)), ("max_value", (INTEGER, NUMBER))):
        if option.get(field) is not None and kind not in kinds:
            raise Refusal(INVALID_FORM, f"options.{field}", "Is for numbers.")
    for field, least in (("min_length", 0), ("max_length", 1)):
        if field in option and (kind != STRING or not least <= option[field] <= 6000):
            raise Refusal(INVALID_FORM, f"options.{field}", f"Must be between {least} and 6000, for a text.")


def _with_localizations(described: Json, field: str) -> list[str]:
    localizations = described.get(f"{field}_localizations") or {}
    if unknown := set(localizations) - set(LOCALES.split()):
        raise Refusal(INVALID_FORM, f"{field}_localizations", f"There is no language {unknown}.")
    return [str(described.get(field) or ""), *localizations.values()]


def _check_unique(names: Iterable[str], field: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise Refusal(INVALID_FORM, field, f"Is there more than once: {twice}")


def _size(command: Json) -> int:
    """Characters of names, descriptions and values, each in its longest language."""
    return sum(_sizes(command)) + sum(_size(option) for option in command.get("options") or [])


def _sizes(command: Json) -> Iterator[int]:
    for field in ("name", "description"):
        yield max(len(text) for text in _with_localizations(command, field))
    for choice in command.get("choices") or []:
        yield max(len(text) for text in _with_localizations(choice, "name"))
        yield len(str(choice["value"]))
