"""What a person fills into the options of a slash command: read by the option's kind, and checked as Discord does."""

from collections.abc import Mapping

from tests.fakes.discord_command_rules import (
    ATTACHMENT,
    BOOLEAN,
    CHANNEL_OPTION,
    INTEGER,
    NUMBER,
    ROLE_OPTION,
    STRING,
    USER_OPTION,
)
from tests.fakes.discord_places import Channel, Json, Role, User


def read_options(
    definition: Json, given: Mapping[str, object], place: Channel, *, complete: bool = True
) -> tuple[list[Json], Json]:
    """The values for the payload, and what they resolve to. While typing, they need not be `complete`."""
    known = {option["name"]: option for option in definition.get("options", [])}
    name = definition["name"]
    assert set(given) <= set(known), f"{name!r} has no option {set(given) - set(known)}, but {list(known)}"
    missing = [option["name"] for option in known.values() if option.get("required")]
    missing = [option for option in missing if option not in given]
    assert not complete or not missing, f"{name!r} needs {missing}"
    values: list[Json] = []
    resolved: Json = {}
    for option, value in given.items():
        read = _read(known[option], value, place, resolved)
        _check(known[option], read)
        values.append({"name": option, "type": known[option]["type"], "value": read})
    return values, resolved


def _read(option: Json, value: object, place: Channel, resolved: Json) -> object:
    kind = option["type"]
    try:
        if kind == INTEGER:
            return int(str(value))
        if kind == NUMBER:
            return float(str(value))
    except ValueError:
        raise AssertionError(f"The option {option['name']!r} takes a number, not {value!r}") from None
    if kind == BOOLEAN:
        assert str(value).lower() in ("true", "false"), f"The option {option['name']!r} is true or false"
        return str(value).lower() == "true"
    if kind == STRING:
        return str(value)
    return _resolve(option, value, place, resolved)


def _resolve(option: Json, value: object, place: Channel, resolved: Json) -> str:
    """A user, a channel, a role or a file stands by its id in the payload, and in whole beside it."""
    match option["type"], value:
        case kind, User() if kind not in (CHANNEL_OPTION, ROLE_OPTION, ATTACHMENT):
            resolved.setdefault("users", {})[str(value.id)] = value.wire()
            if place.guild is not None:
                permissions = {"permissions": str(place.permissions_of(value))}
                member = {**place.guild.member_wire(value), **permissions}
                resolved.setdefault("members", {})[str(value.id)] = member
        case kind, Role() if kind not in (USER_OPTION, CHANNEL_OPTION, ATTACHMENT):
            resolved.setdefault("roles", {})[str(value.id)] = value.wire()
        case kind, Channel() if kind == CHANNEL_OPTION:
            kinds = option.get("channel_types") or [value.kind]
            assert value.kind in kinds, f"The option {option['name']!r} takes channels of {kinds}"
            permissions = {"permissions": str(value.permissions_of(User(0, "")))}
            resolved.setdefault("channels", {})[str(value.id)] = {**value.wire(), **permissions}
        case kind, dict() if kind == ATTACHMENT:
            resolved.setdefault("attachments", {})[value["id"]] = value
            return str(value["id"])
        case _:
            raise AssertionError(f"The option {option['name']!r} does not take {value!r}")
    return str(value.id)


def _check(option: Json, value: object) -> None:
    name = option["name"]
    if choices := option.get("choices"):
        offered = [choice["value"] for choice in choices]
        assert value in offered, f"The option {name!r} offers {offered}, not {value!r}"
    if isinstance(value, str) and option["type"] == STRING:
        least, most = option.get("min_length", 0), option.get("max_length", 6000)
        assert least <= len(value) <= most, f"The option {name!r} takes {least} to {most} characters"
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = option.get("min_value", -(2**53)), option.get("max_value", 2**53)
        assert least <= value <= most, f"The option {name!r} takes {least} to {most}, not {value}"
