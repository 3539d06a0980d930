"""What a person tells and asks back later: plays `memory.txt` so that every recalled value is the one told."""

from dataclasses import dataclass, field
from random import Random

from model.starter.corpus.names import draw_name, draw_secret
from model.starter.corpus.scenes import Exchange, Stage, read_all_blocks
from model.starter.corpus.wording import read_habits
from model.starter.corpus.words import Language, draw_planned, read_plan

_UNTOLD = (
    *("name", "name", "name", "colour", "pet", "city", "age", "job", "hobby", "food", "person"),
    *("drink", "sport", "music", "land", "month", "number"),
)

_SAME = {
    "name": frozenset(("two",)),
    "city": frozenset(("two", "land")),
    "land": frozenset(("two", "city")),
    "two": frozenset(("name", "city", "land")),
    "number": frozenset(("code", "age")),
    "code": frozenset(("number",)),
    "age": frozenset(("number",)),
}
"""Kinds that one question would ask for; only one of them is told in a dialogue."""


@dataclass(slots=True)
class Memory:
    """One person's facts in one dialogue. `told` maps a kind to the values of its slots."""

    language: Language
    stage: Stage
    random: Random
    told: dict[str, dict[str, str]] = field(default_factory=dict)

    def tell(self, kind: str | None = None) -> Exchange:
        """The person tells a fact, of a kind not told before if none is named."""
        if kind is None:
            kinds = [kind for kind in read_plan()["memory"] if self._can_tell(kind) and not self._knows(kind)]
            kind = draw_planned("memory", self.random, kinds)
        self.told[kind] = self._draw(kind)
        return self._play(f"tell_{kind}", self.told[kind])

    def correct(self) -> Exchange:
        """The person takes another name than the one told before."""
        old = self.told["name"]["name"]
        new = self._person()
        while new.lower() == old.lower():
            new = self._person()
        self.told["name"] = {"name": new}
        return self._play("correct_name", {"name": old, "new_name": new})

    def ask(self, kind: str) -> Exchange:
        """The person asks for what was told, and is answered rightly."""
        alternatives = {"pet": ("pet", "pet", "pet_kind"), "two": ("two", "name", "city")}
        return self._play(f"ask_{self.random.choice(alternatives.get(kind, (kind,)))}", self.told[kind])

    def ask_untold(self) -> Exchange:
        """The person asks for something that was never told, and hears so."""
        kind = self.random.choice(
            [kind for kind in _UNTOLD if self._can_tell(kind) and not self._knows(kind)]
        )
        question, _ = self._play(f"ask_{kind}", self._draw(kind), untold=True)
        return question, self._play(f"not_told_{kind}", {})[1]

    def _can_tell(self, kind: str) -> bool:
        """Whether the person's language has words for a fact of that kind."""
        return f"tell_{kind}" in read_all_blocks(self.language)

    def _knows(self, kind: str) -> bool:
        return kind in self.told or bool(_SAME.get(kind, frozenset()) & set(self.told))

    def _play(self, block: str, values: dict[str, str], *, untold: bool = False) -> Exchange:
        hints = read_habits(self.language)["presupposing"]
        for _ in range(20):
            exchange = self.stage.play_given(self.language, block, values)
            # A question about an untold fact must not presuppose that it was told.
            if not untold or not any(hint in exchange[0].lower() for hint in hints):
                break
        return exchange

    def _draw(self, kind: str) -> dict[str, str]:
        word = self.stage.draw_word
        match kind:
            case "name":
                return {"name": self._person()}
            case "two":
                return {"name": self._person(), "city": word(self.language, "city")}
            case "pet":
                return {"pet": word(self.language, "pet"), "pet_name": self._pet_name()}
            case "age":
                return {"age": str(self.random.randint(6, 95))}
            case "number":
                return {"number": str(self.random.randint(1, 99))}
            case "person":
                return {"kin": word(self.language, "kin"), "name": self._person()}
            case "code":
                return {"word": draw_secret(self.language, self.random)}
            case _:
                return {kind: word(self.language, kind)}

    def _person(self) -> str:
        name = draw_name(self.language, self.random)
        return name.lower() if self.random.random() < 0.12 else name

    def _pet_name(self) -> str:
        if self.random.random() < 0.5:
            return self.stage.draw_word(self.language, "pet_name")
        return draw_name(self.language, self.random)
