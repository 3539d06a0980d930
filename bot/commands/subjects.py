"""Whom a rule is about, as people write it: everyone, a mention, or an id with its kind."""

import re

from bot.chat import PlatformName
from storage.tables import Subject

_MENTIONS: dict[PlatformName, tuple[tuple[str, Subject], ...]] = {
    "discord": (
        (r"<@!?(\d{15,20})>", "person"),
        (r"<@&(\d{15,20})>", "role"),
        (r"<#(\d{15,20})>", "channel"),
    ),
    "slack": (
        (r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>", "person"),
        (r"<!subteam\^(S[A-Z0-9]+)(?:\|[^>]*)?>", "role"),
        (r"<#([CGD][A-Z0-9]+)(?:\|[^>]*)?>", "channel"),
    ),
    "terminal": (),
}
_BY_KIND = re.compile(r"(person|role|channel)\s*:?\s*(\S+)", re.IGNORECASE)


def read_subject(text: str, platform: PlatformName) -> tuple[Subject, str]:
    """The kind and the platform's id. Raises `ValueError` with a sentence."""
    text = text.strip()
    if text.lower() in ("everyone", "@everyone", "all", "所有人"):
        return "everyone", ""
    for pattern, kind in _MENTIONS[platform]:
        match = re.fullmatch(pattern, text)
        if match is not None:
            return kind, match[1]
    match = _BY_KIND.fullmatch(text)
    if match is not None:
        kinds: dict[str, Subject] = {"person": "person", "role": "role", "channel": "channel"}
        return kinds[match[1].lower()], match[2]
    raise ValueError(
        f"I do not know whom {text[:60]!r} means. Write everyone, mention a person, role or channel, or write "
        "its kind and id, such as role 123456."
    )
