"""`/parley`: what stands after it becomes a command or a question."""

from datetime import UTC, datetime

from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage
from bot.platforms.slack_incoming import Event
from bot.platforms.slack_login import Workspace

COMMAND = "/parley"
_ANSWERED_WITHOUT_THE_MODEL = ("help", "reset")


def read_command(body: Event, workspace: Workspace) -> CommandCall | IncomingMessage:
    """The body of a slash command: `help` (or nothing), `reset`, or else a question to the channel's conversation.

    As Slack writes it: ids for names. A question's token is its response_url.
    """
    conversation = ConversationKey("slack", workspace.team, body["channel_id"])
    author = Author(body["user_id"], body["user_id"])
    private = body["channel_name"] == "directmessage"
    word = body.get("text", "").strip().lower() or "help"
    if word in _ANSWERED_WITHOUT_THE_MODEL:
        return CommandCall(word, conversation, author, private)
    return IncomingMessage(
        conversation=conversation,
        message_id=f"command-{body['trigger_id']}",
        author=author,
        text=body["text"],
        created_at=datetime.now(UTC),
        via="command",
        private=private,
        token=body["response_url"],
    )
