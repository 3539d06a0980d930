"""From scenes to dialogues: which come, in which order, how many. Knows no wording."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from model.request import ChatMessage
from model.starter.corpus.arithmetic import Arithmetic
from model.starter.corpus.memory import Memory
from model.starter.corpus.names import draw_name
from model.starter.corpus.scenes import Exchange, Stage
from model.starter.corpus.words import Language, draw_planned

_FILLERS = ("thanks", "ok", "wow", "laugh", "praise", "thanks", "ok", "wow")
_SOBER_FILLERS = ("thanks", "ok")
"""What may follow a grave question, where laughter would be out of place."""
_CLOSINGS = ("thanks", "bye", "bye", "good_night", "thanks")
_OPENINGS = ("hello", "hello", "hello", "good_morning", "good_evening", "good_afternoon", "long_time")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages of user and assistant by turns, the user first; the language of the first one; the main topic."""

    messages: tuple[ChatMessage, ...]
    topic: str
    language: Language


class Mixer:
    """Composes dialogues, as `plan.toml` weighs them."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._stage = Stage(random)
        self._arithmetic = Arithmetic(self._stage, random)

    def compose(self, language: Language) -> Dialogue:
        """One dialogue of 2 to 8 turns."""
        kinds: dict[str, Callable[[Language, int], tuple[list[Exchange], str]]] = {
            "mixed": self._mix,
            "memory": self._remember,
            "untold": self._ask_untold,
            "echo": self._echo,
        }
        turns = int(draw_planned("turns", self._random))
        kind = draw_planned("dialogues", self._random)
        if kind == "speakers":
            return self._compose_speakers(language, turns)
        scene, topic = kinds[kind](language, turns)
        # In a channel every message carries a name, also where somebody says to be called otherwise.
        name = (
            draw_name(language, self._random) if kind == "memory" and self._random.random() < 0.12 else None
        )
        return Dialogue(_messages(scene, [name] * len(scene)), topic, language)

    def _mix(self, language: Language, turns: int) -> tuple[list[Exchange], str]:
        topic = draw_planned("topics", self._random)
        while topic == "follow_ups":
            topic = draw_planned("topics", self._random)
        scene = self._open(language) if topic != "greeting" and self._random.random() < 0.15 else []
        scene += self._play(language, topic, turns - len(scene))
        while len(scene) < turns:
            scene += self._continue(language, topic, turns - len(scene))
        return scene, topic

    def _continue(self, language: Language, topic: str, left: int) -> list[Exchange]:
        """What comes after something was said: more of the topic, another one, a word of thanks, a farewell."""
        dice = self._random.random()
        if dice < 0.15:
            fillers = _SOBER_FILLERS if topic == "safety" else _FILLERS
            return self._stage.play_named(language, self._random.choice(fillers), 1)
        if left == 1 and dice < 0.3:
            return self._stage.play_named(language, self._random.choice(_CLOSINGS), 1)
        if dice < 0.5:
            return self._play(language, topic, left)
        if dice < 0.53:
            language = "zh" if language == "en" else "en"
        return self._play(language, draw_planned("topics", self._random), left)

    def _remember(self, language: Language, turns: int) -> tuple[list[Exchange], str]:
        """Something is told, other things are talked about, and it is asked for."""
        memory = Memory(language, self._stage, self._random)
        scene = self._open(language) if turns > 2 and self._random.random() < 0.1 else []
        if self._random.random() < 0.08:
            scene.append(self._introduce_and_ask(language, memory))
        else:
            scene.append(memory.tell("name" if self._random.random() < 0.55 else None))
        if "name" in memory.told and turns - len(scene) > 2 and self._random.random() < 0.15:
            scene.append(memory.correct())
        while turns - len(scene) > 1 + len(memory.told) and self._random.random() < 0.4:
            scene.append(memory.tell())
        while turns - len(scene) > len(memory.told):
            scene += self._play_neutral(language, turns - len(scene) - len(memory.told))
        for kind in self._random.sample(list(memory.told), len(memory.told))[: turns - len(scene)]:
            scene.append(memory.ask(kind))
        return scene, "memory"

    def _introduce_and_ask(self, language: Language, memory: Memory) -> Exchange:
        """The person says the name and asks something in one message."""
        introduction, _ = memory.tell("name")
        question, answer = self._play_neutral(language, 1)[0]
        stop, greeting = (". ", "Hi, {}! ") if language == "en" else ("。", "你好，{}！")
        return (
            f"{introduction.rstrip('.!。！ ')}{stop}{question}",
            greeting.format(memory.told["name"]["name"]) + answer,
        )

    def _ask_untold(self, language: Language, turns: int) -> tuple[list[Exchange], str]:
        """Something is asked for that was never told; often it is told then, and asked for again."""
        memory = Memory(language, self._stage, self._random)
        scene = self._play_neutral(language, 1) if self._random.random() < 0.5 else []
        if self._random.random() < 0.3:
            scene.append(memory.tell())
        scene.append(memory.ask_untold())
        if turns - len(scene) > 1 and "name" not in memory.told and "two" not in memory.told:
            scene += [memory.tell("name"), memory.ask("name")]
        while len(scene) < turns:
            scene += self._play_neutral(language, turns - len(scene))
        return scene, "memory"

    def _echo(self, language: Language, turns: int) -> tuple[list[Exchange], str]:
        """What was said is asked for, or said again; or nothing was said before."""
        if self._random.random() < 0.15:
            scene = self._stage.play_named(language, "nothing_before", 1)
        else:
            scene = self._play_neutral(language, max(1, turns - 1))
            block, quote = self._random.choice((("said_before", 0), ("repeat_answer", 1)))
            scene.append(self._stage.play_given(language, block, {"quote": scene[-1][quote]}))
        while len(scene) < turns:
            scene += self._play_neutral(language, turns - len(scene))
        return scene, "memory"

    def _compose_speakers(self, language: Language, turns: int) -> Dialogue:
        """One to three people, named, who talk in one place; some ask who they are or what another one said."""
        people = [draw_name(language, self._random) for _ in range(self._random.choice((1, 2, 2, 3)))]
        scene: list[Exchange] = []
        speakers: list[str] = []
        while len(scene) < turns:
            speaker = self._random.choice(people)
            before = speakers[-1] if speakers else speaker
            new = self._speak(language, turns - len(scene), speaker, before, scene)
            scene += new
            speakers += [speaker] * len(new)
        return Dialogue(_messages(scene, speakers), "speakers", language)

    def _speak(
        self, language: Language, left: int, speaker: str, before: str, scene: list[Exchange]
    ) -> list[Exchange]:
        dice = self._random.random()
        if dice < 0.2:
            return [self._stage.play_given(language, "who_am_i_named", {"speaker": speaker})]
        if not scene and dice < 0.5:
            return [self._stage.play_given(language, "hello_named", {"speaker": speaker})]
        if before != speaker and dice < 0.32:
            values = {"speaker": speaker, "other": before, "quote": scene[-1][0]}
            return [
                self._stage.play_given(language, self._random.choice(("told_by_other", "who_said")), values)
            ]
        return self._play_neutral(language, left)

    def _open(self, language: Language) -> list[Exchange]:
        return self._stage.play_named(language, self._random.choice(_OPENINGS), 1)

    def _play_neutral(self, language: Language, most: int) -> list[Exchange]:
        """A scene in which the person tells nothing about themselves."""
        topic = draw_planned("topics", self._random)
        while topic in ("smalltalk", "greeting", "farewell"):
            topic = draw_planned("topics", self._random)
        return self._play(language, topic, most)

    def _play(self, language: Language, topic: str, most: int) -> list[Exchange]:
        if topic == "arithmetic":
            return self._arithmetic.play(language, most)
        return self._stage.play(language, topic, most)


def _messages(scene: list[Exchange], speakers: Sequence[str | None]) -> tuple[ChatMessage, ...]:
    messages: list[ChatMessage] = []
    for (question, answer), speaker in zip(scene, speakers, strict=True):
        messages += [ChatMessage("user", question, speaker), ChatMessage("assistant", answer)]
    return tuple(messages)
