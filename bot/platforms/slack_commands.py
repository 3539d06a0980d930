"""`/parley`: what stands after it becomes a command or a question."""

from dataclasses import replace
from datetime import UTC, datetime

from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage
from bot.commands.parse import names_command, parse_command
from bot.commands.table import BY_NAME
from bot.platforms.slack_incoming import Event
from bot.platforms.slack_login import Workspace
from bot.platforms.slack_text import to_command

COMMAND = "/parley"


def read_command(body: Event, workspace: Workspace) -> CommandCall | IncomingMessage:
    """The body of a slash command: nothing (which is help), a command of the table, or else a question to the
    channel's conversation.

    As Slack writes it: ids for names. A question's token is its response_url.
    """
    text = body.get("text", "").strip() or "help"
    question = IncomingMessage(
        conversation=ConversationKey("slack", workspace.team, body["channel_id"]),
        message_id=f"command-{body['trigger_id']}",
        author=Author(body["user_id"], body["user_id"]),
        text=body.get("text", ""),
        created_at=datetime.now(UTC),
        via="command",
        private=body["channel_name"] == "directmessage",
        token=body["response_url"],
    )
    if not names_command(text):
        return question
    asked = parse_command(text, question)
    if asked.fault is None and BY_NAME[asked.name].asks:
        return replace(question, text=str(asked.options["message"]))
    return parse_command(to_command(text), question)
