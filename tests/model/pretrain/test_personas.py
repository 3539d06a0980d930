from collections import Counter

from bot.settings import DEFAULT_PERSONA as BOT_PERSONA
from model.pretrain.corpus import Dialogue
from model.pretrain.personas import DEFAULT_PERSONA, dress
from model.request import ChatMessage


def ask(content: str, name: str | None = None) -> Dialogue:
    return Dialogue((ChatMessage("user", content, name), ChatMessage("assistant", "Yes.")))


def test_the_persona_is_the_one_that_the_bot_sends() -> None:
    assert DEFAULT_PERSONA == BOT_PERSONA


def test_many_dialogues_get_the_default_persona_some_another_and_some_none() -> None:
    dressed = [dress(ask(f"Is {number} a number?")).messages[0] for number in range(2000)]
    kinds = Counter(
        "none" if first.role == "user" else "default" if first.content == DEFAULT_PERSONA else "other"
        for first in dressed
    )
    assert 0.41 < kinds["default"] / 2000 < 0.49
    assert 0.11 < kinds["other"] / 2000 < 0.19


def test_a_fifth_of_the_dialogues_tell_who_speaks_unless_they_speak_of_names() -> None:
    named = sum(dress(ask(f"Is {number} a number?")).messages[-2].name is not None for number in range(2000))
    assert 0.16 < named / 2000 < 0.24
    assert all(
        dress(ask(f"{number}: what is my name?")).messages[-2].name is None
        and dress(ask(f"{number}：我叫什么？")).messages[-2].name is None
        for number in range(200)
    )


def test_what_a_dialogue_brings_along_stays() -> None:
    for number in range(100):
        own = Dialogue((ChatMessage("system", "Be a pirate."), *ask(f"{number}?", "Ann").messages))
        assert dress(own) == own


def test_a_dialogue_is_always_dressed_alike() -> None:
    assert all(dress(ask(f"{number}?")) == dress(ask(f"{number}?")) for number in range(100))
