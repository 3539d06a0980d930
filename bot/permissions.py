"""Who may do what: rules for everyone, roles, channels and persons; the narrowest rule decides."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Need = Literal["chat", "command", "moderate", "administer"]
SubjectKind = Literal["everyone", "channel", "role", "person"]
"""From the widest to the narrowest."""

_WIDTH: dict[SubjectKind, int] = {"everyone": 0, "channel": 1, "role": 2, "person": 3}
_OPEN_TO_ALL: frozenset[Need] = frozenset({"chat", "command"})
_FOR_MODERATORS: frozenset[Need] = frozenset({"chat", "command", "moderate"})
_WORDS: dict[Need, str] = {
    "chat": "talk with me here",
    "command": "use my commands here",
    "moderate": "do what moderators do",
    "administer": "change my settings",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`subject` is the platform's id; empty for everyone."""

    need: Need
    kind: SubjectKind
    subject: str
    allow: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Somebody, at some place. `manages` and `moderates` are what the platform itself grants."""

    person: str
    channels: tuple[str, ...]
    """The channel, and the thread or category that it is in."""
    roles: tuple[str, ...] = ()
    manages: bool = False
    moderates: bool = False


@dataclass(frozen=True, slots=True)
class Permission:
    allowed: bool
    because: str
    """A part of a sentence: "a rule for everyone"."""


def permit(need: Need, standing: Standing, rules: Iterable[Rule]) -> Permission:
    """Whoever manages the workspace may do everything. Else the narrowest rule that fits decides, and of several
    equally narrow ones a denial; without a rule, everybody may chat and use commands.
    """
    if standing.manages:
        return Permission(True, "you manage this workspace")
    fitting = [rule for rule in rules if rule.need == need and _fits(rule, standing)]
    if fitting:
        narrowest = max(_WIDTH[rule.kind] for rule in fitting)
        deciding = [rule for rule in fitting if _WIDTH[rule.kind] == narrowest]
        allowed = all(rule.allow for rule in deciding)
        return Permission(allowed, _describe(next(rule for rule in deciding if rule.allow == allowed)))
    if standing.moderates and need in _FOR_MODERATORS:
        return Permission(True, "you moderate this workspace")
    if need in _OPEN_TO_ALL:
        return Permission(True, "everybody may")
    return Permission(False, "only those may who manage this workspace or were allowed to")


def refusal(need: Need, permission: Permission) -> str:
    """The sentence for somebody who may not."""
    return f"You may not {_WORDS[need]}: {permission.because}."


def _fits(rule: Rule, standing: Standing) -> bool:
    match rule.kind:
        case "everyone":
            return True
        case "channel":
            return rule.subject in standing.channels
        case "role":
            return rule.subject in standing.roles
        case "person":
            return rule.subject == standing.person


def _describe(rule: Rule) -> str:
    subject = (
        "everyone" if rule.kind == "everyone" else f"{'you' if rule.kind == 'person' else f'a {rule.kind}'}"
    )
    return f"there is a rule for {subject}"
