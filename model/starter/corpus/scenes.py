"""Plays blocks: draws a row and wordings, and gives the turns. Knows how a dialogue is worded, not which come."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from model.starter.corpus.names import INVENTED, invent
from model.starter.corpus.templates import KEEP_CASE, Block, Template, Turn, expand, read_blocks, slots_of
from model.starter.corpus.wording import read_habits, typed, written
from model.starter.corpus.words import FOLDER, Deck, Language, Row, Table, read_table, read_words

Exchange = tuple[str, str]
"""What the user says, and the reply."""

_REQUESTS = frozenset(
    (
        "advice",
        "arithmetic",
        "code",
        "creative",
        "definitions",
        "knowledge",
        "science",
        "translate",
        "writing",
    )
)
"""Topics whose blocks begin with a wish for something, so that anything may stand before and after it."""


@cache
def read_all_blocks(language: Language) -> dict[str, Block]:
    """Every block of one language by its id."""
    blocks: dict[str, Block] = {}
    for path in sorted((FOLDER / language).glob("*.txt")):
        for block in read_blocks(path, read_words(language)):
            if block.id in blocks:
                raise ValueError(f"{path.name}: there are two blocks {block.id!r}.")
            blocks[block.id] = block
    return blocks


@dataclass(slots=True)
class Values:
    """What the slots of one run stand for. A slot keeps its value for the whole run."""

    language: Language
    rows: tuple[Row, ...]
    draw_word: Callable[[str], str]
    drawn: dict[str, str] = field(default_factory=dict)
    """Values that were drawn before, or given from the start."""

    def __call__(self, slot: str) -> str:
        if slot in self.drawn:
            return KEEP_CASE + self.drawn[slot]
        name, _, number = slot.partition(".")
        row = self.rows[int(number or 1) - 1] if self.rows else {}
        for column in (name, f"{name}_{self.language}"):
            if column in row:
                return row[column]
        self.drawn[slot] = self._draw_new(name)
        return KEEP_CASE + self.drawn[slot]

    def _draw_new(self, name: str) -> str:
        for _ in range(20):
            word = self.draw_word(name)
            if word not in self.drawn.values():
                return word
        return word


class Stage:
    """Plays the blocks of both languages, dealing rows, questions, answers and words evenly."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rows: dict[tuple[Language, str], Deck[Row]] = {}
        self._templates: dict[int, Deck[Template]] = {}
        self._words: dict[tuple[Language, str], Deck[str]] = {}
        self._by_topic: dict[tuple[Language, str], Deck[Block]] = {}
        for language in ("en", "zh"):
            self._fill_topics(language)

    def play(self, language: Language, topic: str, most: int) -> list[Exchange]:
        """One run of a block of `topic`: one to `most` turns."""
        return self.play_block(language, self._by_topic[language, topic].draw(), most)

    def play_named(self, language: Language, block_id: str, most: int) -> list[Exchange]:
        """One run of the block of that id."""
        return self.play_block(language, read_all_blocks(language)[block_id], most)

    def play_given(self, language: Language, block_id: str, given: dict[str, str]) -> Exchange:
        """The first turn of one block, with the values that are `given`."""
        return self.play_block(language, read_all_blocks(language)[block_id], 1, given)[0]

    def play_block(
        self, language: Language, block: Block, most: int, given: dict[str, str] | None = None
    ) -> list[Exchange]:
        rows = self._draw_rows(language, block)
        values = Values(language, rows, lambda name: self.draw_word(language, name), dict(given or {}))
        exchanges = [
            (
                typed(
                    self._word(turn.questions, values),
                    language,
                    self._random,
                    plain=block.plain,
                    request=block.topic in _REQUESTS and turn is block.turns[0],
                ),
                written(self._word(turn.answers, values), language),
            )
            for turn in self._choose_turns(block, most)
        ]
        if block.translated and len(exchanges) == 1 < most and self._random.random() < 0.15:
            exchanges.append(self._say_again(block, values))
        return exchanges

    def draw_word(self, language: Language, name: str) -> str:
        """A word of the list `name`, or a made-up one."""
        if name in INVENTED:
            return invent(name, language, self._random)
        key = (language, name)
        if key not in self._words:
            self._words[key] = Deck(read_words(language)[name], self._random)
        return self._words[key].draw()

    def _fill_topics(self, language: Language) -> None:
        blocks: dict[str, list[Block]] = {}
        for block in read_all_blocks(language).values():
            blocks.setdefault(block.topic, []).extend([block] * max(1, round(block.weight * 2)))
        for topic, cards in blocks.items():
            self._by_topic[language, topic] = Deck(cards, self._random)

    def _draw_rows(self, language: Language, block: Block) -> tuple[Row, ...]:
        if block.table is None:
            return ()
        key = (language, block.id)
        if key not in self._rows:
            self._rows[key] = Deck(tuple(usable_rows(read_table(block.table), block, language)), self._random)
        first = self._rows[key].draw()
        others: list[Row] = []
        while len(others) < 2:
            row = self._random.choice(read_table(block.table).rows)
            if row is not first and row not in others and all(row.values()):
                others.append(row)
        return (first, *others)

    def _choose_turns(self, block: Block, most: int) -> list[Turn]:
        first, *later = block.turns
        if block.chain:
            wanted = 1 if not later else min(most, 1 + sum(self._random.random() < 0.75 for _ in later))
            return [first, *later[: wanted - 1]]
        follow_ups = [turn for turn in later if self._random.random() < 0.5 / max(1, len(later) - 1)]
        self._random.shuffle(follow_ups)
        return [first, *follow_ups[: most - 1]]

    def _say_again(self, block: Block, values: Values) -> Exchange:
        other: Language = "zh" if values.language == "en" else "en"
        answers = read_all_blocks(other)[block.id].turns[0].answers
        other_values = Values(other, values.rows, lambda name: self.draw_word(other, name))
        wish: str = self._random.choice(read_habits(values.language)["in_other_language"])
        question = typed(wish, values.language, self._random, plain=True)
        return question, written(expand(self._random.choice(answers), self._random, other_values), other)

    def _word(self, templates: tuple[Template, ...], values: Values) -> str:
        key = id(templates)
        if key not in self._templates:
            self._templates[key] = Deck(templates, self._random)
        return expand(self._templates[key].draw(), self._random, values)


def usable_rows(table: Table, block: Block, language: Language) -> list[Row]:
    """The rows, as often as their weight says, that have every column which `block` speaks of."""
    slots = {
        slot.partition(".")[0]
        for turn in block.turns
        for template in (*turn.questions, *turn.answers)
        for slot in slots_of(template)
    }
    columns = {name for slot in slots for name in (slot, f"{slot}_{language}")}
    return [row for row in table.weighted() if all(row[column] for column in columns if column in row)]
