"""Word lists, tables of facts and the plan of weights, and how they are drawn. Knows the files, and no topic."""

import tomllib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Generic, Literal, TypeVar

Language = Literal["en", "zh"]
Row = dict[str, str]
T = TypeVar("T")

UNFIT = (
    *("shit", "shyt", "fuk", "fuc", "cun", "nig", "fag", "rape", "nazi", "coc", "kok", "dic", "dik", "puss"),
    *("tit", "slut", "ass", "fart", "anal", "hore"),
)
"""Parts that no made-up name and no slip of the finger shall bring in."""

FOLDER = Path(__file__).parent


class Deck(Generic[T]):
    """Deals its cards in random order, each as often as the others: all of them before any comes again."""

    def __init__(self, cards: Sequence[T], random: Random) -> None:
        self._cards = tuple(cards)
        self._random = random
        self._left: list[T] = []

    def draw(self) -> T:
        if not self._left:
            self._left = list(self._cards)
            self._random.shuffle(self._left)
        return self._left.pop()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of facts. A column `x_en` or `x_zh` is the `x` of that language; `weight` repeats a row in the deck."""

    name: str
    rows: tuple[Row, ...]

    def weighted(self) -> Iterator[Row]:
        for row in self.rows:
            yield from [row] * int(row.get("weight", "1") or "1")


@cache
def read_table(name: str) -> Table:
    """The table `tables/NAME.tsv`: a line of column names, then one line a row, separated by tabs."""
    lines = [
        line
        for line in (FOLDER / "tables" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    columns = lines[0].split("\t")
    rows = []
    for line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ValueError(
                f"{name}.tsv: {line!r} has {len(cells)} cells, and there are {len(columns)} columns."
            )
        rows.append(dict(zip(columns, cells, strict=True)))
    return Table(name, tuple(rows))


@cache
def read_plan() -> dict[str, dict[str, float]]:
    """The weights of `plan.toml`."""
    return tomllib.loads((FOLDER / "plan.toml").read_text(encoding="utf-8"))


def draw_planned(part: str, random: Random, among: Container[str] | None = None) -> str:
    """One name of that part of the plan, by weight; only one `among` those, if any are given."""
    weights = {name: weight for name, weight in read_plan()[part].items() if among is None or name in among}
    return random.choices(list(weights), list(weights.values()))[0]


@cache
def read_words(language: Language) -> dict[str, tuple[str, ...]]:
    """Every list of `words/LANGUAGE.txt`: `[name]` begins a list, commas or new lines part its words."""
    lists: dict[str, list[str]] = {}
    name = ""
    for line in (FOLDER / "words" / f"{language}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            name = line.strip("[] ")
            lists[name] = []
        elif line.strip() and not line.startswith("#"):
            lists[name].extend(word.strip() for word in line.split(",") if word.strip())
    return {name: tuple(words) for name, words in lists.items()}
