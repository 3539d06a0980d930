"""What the starter learns to talk from: dialogues in English and Chinese, made from the files in this folder.

`en/` and `zh/` hold the wordings (the notation stands in `templates`), `tables/` the facts of both languages,
`words/` the lists, and `plan.toml` says how often each comes. `python -m model.starter.corpus OUT.jsonl` writes them.
"""

from collections.abc import Iterator
from random import Random

from model.request import ChatMessage
from model.starter.corpus.mixing import Dialogue, Mixer
from model.starter.corpus.words import Language

__all__ = ["COUNT", "Dialogue", "dialogues"]

COUNT = 100_000
"""How many dialogues the shipped starter learns from."""


def dialogues(seed: int = 0, count: int | None = None) -> Iterator[Dialogue]:
    """`count` distinct dialogues (`COUNT` if None), half of them in each language; the same for the same seed."""
    mixer = Mixer(Random(seed))
    seen: set[tuple[ChatMessage, ...]] = set()
    languages: tuple[Language, ...] = ("en", "zh")
    for number in range(COUNT if count is None else count):
        dialogue = mixer.compose(languages[number % 2])
        while dialogue.messages in seen:
            dialogue = mixer.compose(languages[number % 2])
        seen.add(dialogue.messages)
        yield dialogue
