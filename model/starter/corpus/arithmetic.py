"""Sums and letters: draws problems, works them out, and plays `arithmetic.txt` with them."""

from random import Random
from string import ascii_uppercase

from model.starter.corpus.numerals import in_words
from model.starter.corpus.scenes import Exchange, Stage, read_all_blocks
from model.starter.corpus.words import Deck, Language, draw_planned, read_table

Problem = tuple[str, int, int, int]
"""The operation, its two numbers, and the result."""


class Arithmetic:
    """Plays problems of both languages; every problem of the times tables and of small sums comes before any again."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self._stage = stage
        self._random = random
        self._problems = {language: Deck(tuple(_everyday_problems()), random) for language in ("en", "zh")}
        self._large = {language: Deck(tuple(_large_problems()), random) for language in ("en", "zh")}
        words = [
            row["word"]
            for row in read_table("dictionary").rows
            if row["word"].isalpha() and row["word"].islower()
        ]
        self._words = Deck([word for word in words if len(word) > 2], random)

    def play(self, language: Language, most: int) -> list[Exchange]:
        """A problem, and perhaps others that go on from its result."""
        if self._random.random() < 0.2:
            return [self._play_small(language, draw_planned("problems", self._random))]
        deck = self._problems if self._random.random() < 0.82 else self._large
        kind, a, b, c = deck[language].draw()
        in_numerals = self._random.random() < 0.75
        scene = [
            self._play_digits(language, kind, a, b, c)
            if in_numerals
            else self._play_words(language, kind, a, b, c)
        ]
        while len(scene) < most and 0 < c < 100 and self._random.random() < 0.4:
            further, c = self._go_on(language, c)
            scene.append(further)
        return scene

    def _play_digits(self, language: Language, kind: str, a: int, b: int, c: int) -> Exchange:
        return self._stage.play_given(language, kind, _values(a, b, c))

    def _play_words(self, language: Language, kind: str, a: int, b: int, c: int) -> Exchange:
        worded = {key: in_words(number, language) for key, number in (("a", a), ("b", b), ("c", c))}
        return self._stage.play_given(
            language, f"{kind}_words", {**worded, "da": str(a), "db": str(b), "dc": str(c)}
        )

    def _go_on(self, language: Language, result: int) -> tuple[Exchange, int]:
        """A problem that takes `result` further, and what comes out."""
        steps: dict[str, Problem] = {}
        step = self._random.randint(1, min(20, result))
        steps["more"] = ("more", result, step, result + step)
        steps["less"] = ("less", result, step, result - step)
        steps["doubled"] = ("doubled", result, 2, result * 2)
        if result % 2 == 0:
            steps["halved"] = ("halved", result, 2, result // 2)
        if result <= 12:
            factor = self._random.randint(2, 10)
            steps["times_more"] = ("times_more", result, factor, result * factor)
        kinds = [kind for kind in steps if kind in read_all_blocks(language)]
        problem = steps[self._random.choice(kinds)]
        return self._play_digits(language, *problem), problem[3]

    def _play_small(self, language: Language, kind: str) -> Exchange:
        if kind in ("letters", "spell", "first_letter", "last_letter", "reverse"):
            return self._stage.play_given(language, kind, self._letters(kind))
        return self._stage.play_given(language, kind, self._numbers(language, kind))

    def _numbers(self, language: Language, kind: str) -> dict[str, str]:
        """The values of a small problem of that kind, worked out."""
        number = self._random.randint
        a, b = number(1, 100), number(1, 100)
        match kind:
            case "bigger" | "smaller":
                b = b if b != a else a + 1
                return _values(a, b, max(a, b) if kind == "bigger" else min(a, b))
            case "after_number" | "before_number":
                return _values(a, b, a + 1 if kind == "after_number" else a - 1)
            case "double" | "half":
                return _values(a, b, 2 * a) if kind == "double" else _values(2 * a, b, a)
            case "square" | "root":
                a = number(1, 15)
                return _values(a, b, a * a) if kind == "square" else _values(a * a, b, a)
            case "story_add" | "check_true" | "check_false":
                a, b = number(2, 30), number(2, 30)
                wrong = a + b + self._random.choice((-1, 1, 2, 10))
                return {**_values(a, b, a + b), "d": str(wrong)}
            case "story_subtract":
                b = number(1, 20)
                a = b + number(2, 20)
                return _values(a, b, a - b)
            case "count_to" | "count_down":
                a = number(3, 15)
                counted = range(1, a + 1) if kind == "count_to" else range(a, 0, -1)
                return {"a": str(a), "c": ", ".join(map(str, counted))}
            case "even_odd":
                parity = ("even", "odd") if language == "en" else ("偶数", "奇数")
                return {"a": str(a), "c": parity[a % 2]}
            case "sequence":
                first, step = number(0, 20), number(1, 10)
                terms = [first + step * index for index in range(5)]
                return {"s": ", ".join(map(str, terms[:4])), "c": str(terms[4])}
            case "minutes_in" | "days_in":
                a = number(2, 10)
                return _values(a, b, a * (60 if kind == "minutes_in" else 7))
            case "next_letter":
                at = number(0, 24)
                return {"a": ascii_uppercase[at], "c": ascii_uppercase[at + 1]}
            case "add_three":
                a, b, d = number(1, 20), number(1, 20), number(1, 20)
                return {**_values(a, b, a + b + d), "d": str(d)}
            case "price":
                a, b = number(2, 10), number(2, 10)
                return _values(a, b, a * b)
            case "share":
                b, each = number(2, 10), number(1, 10)
                return _values(b * each, b, each)
            case _:
                return _values(a, b, 0)

    def _letters(self, kind: str) -> dict[str, str]:
        word = self._words.draw()
        results = {
            "letters": str(len(word)),
            "first_letter": word[0],
            "last_letter": word[-1],
            "reverse": word[::-1],
        }
        return {"a": word, "c": results.get(kind, ""), "s": "-".join(word)}


def _values(a: int, b: int, c: int) -> dict[str, str]:
    return {"a": str(a), "b": str(b), "c": str(c)}


def _everyday_problems() -> list[Problem]:
    """The tables up to 12, sums of numbers up to 20, and their differences."""
    problems: list[Problem] = []
    for a in range(21):
        problems += [("add", a, b, a + b) for b in range(21)]
        problems += [("subtract", a, b, a - b) for b in range(a + 1)]
    for a in range(1, 13):
        problems += [("multiply", a, b, a * b) for b in range(1, 13)]
        problems += [("divide", a * b, b, a) for b in range(1, 11) if a <= 10]
    problems += [("multiply", a, 0, 0) for a in range(1, 6)]
    return problems


def _large_problems() -> list[Problem]:
    """Sums and differences of numbers up to 100."""
    sums: list[Problem] = [
        ("add", a, b, a + b)
        for a in range(1, 101)
        for b in range(1, 101)
        if a + b <= 100 or a % 10 == 0 == b % 10
    ]
    differences: list[Problem] = [("subtract", a, b, a - b) for a in range(11, 101) for b in range(1, a, 2)]
    below_zero: list[Problem] = [("subtract", a, b, a - b) for a in range(10) for b in range(a + 1, 13)]
    return sums + differences + below_zero
