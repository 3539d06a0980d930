"""Slack's way of writing, to and from plain words. Pure functions: no network, no names but those given."""

import re
from collections.abc import Callable, Mapping

LONGEST_TEXT = 4000
"""Characters of one message's text. `chat.update` refuses more, and escapes count: `<` is four of them."""
LONGEST_SECTION = 3000
"""Characters of the text in one block of a message."""
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_FENCE_LANGUAGE = re.compile(r"\A```[^\n`]*\n")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=[^\s*])([^\n]+?)(?<=[^\s*])\*\*(?!\*)")
_STRIKE = re.compile(r"~~(?=[^\s~])([^\n]+?)(?<=[^\s~])~~(?!~)")
_LINK = re.compile(
    r"!?\[([^\[\]|<>\n]+)\]\((https?://[^\s()<>|\x00]+(?:\([^\s()<>|\x00]*\)[^\s()<>|\x00]*)*)\)"
)
_URL = re.compile(r"(?<![<|\w])https?://[^\s<>|\x00]*[^\s<>|\x00.,:;!?)\]}*_~'\"]")
_ZERO_WIDTH_SPACE = "\u200b"
_LOOKALIKES = str.maketrans("<>&", "‹›＆")

_TOKEN = re.compile(r"<([^<>]*)>")
_NAMES_SOMEBODY = re.compile(r"[@#]|!subteam")
_USER = re.compile(r"<@([A-Z0-9]+)(?:\|[^<>]*)?>")


def to_mrkdwn(markdown: str, *, mark_urls: bool = False) -> str:
    """Markdown as Slack's mrkdwn: bold, strike, headings and links; code stays as it is, but for a fence's language.

    `&`, `<` and `>` are escaped everywhere, so nothing in `markdown` can ping: Slack knows a mention by its `<`.
    `mark_urls`: for text in which Slack does not look for addresses itself.
    """
    codes: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        codes.append(_FENCE_LANGUAGE.sub("```\n", match.group()))
        return "\x00"

    text = escape(_CODE.sub(put_aside, markdown.replace("\x00", "")))
    text = _LINK.sub(r"<\2|\1>", text)
    if mark_urls:
        text = _URL.sub(r"<\g<0>>", text)
    text = _HEADING.sub(lambda match: f"**{match[1].replace('**', '')}**", text)
    text = _STRIKE.sub(_between("~"), _BOLD.sub(_between("*"), text))
    return re.sub("\x00", lambda _: escape(codes.pop(0)), text)


def message_text(markdown: str, heading: str = "") -> str:
    """The text of one message, `heading` (mrkdwn) first; at most `LONGEST_TEXT` characters if `markdown` without
    escapes fits. Where escapes make it too long, look-alikes of the three characters take their place."""
    text = heading + to_mrkdwn(markdown)
    return text if len(text) <= LONGEST_TEXT else heading + to_mrkdwn(markdown.translate(_LOOKALIKES))


def section_text(markdown: str) -> str:
    """The text of one block. At most `LONGEST_SECTION` characters if `markdown` without escapes fits."""
    text = to_mrkdwn(markdown, mark_urls=True)
    return text if len(text) <= LONGEST_SECTION else to_mrkdwn(markdown.translate(_LOOKALIKES))


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def mentioned_users(text: str) -> set[str]:
    """The ids of the people whom a message from Slack mentions."""
    return set(_USER.findall(text))


def to_plain(text: str, bot_user: str, names: Mapping[str, str]) -> str:
    """A message from Slack as people read it: without the mention of the bot, with `names` (by id) for ids."""
    text = without_bot(text, bot_user)
    return unescape(_TOKEN.sub(lambda match: _readable(match[1], names), text)).strip()


def to_command(text: str) -> str:
    """A typed command as its parser reads it: whom and what it names stays as Slack writes it."""
    return unescape(
        _TOKEN.sub(
            lambda match: match[0] if _NAMES_SOMEBODY.match(match[1]) else _readable(match[1], {}), text
        )
    )


def without_bot(text: str, bot_user: str) -> str:
    """A message from Slack without the mention of the bot."""
    mention = rf"<@{re.escape(bot_user)}(?:\|[^<>]*)?>"
    text = re.sub(rf"\A\s*{mention}[,:]?", "", text)
    return re.sub(rf"[ \t]*{mention}", "", text).strip()


def _readable(token: str, names: Mapping[str, str]) -> str:
    body, _, label = token.partition("|")
    match body[:1]:
        case "@":
            return f"@{names.get(body[1:], label or body[1:])}"
        case "#":
            return f"#{label or body[1:]}"
        case "!":
            return label if label and "^" in body else f"@{body[1:].partition('^')[0]}"
    return label or body if body.endswith(label) else f"{label} ({body})"


def _between(mark: str) -> Callable[[re.Match[str]], str]:
    """Slack sees a mark only beside a space or punctuation; a zero-width space is one, as 中文**要点** needs it."""

    def wrap(match: re.Match[str]) -> str:
        before = match.string[: match.start()][-1:]
        after = match.string[match.end() :][:1]
        left = _ZERO_WIDTH_SPACE if before.isalnum() else ""
        right = _ZERO_WIDTH_SPACE if after.isalnum() else ""
        return f"{left}{mark}{match[1]}{mark}{right}"

    return wrap
