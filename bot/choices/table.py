"""Every setting that can be chosen in the chat: its name, what it means, and how its text is read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Value = str | int | float | bool | tuple[str, ...]
Topic = Literal["manner", "triggers", "sampling", "limits"]

LONGEST_PERSONA = 4000
PRESETS: Mapping[str, Mapping[str, str]] = {
    "precise": {"temperature": "0.2", "top_p": "0.9", "min_p": "0"},
    "balanced": {"temperature": "0.7", "top_p": "0.95", "min_p": "0"},
    "creative": {"temperature": "1.1", "top_p": "1", "min_p": "0.05"},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """`read` turns what somebody typed into a value, or raises `ValueError` with what it must be."""

    name: str
    topic: Topic
    about: str
    about_zh: str
    read: Callable[[str], Value]


@dataclass(frozen=True, slots=True)
class Span:
    """From `lowest` to `highest`, both included."""

    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` each day, also over midnight."""

    begin: time
    end: time

    def covers(self, moment: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end


def read_span(text: str) -> Span:
    """`0..1.2`. Raises `ValueError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*\.\.\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None or float(match[1]) > float(match[2]):
        raise ValueError("a range such as 0..1.2, the lower number first")
    return Span(float(match[1]), float(match[2]))


def read_quiet_hours(text: str) -> QuietHours:
    """`22:00-07:00`. Raises `ValueError`."""
    try:
        begin, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        raise ValueError("two times of day such as 22:00-07:00") from None
    return QuietHours(begin, end)


def read_setting(name: str, text: str) -> Value:
    """The value of a setting. Raises `ValueError` with a sentence that names the setting and what was given."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise ValueError(f"There is no setting {name!r}; there are {', '.join(SETTINGS)}.")
    try:
        return setting.read(text.strip())
    except ValueError as error:
        raise ValueError(f"{name} must be {error}, and not {text.strip()[:80]!r}.") from None


def _text(longest: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not 0 < len(text) <= longest:
            raise ValueError(f"a text of 1 to {longest:,} characters")
        return text

    return read


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            raise ValueError(f"a number from {lowest:g} to {highest:g}")
        return value

    return read


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,19}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest:,} to {highest:,}")
        return int(text)

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return read


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("yes", "on", "true", "是"):
        return True
    if text.lower() in ("no", "off", "false", "否"):
        return False
    raise ValueError("yes or no")


def _words(most: int, longest: int) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(part.strip() for part in text.split("|") if part.strip())
        if not 0 < len(words) <= most or any(len(word) > longest for word in words):
            raise ValueError(f"up to {most} texts of at most {longest} characters, with | between them")
        return words

    return read


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    """The text itself, once `check` has read it."""

    def read(text: str) -> str:
        check(text)
        return text.replace(" ", "")

    return read


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone such as Europe/Berlin or Asia/Shanghai") from None


_ALL = (
    Setting("persona", "manner", "Who I am here", "我在这里的身份", _text(LONGEST_PERSONA)),
    Setting("rules", "manner", "House rules that I keep to", "我要遵守的规则", _text(LONGEST_PERSONA)),
    Setting(
        "conversation",
        "manner",
        "shared by all who talk here, or one for each person (personal)",
        "大家共享对话（shared），或每人各自的对话（personal）",
        _one_of("shared", "personal"),
    ),
    Setting(
        "thinking",
        "manner",
        "What becomes of a model's thinking: hidden, folded, shown",
        "模型思考过程的显示方式",
        _one_of("hidden", "folded", "shown"),
    ),
    Setting(
        "talk",
        "triggers",
        "When I talk: off, called (when addressed), threads (also in threads I am in), lively (now and then unasked)",
        "什么时候说话：off、called、threads、lively",
        _one_of("off", "called", "threads", "lively"),
    ),
    Setting(
        "wake", "triggers", "Words that call me, with | between them", "唤醒词，用 | 隔开", _words(5, 40)
    ),
    Setting(
        "chance", "triggers", "How likely I talk unasked where I am lively", "主动发言的概率", _number(0, 1)
    ),
    Setting(
        "most_unasked",
        "triggers",
        "How often an hour I talk unasked at most",
        "每小时主动发言上限",
        _whole(0, 60),
    ),
    Setting(
        "quiet", "triggers", "Hours in which I say nothing unasked", "安静时段", _checked(read_quiet_hours)
    ),
    Setting("timezone", "triggers", "The time zone of quiet", "安静时段的时区", _zone),
    Setting("bots", "triggers", "Whether I answer other bots", "是否回答其他机器人", _yes_or_no),
    Setting(
        "temperature",
        "sampling",
        "How freely words are drawn; 0 is always the likeliest",
        "温度",
        _number(0, 5),
    ),
    Setting(
        "top_k",
        "sampling",
        "Only among that many likeliest words; 0 is no limit",
        "只在最可能的 k 个词里选",
        _whole(0, 100000),
    ),
    Setting(
        "top_p",
        "sampling",
        "Only among the likeliest words that make up that share",
        "只在累计概率内选词",
        _number(0.01, 1),
    ),
    Setting(
        "min_p",
        "sampling",
        "Only words at least that share as likely as the likeliest",
        "最低相对概率",
        _number(0, 1),
    ),
    Setting("repetition_penalty", "sampling", "Above 1 repeats less", "重复惩罚", _number(0.1, 5)),
    Setting("presence_penalty", "sampling", "Above 0 uses new words more", "存在惩罚", _number(-2, 2)),
    Setting(
        "frequency_penalty", "sampling", "Above 0 repeats frequent words less", "频率惩罚", _number(-2, 2)
    ),
    Setting(
        "max_tokens", "sampling", "How long an answer may be, in tokens", "回答的最大长度", _whole(1, 100000)
    ),
    Setting(
        "seed",
        "sampling",
        "The same seed gives the same answer to the same question",
        "随机种子",
        _whole(0, 2**63 - 1),
    ),
    Setting(
        "stop",
        "sampling",
        "Texts at which an answer ends, with | between them",
        "停止词，用 | 隔开",
        _words(4, 80),
    ),
    Setting(
        "temperature_limit",
        "limits",
        "The range that people may choose temperature from",
        "温度的允许范围",
        _checked(read_span),
    ),
    Setting("top_p_limit", "limits", "The range for top_p", "top_p 的允许范围", _checked(read_span)),
    Setting("top_k_limit", "limits", "The range for top_k", "top_k 的允许范围", _checked(read_span)),
    Setting(
        "max_tokens_limit", "limits", "The range for max_tokens", "max_tokens 的允许范围", _checked(read_span)
    ),
)

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _ALL}
SAMPLING = tuple(setting.name for setting in _ALL if setting.topic == "sampling")
