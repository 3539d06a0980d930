"""Names of people: from the lists, put together from parts, and made up, so that copying is learnt, not a list."""

from random import Random

from model.starter.corpus.words import UNFIT, Language, read_words

INVENTED = ("full_name", "nowhere", "nonsense")
"""Lists without an end: their words are made up, so that nobody can know them."""

_SOUNDS_ZH = "布卡罗咕噜噗啵哒嘟米奇托巴诺维佐尼库塔莫拉德贝扎洛喀佩"
_HANDLE_ENDS = ("", "", "_", "42", "7", "99", "2000", "x", "_xd", "123", "king", "cat", "wolf")


def draw_name(language: Language, random: Random) -> str:
    """A name that somebody who writes `language` may have."""
    dice = random.random()
    if language == "en":
        if dice < 0.5:
            return random.choice(read_words("en")["first_name"])
        if dice < 0.85:
            return _invent_name(random).capitalize()
        if dice < 0.93:
            return random.choice(read_words("en")["first_name"]) + " " + _invent_name(random).capitalize()
        return _invent_handle(random)
    if dice < 0.4:
        return random.choice(read_words("zh")["first_name"])
    if dice < 0.85:
        return _chinese_name(random)
    return random.choice(read_words("en")["first_name"]) if dice < 0.95 else _invent_name(random).capitalize()


def draw_secret(language: Language, random: Random) -> str:
    """A word or number to be remembered."""
    dice = random.random()
    if dice < 0.4:
        return random.choice(read_words(language)["secret"])
    if dice < 0.7:
        return str(random.randint(10, 9999))
    return _invent_name(random) if language == "en" else _chinese_name(random)


def invent(kind: str, language: Language, random: Random) -> str:
    """A word of one of the `INVENTED` lists: a person, a country or a thing that does not exist."""
    chinese = language == "zh" and random.random() < 0.6
    if kind == "full_name":
        if chinese:
            return _chinese_name(random)
        return " ".join(_invent_name(random).capitalize() for _ in range(2))
    if chinese:
        sounds = "".join(random.choice(_SOUNDS_ZH) for _ in range(random.choice((2, 3, 3))))
        return sounds + ("国" if kind == "nowhere" and random.random() < 0.3 else "")
    word = _invent_name(random)
    return word.capitalize() + random.choice(("", "ia", "land", "stan")) if kind == "nowhere" else word


def _invent_name(random: Random) -> str:
    sounds = read_words("en")
    while True:
        syllables = random.choice((1, 2, 2, 2, 3))
        name = "".join(
            random.choice(("", *sounds["onset"])) + random.choice(sounds["vowel"]) for _ in range(syllables)
        )
        name += random.choice(("", "", "", *sounds["coda"]))
        if len(name) > 2 and not any(part in name for part in UNFIT):
            return name


def _invent_handle(random: Random) -> str:
    base = random.choice((_invent_name(random), random.choice(read_words("en")["first_name"]).lower()))
    return base + random.choice(_HANDLE_ENDS)


def _chinese_name(random: Random) -> str:
    words = read_words("zh")
    given = "".join(random.choice(words["given"]) for _ in range(random.choice((1, 2, 2))))
    return random.choice(words["surname"]) + given
