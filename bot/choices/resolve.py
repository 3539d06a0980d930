"""Which value of each setting holds at a place for a person, and where it comes from. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bot.choices.table import SAMPLING, SETTINGS, Value, read_setting, read_span

Scope = Literal["workspace", "category", "channel", "thread", "person"]
SCOPES: tuple[Scope, ...] = ("workspace", "category", "channel", "thread", "person")
"""From the widest to the narrowest; a narrower one overrides."""

_NAMES: Mapping[Scope, str] = {
    "workspace": "this workspace",
    "category": "this category",
    "channel": "this channel",
    "thread": "this thread",
    "person": "you",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """What was chosen at one scope: a bundle that is bound there, and single settings, which override it."""

    scope: Scope
    values: Mapping[str, str]
    bundle: str | None = None
    bundle_values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and its origin, as a part of a sentence: "this channel", "the bundle tutor, for this channel"."""

    value: Value
    source: str


def resolve(defaults: Mapping[str, Chosen], layers: Iterable[Layer]) -> dict[str, Chosen]:
    """All settings that have a value, by name. What an older version stored and nobody can read now is left out.

    A person chooses only how words are drawn, and only within the limits that hold at the place.
    """
    chosen = dict(defaults)
    for layer in sorted(layers, key=lambda layer: SCOPES.index(layer.scope)):
        where = _NAMES[layer.scope]
        for values, source in (
            (layer.bundle_values, f"the bundle {layer.bundle}, for {where}"),
            (layer.values, where),
        ):
            for name, text in values.items():
                value = _read(name, text)
                if value is not None and (layer.scope != "person" or name in SAMPLING):
                    chosen[name] = Chosen(value, source)
    for name in SAMPLING:
        if name in chosen:
            chosen[name] = limited(name, chosen[name], chosen.get(f"{name}_limit"))
    return {name: chosen[name] for name in SETTINGS if name in chosen}


def limited(name: str, chosen: Chosen, limit: Chosen | None) -> Chosen:
    """The nearest value that a limit allows."""
    if limit is None or not isinstance(chosen.value, int | float):
        return chosen
    span = read_span(str(limit.value))
    value = min(max(chosen.value, span.lowest), span.highest)
    if value == chosen.value:
        return chosen
    kept = int(value) if isinstance(chosen.value, int) else value
    return Chosen(kept, f"the limit {limit.value} of {limit.source}; {chosen.source} chose {chosen.value:g}")


def outside_limit(name: str, value: Value, chosen: Mapping[str, Chosen]) -> str | None:
    """The sentence for somebody who chose what the limits forbid."""
    limit = chosen.get(f"{name}_limit")
    if limit is None or not isinstance(value, int | float):
        return None
    span = read_span(str(limit.value))
    if span.lowest <= value <= span.highest:
        return None
    return f"{name} may be {limit.value} here ({limit.source}), and {value:g} is outside that."


def describe(chosen: Mapping[str, Chosen], names: Sequence[str] | None = None) -> str:
    """One line a setting: its value and its source."""
    return "\n".join(
        f"{name}: {_shown(entry.value)} ({entry.source})"
        for name, entry in chosen.items()
        if names is None or name in names
    )


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " | ".join(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _read(name: str, text: str) -> Value | None:
    try:
        return read_setting(name, text)
    except ValueError:
        return None
