"""How people really type: small letters, missing signs, slips, courtesy. Knows text, and no topic."""

import re
from collections.abc import Callable
from random import Random

from model.starter.corpus.templates import KEEP_CASE, VALUE_BEGIN, VALUE_END, bare
from model.starter.corpus.words import UNFIT, Language

_VALUES = re.compile(f"({VALUE_BEGIN}[^{VALUE_END}]*{VALUE_END})")
_SHORT_FORMS = (
    (r"\bwhat is\b", "what's"),
    (r"\bwho is\b", "who's"),
    (r"\bwhere is\b", "where's"),
    (r"\bhow is\b", "how's"),
    (r"\bI am\b", "I'm"),
    (r"\bI have\b(?= (?:a|had|been|no))", "I've"),
    (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"),
    (r"\bcannot\b", "can't"),
)
_CHAT_FORMS = (
    (r"\byou\b", "u"),
    (r"\byour\b", "ur"),
    (r"\bare\b", "r"),
    (r"\bplease\b", "pls"),
    (r"\bplease\b", "plz"),
    (r"\bthanks\b", "thx"),
    (r"\bpeople\b", "ppl"),
    (r"\bbecause\b", "cuz"),
    (r"\bgoing to\b", "gonna"),
    (r"\bwant to\b", "wanna"),
)
_OPENINGS_EN = (
    *(
        "hey, ",
        "hi, ",
        "hello, ",
        "so ",
        "ok ",
        "okay, ",
        "um, ",
        "quick question: ",
        "a question: ",
        "excuse me, ",
    ),
    *(
        "please tell me, ",
        "Parley, ",
        "hey Parley, ",
        "hi Parley! ",
        "and ",
        "sorry, ",
        "just curious, ",
        "ok so ",
    ),
    *("one more thing: ", "well, ", "by the way, ", "now ", "@Parley "),
)
_CLOSINGS_EN = (
    " please",
    " please?",
    ", please",
    "??",
    " thanks",
    " thank you",
    " 🙂",
    " 😊",
    " 🤔",
    " :)",
    "...",
    "?!",
    " lol",
)
_OPENINGS_ZH = (
    *(
        "请问",
        "请问一下，",
        "你好，",
        "你好，请问",
        "那个，",
        "嗯，",
        "我想问一下，",
        "对了，",
        "问一下，",
        "Parley，",
        "麻烦问下，",
    ),
    *("不好意思，", "哎，", "那", "嗨，", "好奇问一下，", "请教一下，", "再问一个，", "话说", "@Parley "),
)
_CLOSINGS_ZH = ("？？", "～", " 😊", " 🤔", "，谢谢", "，谢谢！", "...", "？谢谢", "呢？", " 🙂")
_SLIPS_ZH = (
    ("的", "得"),
    ("吗", "嘛"),
    ("在", "再"),
    ("什么", "啥"),
    ("什么", "神马"),
    ("怎么", "咋"),
    ("没有", "木有"),
    ("知道", "造"),
)
_SAME_MEANING_ZH = (("什么", "啥"), ("怎么样", "咋样"), ("怎么", "咋"), ("为什么", "为啥"))


def written(text: str, language: Language) -> str:
    """An answer, as written carefully: a capital at the beginning, no private signs."""
    clean = bare(text).strip()
    return clean[:1].upper() + clean[1:] if language == "en" and clean[:1].islower() else clean


def typed(text: str, language: Language, random: Random, *, plain: bool = False) -> str:
    """A question, as somebody might type it. `plain` adds no words and makes no slips."""
    words = text.strip()
    if not plain and random.random() < 0.22:
        words = _with_courtesy(words, language, random)
    typed_text = (
        _type_english(words, random, plain) if language == "en" else _type_chinese(words, random, plain)
    )
    return bare(typed_text).strip() or bare(text).strip()


def _with_courtesy(text: str, language: Language, random: Random) -> str:
    openings, closings = (_OPENINGS_EN, _CLOSINGS_EN) if language == "en" else (_OPENINGS_ZH, _CLOSINGS_ZH)
    is_question = bare(text).endswith(("?", "？"))
    if is_question and random.random() < 0.4:
        closing = random.choice(closings)
        return (text.rstrip("?？呢吗") if closing.startswith("呢") else text.rstrip("?？")) + closing
    opening = random.choice(openings)
    if not is_question and opening.startswith(
        ("请", "麻烦", "我想问", "问", "好奇", "再问", "quick q", "a q", "please t", "just")
    ):
        return text
    return opening + text


def _type_english(text: str, random: Random, plain: bool) -> str:
    dice = random.random()
    if random.random() < 0.5:
        text = _replace_outside_values(text, random.sample(_SHORT_FORMS, 5))
    if dice < 0.42:
        return _capitalised(text)
    if not plain and dice < 0.52:
        text = _replace_outside_values(text, random.sample(_CHAT_FORMS, 3))
    if not plain and dice > 0.9:
        text = _with_slip(text, random)
    if random.random() < 0.55:
        text = text.rstrip(".?!") if not bare(text).endswith("...") else text
    if random.random() < 0.6:
        text = _outside_kept(text, str.lower)
    if random.random() < 0.35:
        text = re.sub(r"(?<=[a-z])['’](?=[a-z])", "", text)
    if random.random() < 0.2:
        text = re.sub(r", ", " ", text)
    if dice > 0.985 and not plain:
        text = _outside_kept(text, str.upper)
    return text if random.random() < 0.5 else _capitalised(text)


def _type_chinese(text: str, random: Random, plain: bool) -> str:
    dice = random.random()
    if dice < 0.45:
        return text
    if not plain and random.random() < 0.12:
        text = _replace_outside_values(text, [random.choice(_SAME_MEANING_ZH)])
    if not plain and random.random() < 0.05:
        text = _replace_outside_values(text, [random.choice(_SLIPS_ZH)])
    if random.random() < 0.6:
        text = text.rstrip("。？！?!")
    if random.random() < 0.3:
        text = text.replace("？", "?").replace("！", "!")
    if random.random() < 0.2:
        text = text.replace("，", random.choice((" ", ",")))
    return text


def _capitalised(text: str) -> str:
    at = 1 if text.startswith(VALUE_BEGIN) else 0
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]


