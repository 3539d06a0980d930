"""Numbers in words, in English and Chinese. Knows 0 to 999."""

from model.starter.corpus.words import Language

_UNITS = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_CHINESE = "零一二三四五六七八九"


def in_words(number: int, language: Language) -> str:
    """`number`, from -999 to 999, as it is spoken."""
    if not -1000 < number < 1000:
        raise ValueError(f"Only numbers from -999 to 999 can be worded, and this is {number}.")
    if number < 0:
        return ("minus " if language == "en" else "负") + in_words(-number, language)
    return _english(number) if language == "en" else _chinese(number)


def _english(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_UNITS[number % 10]}" if number % 10 else "")
    rest = f" and {_english(number % 100)}" if number % 100 else ""
    return f"{_UNITS[number // 100]} hundred{rest}"


def _chinese(number: int) -> str:
    if number < 10:
        return _CHINESE[number]
    if number < 100:
        tens = "" if number < 20 else _CHINESE[number // 10]
        return f"{tens}十{_CHINESE[number % 10] if number % 10 else ''}"
    rest = number % 100
    if not rest:
        return f"{_CHINESE[number // 100]}百"
    middle = "零" if rest < 10 else ("一" if rest < 20 else "")
    return f"{_CHINESE[number // 100]}百{middle}{_chinese(rest)}"
