"""The buttons under an answer, as the core knows them: what they are called, what they mean, who may press them."""

import re
from dataclasses import dataclass
from typing import Literal

Name = Literal["stop", "regenerate", "continue", "previous", "next", "why", "context", "up", "down"]

_PRESSED = re.compile(r"parley:(?P<name>[a-z]+):(?P<inbox>\d{1,18})(?::(?P<candidate>\d{1,18}))?")
_NAMES: dict[str, Name] = {
    name: name
    for name in ("stop", "regenerate", "continue", "previous", "next", "why", "context", "up", "down")
}
FOR_OWNERS: frozenset[Name] = frozenset({"stop", "regenerate", "continue", "previous", "next"})
"""Only for who asked, and for moderators. What only the presser sees, and ratings, are for everybody."""


@dataclass(frozen=True, slots=True)
class Button:
    """One button. `id` is what the platform sends back when it is pressed, also after a restart."""

    name: Name
    id: str
    label: str
    works: bool = True
    """False where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Controls:
    """The buttons of one answer: while it is being written, or afterwards. `candidates` are the ids of the answers to
    the question, the oldest first; `shown` is the one that stands there."""

    inbox_id: int
    live: bool = False
    candidates: tuple[int, ...] = ()
    shown: int | None = None

    def rows(self) -> list[list[Button]]:
        """At most five buttons a row."""
        if self.live:
            return [[self._button("stop", "Stop")]]
        first = [self._button("regenerate", "Again"), self._button("continue", "Continue")]
        if len(self.candidates) > 1 and self.shown in self.candidates:
            at = self.candidates.index(self.shown)
            count = f"{at + 1}/{len(self.candidates)}"
            first += [
                self._turn("previous", f"◀ {count}", at - 1),
                self._turn("next", f"{count} ▶", at + 1),
            ]
        return [
            first,
            [
                self._button("why", "Why?"),
                self._button("context", "What I saw"),
                self._button("up", "👍"),
                self._button("down", "👎"),
            ],
        ]

    def _button(self, name: Name, label: str) -> Button:
        return Button(name, f"parley:{name}:{self.inbox_id}", label)

    def _turn(self, name: Name, label: str, at: int) -> Button:
        works = 0 <= at < len(self.candidates)
        candidate = self.candidates[at] if works else 0
        return Button(name, f"parley:{name}:{self.inbox_id}:{candidate}", label, works)


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a button's id says."""

    name: Name
    inbox_id: int
    candidate: int | None = None


def read_button(identifier: str) -> Pressed | None:
    """None for what is no button of ours."""
    match = _PRESSED.fullmatch(identifier)
    if match is None or match["name"] not in _NAMES:
        return None
    candidate = int(match["candidate"]) if match["candidate"] else None
    return Pressed(_NAMES[match["name"]], int(match["inbox"]), candidate)
