"""`/parley`: what stands after it becomes a command or a question, and where its answer goes."""

from datetime import UTC, datetime

from bot.chat import CommandCall, ConversationKey, IncomingMessage
from bot.platforms.slack_api import SlackApi
from bot.platforms.slack_incoming import Event, People
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_reply import CommandReply, HeadedSink, PrivateReply, quote

COMMAND = "/parley"
_ANSWERED_WITHOUT_THE_MODEL = ("help", "reset")


async def read_command(body: Event, workspace: Workspace, people: People) -> CommandCall | IncomingMessage:
    """The body of a slash command: `help` (or nothing), `reset`, or else a question to the channel's conversation."""
    conversation = ConversationKey("slack", workspace.team, body["channel_id"])
    author = await people.get(body["user_id"])
    private = body["channel_name"] == "directmessage"
    word = body.get("text", "").strip().lower() or "help"
    if word in _ANSWERED_WITHOUT_THE_MODEL:
        return CommandCall(word, conversation, author, private)
    return IncomingMessage(
        conversation=conversation,
        message_id=f"command-{body['trigger_id']}",
        author=author,
        text=await people.read(body["text"], workspace),
        created_at=datetime.now(UTC),
        via="command",
        private=private,
    )


def reply_to_command(
    api: SlackApi, question: IncomingMessage, response_url: str, *, edit_seconds: float
) -> CommandReply:
    """A channel is told who asked what; in a direct message that is plain."""
    heading = "" if question.private else quote(question.author.name, question.text)
    sink = HeadedSink(api, question.conversation.channel, heading)
    return CommandReply(sink, PrivateReply(response_url), edit_seconds=edit_seconds)
