"""Buttons, selects and modals in the fake Discord: what it refuses in them, and how a person finds them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.fakes.discord_places import Json
from tests.fakes.discord_rules import INVALID_FORM, Refusal, check_length
from tests.fakes.discord_state import COMPONENTS_V2, Interaction, Message

ROW, BUTTON, STRING_SELECT, TEXT_INPUT, SECTION, TEXT_DISPLAY, LABEL = 1, 2, 3, 4, 9, 10, 18
SELECTS = (3, 5, 6, 7, 8)
V2_LAYOUT = (ROW, SECTION, TEXT_DISPLAY, 12, 13, 14, 17)
COLOURED, LINK = (1, 2, 3, 4), 5


@dataclass(frozen=True)
class Modal:
    """What the bot opened for the user of an interaction."""

    opened_by: Interaction
    data: Json

    @property
    def title(self) -> str:
        return str(self.data["title"])

    @property
    def fields(self) -> list[Json]:
        """Its inputs, each with the label that people read."""
        labelled = []
        for part in self.data["components"]:
            labelled += [{**part["component"], "label": part["label"]}] if part["type"] == LABEL else []
            labelled += part["components"] if part["type"] == ROW else []
        return labelled


def check_components(body: Json) -> list[Json]:
    """Those of a message, with the numbers that Discord gives them."""
    components: list[Json] = body.get("components") or []
    if int(body.get("flags") or 0) & COMPONENTS_V2:
        _check_v2(body, components)
    else:
        if len(components) > 5 or any(row.get("type") != ROW for row in components):
            raise Refusal(INVALID_FORM, "components", "Must be 5 or fewer action rows.")
    for part in walk(components):
        if part["type"] == ROW:
            _check_row(part.get("components") or [])
        elif part["type"] == BUTTON:
            _check_button(part)
        elif part["type"] in SELECTS:
            _check_select(part)
    _check_unique(part["custom_id"] for part in walk(components) if "custom_id" in part)
    return _numbered(components)


def check_modal(data: Json) -> Json:
    """With the numbers that Discord gives its components."""
    check_length(data.get("title"), 1, 45, "title")
    check_length(data.get("custom_id"), 1, 100, "custom_id")
    components: list[Json] = data.get("components") or []
    if not 1 <= len(components) <= 5:
        raise Refusal(INVALID_FORM, "components", "Must be between 1 and 5 in length.")
    for part in components:
        if part["type"] == LABEL:
            check_length(part.get("label"), 1, 45, "label")
            check_length(part.get("description") or "", 0, 100, "description")
            _check_field(part["component"])
        elif part["type"] == ROW and [child["type"] for child in part["components"]] == [TEXT_INPUT]:
            check_length(part["components"][0].get("label"), 1, 45, "label")
            _check_field(part["components"][0])
        elif part["type"] != TEXT_DISPLAY:
            raise Refusal(INVALID_FORM, "components", "Must be a label, or a row with one text input.")
    _check_unique(part["custom_id"] for part in walk(components) if "custom_id" in part)
    return {**data, "components": _numbered(components)}


def find_component(message: Message, wanted: str, kinds: Sequence[int]) -> Json:
    """By its custom id, or by what people read on it: a label, an emoji or a placeholder."""
    found = [part for part in walk(message.components) if part["type"] in kinds]
    for part in found:
        emoji = (part.get("emoji") or {}).get("name")
        if wanted in (part.get("custom_id"), part.get("label"), emoji, part.get("placeholder")):
            assert not part.get("disabled"), f"{wanted!r} is disabled"
            return part
    names = [part.get("label") or part.get("placeholder") or part.get("custom_id") for part in found]
    raise AssertionError(f"There is no {wanted!r} on the message; there are {names}")


def check_chosen(select: Json, values: Sequence[str]) -> None:
    """What a person chooses is on offer, and as much as may be chosen."""
    if select["type"] == STRING_SELECT:
        offered = [option["value"] for option in select["options"]]
        assert set(values) <= set(offered), f"{set(values) - set(offered)} is not offered, but {offered}"
    least, most = select.get("min_values", 1), select.get("max_values", 1)
    assert least <= len(values) <= most, f"{len(values)} chosen, of {least} to {most}"


def fill(modal: Modal, values: dict[str, str | list[str]]) -> list[Json]:
    """The components of a submitted modal. `values` are by custom id or label; what is left out stays as it was."""
    answers = {}
    for field in modal.fields:
        names = [name for name in (field["custom_id"], field.get("label")) if name in values]
        answers[field["custom_id"]] = _fill_field(field, values.pop(names[0]) if names else None)
    assert not values, f"The modal {modal.title!r} has no field {list(values)}"
    parts: list[Json] = []
    for part in modal.data["components"]:
        about = {"type": part["type"], "id": part["id"]}
        if part["type"] == LABEL:
            parts.append({**about, "component": answers[part["component"]["custom_id"]]})
        elif part["type"] == ROW:
            parts.append({**about, "components": [answers[c["custom_id"]] for c in part["components"]]})
        else:
            parts.append(about)
    return parts


def walk(components: Iterable[Json]) -> Iterator[Json]:
    """Each component, and what is in it."""
    for part in components:
        yield part
        inner = [part[name] for name in ("component", "accessory") if part.get(name)]
        yield from walk([*part.get("components", []), *inner])


def _fill_field(field: Json, given: str | list[str] | None) -> Json:
    about, name = {key: field[key] for key in ("type", "id", "custom_id")}, field.get("label")
    if field["type"] != TEXT_INPUT:
        chosen = [given] if isinstance(given, str) else given or []
        if chosen or field.get("required", True):
            check_chosen(field, chosen)
        return {**about, "values": chosen}
    text = str(field.get("value") or "" if given is None else given)
    assert text or not field.get("required", True), f"The field {name!r} must be filled"
    least, most = field.get("min_length") or 0, field.get("max_length") or 4000
    assert not text or least <= len(text) <= most, f"The field {name!r} takes {least} to {most} characters"
    return {**about, "value": text}


def _check_row(children: Sequence[Json]) -> None:
    kinds = [child.get("type") for child in children]
    of_buttons = 1 <= len(kinds) <= 5 and set(kinds) == {BUTTON}
    if not of_buttons and not (len(kinds) == 1 and kinds[0] in SELECTS):
        raise Refusal(INVALID_FORM, "components", "A row has 1 to 5 buttons, or one select.")


def _check_button(button: Json) -> None:
    style = button.get("style")
    if style in COLOURED and "url" not in button:
        check_length(button.get("custom_id"), 1, 100, "custom_id")
    elif style == LINK and "custom_id" not in button:
        check_length(button.get("url"), 1, 512, "url")
    else:
        raise Refusal(
            INVALID_FORM, "components", "A button has a style, and a custom_id or a link of style 5."
        )
    check_length(button.get("label") or "", 0, 80, "label")
    if not button.get("label") and not button.get("emoji"):
        raise Refusal(INVALID_FORM, "components", "A button must have a label or an emoji.")


def _check_select(select: Json) -> None:
    check_length(select.get("custom_id"), 1, 100, "custom_id")
    check_length(select.get("placeholder") or "", 0, 150, "placeholder")
    least, most = select.get("min_values", 1), select.get("max_values", 1)
    if not (0 <= least <= most and 1 <= most <= 25):
        raise Refusal(INVALID_FORM, "min_values", "Must be between 0 and max_values, which is 25 at most.")
    if select["type"] != STRING_SELECT:
        return
    options = select.get("options") or []
    if not 1 <= len(options) <= 25 or most > len(options):
        raise Refusal(INVALID_FORM, "options", "Must be between 1 and 25 in length, and max_values at least.")
    for option in options:
        check_length(option.get("label"), 1, 100, "options.label")
        check_length(option.get("value"), 1, 100, "options.value")
        check_length(option.get("description") or "", 0, 100, "options.description")
    _check_unique(option["value"] for option in options)


def _check_field(field: Json) -> None:
    if field["type"] in SELECTS:
        _check_select(field)
        return
    check_length(field.get("custom_id"), 1, 100, "custom_id")
    if field["type"] != TEXT_INPUT:
        return
    check_length(field.get("value") or "", 0, 4000, "value")
    check_length(field.get("placeholder") or "", 0, 100, "placeholder")
    least, most = field.get("min_length") or 0, field.get("max_length", 4000) or 4000
    if field.get("style") not in (1, 2) or not (0 <= least <= most <= 4000 and most >= 1):
        raise Refusal(INVALID_FORM, "max_length", "Must be between 1 and 4000, with a style of 1 or 2.")


def _check_v2(body: Json, components: list[Json]) -> None:
    parts = list(walk(components))
    if body.get("content") or body.get("embeds"):
        raise Refusal(INVALID_FORM, "flags", "IS_COMPONENTS_V2 forbids content and embeds.")
    if len(parts) > 40 or any(part.get("type") not in V2_LAYOUT for part in components):
        raise Refusal(INVALID_FORM, "components", "Must be 40 or fewer, of the kinds for a layout.")
    if sum(len(part.get("content", "")) for part in parts if part["type"] == TEXT_DISPLAY) > 4000:
        raise Refusal(INVALID_FORM, "components", "The displayed text must be 4000 or fewer in length.")


def _check_unique(names: Iterable[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise Refusal(INVALID_FORM, "components", f"Is there more than once: {twice}")


def _numbered(components: Iterable[Json]) -> list[Json]:
    """Copies with ids by their order, where the bot gave none."""
    numbers = iter(range(1, 1000))

    def number(part: Json) -> Json:
        copy = {"id": next(numbers), **part}
        if "components" in part:
            copy["components"] = [number(child) for child in part["components"]]
        for name in ("component", "accessory"):
            if part.get(name):
                copy[name] = number(part[name])
        return copy

    return [number(part) for part in components]