def _outside_kept(text: str, change: Callable[[str], str]) -> str:
    kept = VALUE_BEGIN + KEEP_CASE
    return "".join(piece if piece.startswith(kept) else change(piece) for piece in _VALUES.split(text))


def _replace_outside_values(text: str, forms: list[tuple[str, str]]) -> str:
    pieces = _VALUES.split(text)
    for pattern, replacement in forms:
        pieces = [
            piece
            if piece.startswith(VALUE_BEGIN)
            else re.sub(pattern, replacement, piece, flags=re.IGNORECASE)
            for piece in pieces
        ]
    return "".join(pieces)


def _with_slip(text: str, random: Random) -> str:
    """One slip of the finger, in a word of four letters or more that is no value."""
    pieces = _VALUES.split(text)
    words = [
        (index, match.start(), match.end())
        for index, piece in enumerate(pieces)
        if not piece.startswith(VALUE_BEGIN)
        for match in re.finditer(r"[A-Za-z]{4,}", piece)
    ]
    if not words:
        return text
    index, start, end = random.choice(words)
    at = random.randrange(start + 1, end - 1)
    piece = pieces[index]
    slips = (
        piece[:at] + piece[at + 1 :],
        piece[:at] + piece[at] + piece[at:],
        piece[:at] + piece[at + 1] + piece[at] + piece[at + 2 :],
    )
    slip = random.choice(slips)
    pieces[index] = (
        piece if any(part in slip.lower() and part not in piece.lower() for part in UNFIT) else slip
    )
    return "".join(pieces)
