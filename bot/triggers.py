"""When Parley talks: a pure decision with its reason, from what is known of a message. Every reason is stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bot.chat import Via
from bot.choices.resolve import Chosen
from bot.choices.table import QuietHours, read_quiet_hours

Talk = Literal["off", "called", "threads", "lively"]

SOFT_BOT_TURNS, HARD_BOT_TURNS = 20, 100
"""Turns between bots with no person in between: after the first they get rare, after the second none is answered."""
RECOVERY = timedelta(minutes=10)
"""After talking unasked, the chance begins at nothing and has its full size again after this time."""

_CALLED: dict[Via, str] = {
    "mention": "you mentioned me",
    "reply": "you replied to me",
    "dm": "this is a direct message",
    "command": "you used a command",
    "button": "you pressed a button",
}


@dataclass(frozen=True, slots=True)
class Habits:
    """The settings of a place that matter here."""

    talk: Talk = "threads"
    wake: tuple[str, ...] = ()
    chance: float = 0.05
    most_unasked: int = 4
    quiet: QuietHours | None = None
    answers_bots: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A message and its surroundings. `via` is None where nothing addressed the bot."""

    message_id: str
    text: str
    via: Via | None
    from_bot: bool = False
    for_others: bool = False
    """It begins by mentioning somebody else, or replies to them."""
    takes_part: bool = False
    """The bot has spoken in this thread."""
    bot_turns: int = 0
    """Bots' messages that the bot answered in a row."""
    unasked_at: tuple[datetime, ...] = ()
    """When it talked unasked here in the last hour."""
    at: datetime = datetime.min
    """In the time zone of the place."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` completes "I answered because ..." or "I said nothing because ..."."""

    speak: bool
    reason: str
    unasked: bool = False


def habits_of(chosen: Mapping[str, Chosen]) -> Habits:
    """From the settings of a place; what nobody chose is as above."""
    values = {name: entry.value for name, entry in chosen.items()}
    plain = Habits()
    quiet = values.get("quiet")
    return Habits(
        talk=_TALKS.get(str(values.get("talk")), plain.talk),
        wake=wake if isinstance(wake := values.get("wake"), tuple) else (),
        chance=float(str(values.get("chance", plain.chance))),
        most_unasked=int(str(values.get("most_unasked", plain.most_unasked))),
        quiet=read_quiet_hours(str(quiet)) if quiet is not None else None,
        answers_bots=bool(values.get("bots", False)),
    )


_TALKS: dict[str, Talk] = {"off": "off", "called": "called", "threads": "threads", "lively": "lively"}


def judge(heard: Heard, habits: Habits) -> Judgement:
    """The same message in the same surroundings always gets the same judgement: its id is the die."""
    if heard.from_bot:
        stopped = _judge_bot(heard, habits)
        if stopped is not None:
            return stopped
    if habits.talk == "off" and heard.via not in ("dm", "command", "button"):
        return Judgement(False, "I am switched off in this channel")
    if heard.via in _CALLED:
        return Judgement(True, _CALLED[heard.via])
    word = _wake_word(heard.text, habits.wake)
    if word is not None:
        return Judgement(True, f"you said {word!r}")
    if heard.for_others:
        return Judgement(False, "it was meant for somebody else")
    if heard.via == "thread" and heard.takes_part:
        if habits.talk == "called":
            return Judgement(False, "in this channel I answer only when I am addressed")
        return Judgement(True, "I take part in this thread")
    if habits.talk == "lively":
        return _judge_unasked(heard, habits)
    return Judgement(False, "nobody addressed me")


def draw(message_id: str) -> float:
    """From 0 to below 1, evenly, and the same for the same message."""
    return int.from_bytes(hashlib.sha256(message_id.encode()).digest()[:6]) / 2**48


def _judge_bot(heard: Heard, habits: Habits) -> Judgement | None:
    """None where a bot is treated like a person."""
    if not habits.answers_bots:
        return Judgement(False, "I do not answer other bots here")
    if heard.bot_turns >= HARD_BOT_TURNS:
        return Judgement(False, f"bots have talked for {heard.bot_turns} turns without a person")
    if heard.bot_turns >= SOFT_BOT_TURNS and draw(heard.message_id) >= 0.25:
        return Judgement(False, f"bots have talked for {heard.bot_turns} turns, and I withdraw slowly")
    return None


def _judge_unasked(heard: Heard, habits: Habits) -> Judgement:
    if habits.quiet is not None and habits.quiet.covers(heard.at.time()):
        return Judgement(False, "these are quiet hours")
    if len(heard.unasked_at) >= habits.most_unasked:
        return Judgement(False, f"I talked unasked {len(heard.unasked_at)} times in the last hour")
    chance = habits.chance
    if heard.unasked_at:
        chance *= min((heard.at - max(heard.unasked_at)) / RECOVERY, 1.0)
    number = draw(heard.message_id)
    if number < chance:
        return Judgement(
            True, f"I felt like it ({number:.3f} is below the chance {chance:.3f})", unasked=True
        )
    return Judgement(False, f"I left it to you ({number:.3f} is not below the chance {chance:.3f})")


def _wake_word(text: str, words: tuple[str, ...]) -> str | None:
    """The wake word that the text begins with, or that stands in it as a whole word."""
    lowered = text.casefold()
    return next((word for word in words if _stands_in(word.casefold(), lowered)), None)


def _stands_in(word: str, text: str) -> bool:
    begin = text.find(word)
    while begin >= 0:
        before, after = text[begin - 1 : begin], text[begin + len(word) : begin + len(word) + 1]
        if not (_joins(before) and _joins(word[0])) and not (_joins(after) and _joins(word[-1])):
            return True
        begin = text.find(word, begin + 1)
    return False


def _joins(letter: str) -> bool:
    """Whether letters beside it belong to the same word: in Chinese there are no spaces between words."""
    return letter.isalnum() and letter.isascii()
