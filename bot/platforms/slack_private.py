"""What only the person who used a command sees. It comes in one go: Slack gives it no id and lets nobody edit it."""

from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.platforms.slack_api import judge, judging
from bot.platforms.slack_text import message_text
from bot.splitting import split_text

PRIVATELY = "I may not write in this channel, so only you see my answer; /invite me to share it."
CUT = "(My answer was longer than Slack lets me show here.)"
PRIVATE_POSTS = 5
"""What a response_url is good for."""
PRIVATE_LIMIT = 3500
"""Characters of one post, before escapes."""
_PRIVATE = "private-"


async def post_privately(response_url: str, text: str, thread: str = "") -> None:
    """A response_url is good for half an hour and five posts. Raises what a courier raises."""
    what = "an answer to a command"
    body = {"text": message_text(text), "response_type": "ephemeral", "replace_original": False}
    with judging(what):
        client = AsyncWebhookClient(response_url, retry_handlers=[])
        answer = await client.send_dict(body | ({"thread_ts": thread} if thread else {}))
    if answer.status_code != 200:
        sentence = f"Slack refused {what}: {answer.body}."
        raise judge(answer.body, answer.status_code, answer.headers, sentence)


async def tell_privately(response_url: str, text: str, thread: str = "") -> None:
    """The same for a text of any length: in several posts, and what is more than those hold is cut, and says so."""
    pieces = split_text(text, PRIVATE_LIMIT)
    if len(pieces) > PRIVATE_POSTS:
        pieces = [*pieces[: PRIVATE_POSTS - 1], f"{pieces[PRIVATE_POSTS - 1]}\n\n{CUT}"]
    for piece in pieces:
        await post_privately(response_url, piece, thread)


def private_id(part: int) -> str:
    """Stands for the platform's id of a part."""
    return f"{_PRIVATE}{part}"


def is_private(message_id: str | None) -> bool:
    return message_id is not None and message_id.startswith(_PRIVATE)
