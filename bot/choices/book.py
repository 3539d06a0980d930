"""What was chosen in a workspace, kept at hand: asked for with every message, and changed seldom."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bot.chat import Author, ConversationKey, PlatformName
from bot.choices.resolve import Chosen, Layer, Scope, resolve
from bot.choices.table import SAMPLING
from bot.permissions import Need, Permission, Rule, Standing, permit
from bot.settings import Settings
from model.request import EngineHealth, SamplingParams
from storage.choices import WorkspaceChoices, read_choices
from storage.database import Database

FRESH_SECONDS = 5.0
"""How long another process's change may go unnoticed. Our own changes count at once."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Somebody at some place: what decides which settings hold."""

    conversation: ConversationKey
    author: Author
    category: str = ""
    private: bool = False

    def ids(self) -> dict[Scope, str]:
        """The platform's id for each scope that there is here."""
        ids: dict[Scope, str] = {
            "workspace": "",
            "channel": self.conversation.channel,
            "person": self.author.id,
        }
        if self.category:
            ids["category"] = self.category
        if self.conversation.thread:
            ids["thread"] = self.conversation.thread
        return ids


class Book:
    """All that was chosen in one workspace."""

    def __init__(self, found: WorkspaceChoices) -> None:
        self.rules = [Rule(rule.need, rule.kind, rule.subject, rule.allow) for rule in found.rules]
        self._values: dict[tuple[Scope, str], dict[str, str]] = {}
        for choice in found.choices:
            self._values.setdefault((choice.scope, choice.scope_id), {})[choice.name] = choice.value
        self._bundles = {(bundle.owner, bundle.name): bundle.values for bundle in found.bundles}

    def at(self, scope: Scope, scope_id: str) -> Mapping[str, str]:
        """What was chosen at exactly that place, as it was typed; a bound bundle is `bundle`."""
        return self._values.get((scope, scope_id), {})

    def bundle(self, name: str, *, owner: str = "") -> Mapping[str, str] | None:
        return self._bundles.get((owner, name))

    def bundles(self, *, owner: str = "") -> list[str]:
        return [name for of, name in self._bundles if of == owner]

    def resolve(self, defaults: Mapping[str, Chosen], spot: Spot) -> dict[str, Chosen]:
        """Every setting with its value and source there."""
        return resolve(defaults, [self._layer(scope, scope_id) for scope, scope_id in spot.ids().items()])

    def permit(self, need: Need, spot: Spot) -> Permission:
        """In a conversation with the bot alone, everything that touches nobody else is allowed."""
        if spot.private and need == "administer":
            return Permission(True, "nobody else is here")
        place = spot.conversation
        standing = Standing(
            person=spot.author.id,
            channels=tuple(one for one in (place.channel, place.thread, spot.category) if one),
            roles=spot.author.roles,
            manages=spot.author.manages,
            moderates=spot.author.moderates,
        )
        return permit(need, standing, self.rules)

    def _layer(self, scope: Scope, scope_id: str) -> Layer:
        values = self.at(scope, scope_id)
        name = values.get("bundle")
        bundle = self.bundle(name) if name else None
        return Layer(scope, values, name if bundle is not None else None, bundle or {})


class Books:
    """The book of each workspace, read again when it is old or was changed here."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._books: dict[tuple[PlatformName, str], tuple[float, Book]] = {}

    async def of(self, place: ConversationKey) -> Book:
        """Raises `StorageError`."""
        key = (place.platform, place.workspace)
        kept = self._books.get(key)
        if kept is not None and time.monotonic() - kept[0] < FRESH_SECONDS:
            return kept[1]
        book = Book(await self._database.read(read_choices, place.platform, place.workspace))
        self._books[key] = (time.monotonic(), book)
        return book

    def changed(self, place: ConversationKey) -> None:
        self._books.pop((place.platform, place.workspace), None)

    async def resolve(self, spot: Spot, health: EngineHealth) -> dict[str, Chosen]:
        book = await self.of(spot.conversation)
        return book.resolve(defaults(self._settings, health), spot)


def defaults(settings: Settings, health: EngineHealth) -> dict[str, Chosen]:
    """Before anybody chooses: Parley's own values, then the model's, then those of the installation."""
    plain = asdict(SamplingParams())
    own = {name: plain[name] for name in SAMPLING}
    installed = {name: getattr(settings, name, None) for name in ("persona", "thinking", *SAMPLING)}
    chosen = {
        name: Chosen(value, "Parley's default") for name, value in own.items() if value not in (None, ())
    }
    chosen["talk"] = Chosen("threads", "Parley's default")
    chosen["conversation"] = Chosen("shared", "Parley's default")
    recommended = dict(health.sampling_defaults)
    chosen |= {name: Chosen(value, "the model") for name, value in recommended.items() if name in SAMPLING}
    chosen |= {
        name: Chosen(value, "the installation") for name, value in installed.items() if value is not None
    }
    return chosen


def sampling_of(chosen: Mapping[str, Chosen]) -> SamplingParams:
    """What the engine is told. Raises `BadRequest` where values that are each allowed do not go together."""
    values: dict[str, Any] = {name: chosen[name].value for name in SAMPLING if name in chosen}
    return SamplingParams.from_mapping(values)


def text_of(chosen: Mapping[str, Chosen], name: str) -> str:
    value = chosen.get(name)
    return str(value.value) if value is not None else ""


def thinking_of(chosen: Mapping[str, Chosen]) -> Literal["hidden", "folded", "shown"]:
    words: dict[str, Literal["hidden", "folded", "shown"]] = {"folded": "folded", "shown": "shown"}
    return words.get(text_of(chosen, "thinking"), "hidden")
