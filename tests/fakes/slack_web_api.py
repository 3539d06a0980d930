"""The fake Slack's Web API: checks each call as Slack does and changes the state. Raises `SlackError`.

Sources: https://docs.slack.dev/reference/methods. Stricter than Slack in one thing: a text over 4,000 characters
is refused by `chat.postMessage` too, where Slack would cut it in two.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tests.fakes.slack_blocks import check_blocks, check_view
from tests.fakes.slack_state import (
    SCOPE_PREFIX,
    Channel,
    Ephemeral,
    Json,
    Message,
    SlackError,
    SlackState,
    Status,
    View,
)

LONGEST_TEXT = 4000
TRIGGER_SECONDS = 3
OPTIONS = ("unfurl_links", "unfurl_media", "metadata", "parse", "link_names", "mrkdwn")
# "*" stands for the kind of the conversation: channels, groups or im.
SCOPES = {
    "auth.test": None,
    "assistant.threads.setStatus": "chat:write",
    "bots.info": "users:read",
    "chat.delete": "chat:write",
    "chat.getPermalink": None,
    "chat.postEphemeral": "chat:write",
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "conversations.history": "*:history",
    "conversations.info": "*:read",
    "conversations.list": "channels:read",
    "conversations.members": "*:read",
    "conversations.open": "im:write",
    "conversations.replies": "*:history",
    "reactions.add": "reactions:write",
    "reactions.remove": "reactions:write",
    "team.info": "team:read",
    "users.info": "users:read",
    "users.list": "users:read",
    "views.open": None,
}


class WebApi:
    """The methods that take the bot's token. `events` gathers what Slack then tells the app by its socket."""

    def __init__(self, state: SlackState, scopes: Iterable[str]) -> None:
        self.state = state
        self.scopes = set(scopes)
        self.events: list[Json] = []

    def call(self, method: str, args: Json) -> Json:
        """The answer without its `ok`."""
        if method not in SCOPES:
            raise SlackError("unknown_method", req_method=method)
        self._check_scope(SCOPES[method], args)
        run: Callable[[Json], Json] = getattr(self, method.replace(".", "_"))
        return run(args)

    def auth_test(self, args: Json) -> Json:
        bot = self.state.bot
        names = {"url": "https://example.slack.com/", "team": "Example", "user": bot.name}
        return {"team_id": self.state.team, "user_id": bot.id, "bot_id": bot.bot_id, **names}

    def team_info(self, args: Json) -> Json:
        return {"team": {"id": self.state.team, "name": "Example", "domain": "example"}}

    def bots_info(self, args: Json) -> Json:
        for user in self.state.users.values():
            if user.bot_id == args.get("bot"):
                return {"bot": {"id": user.bot_id, "name": user.name, "user_id": user.id}}
        raise SlackError("bot_not_found")

    def users_info(self, args: Json) -> Json:
        if args.get("user") not in self.state.users:
            raise SlackError("user_not_found")
        return {"user": self.state.users[args["user"]].as_json()}

    def users_list(self, args: Json) -> Json:
        return _page("members", [user.as_json() for user in self.state.users.values()], args)

    def conversations_info(self, args: Json) -> Json:
        return {"channel": self._visible(args).as_json(self.state.bot.id)}

    def conversations_members(self, args: Json) -> Json:
        return _page("members", sorted(self._visible(args).members), args)

    def conversations_list(self, args: Json) -> Json:
        bot = self.state.bot.id
        seen = [c for c in self.state.channels.values() if c.kind == "channel" or bot in c.members]
        return _page("channels", [c.as_json(bot) for c in seen if c.kind != "im"], args)

    def conversations_open(self, args: Json) -> Json:
        if args.get("users") not in self.state.users:
            raise SlackError("user_not_found")
        return {"channel": {"id": self.state.open_dm(args["users"]).id}}

    def conversations_history(self, args: Json) -> Json:
        channel = self._joined(args)
        roots = [m for m in self.state.messages(channel.id) if m.thread in (None, m.ts)]
        found = [self._as_read(m, args) for m in reversed(_between(roots, args))]
        return _page("messages", found, args)

    def conversations_replies(self, args: Json) -> Json:
        channel = self._joined(args)
        root = args.get("ts")
        thread = [m for m in self.state.messages(channel.id) if root in (m.ts, m.thread)]
        if not thread:
            raise SlackError("thread_not_found")
        return _page("messages", [self._as_read(m, args) for m in _between(thread, args)], args)

    def chat_postMessage(self, args: Json) -> Json:
        text = _checked_text(args)
        if args.get("channel") in self.state.users:
            args["channel"] = self.state.open_dm(args["channel"]).id
        channel = self._writable(args)
        thread = args.get("thread_ts")
        if thread and not any(m.ts == thread for m in self.state.messages(channel.id)):
            raise SlackError("cannot_reply_to_message")
        message = self.state.add_message(
            channel.id,
            self.state.bot.id,
            text,
            thread=thread,
            options=_options(args),
            blocks=args.get("blocks") or [],
        )
        self.events.append(self.message_event(message))
        return {"channel": channel.id, "ts": message.ts, "message": message.as_json()}

    def chat_update(self, args: Json) -> Json:
        text = _checked_text(args)
        message = self._own(args, "cant_update_message")
        if text != message.text:
            message.shown.append(text)
        message.options |= _options(args)
        message.blocks = args.get("blocks", message.blocks)  # pages of Slack differ in what becomes of them
        self._emit_change("message_changed", message, message=message.as_json())
        return {"channel": message.channel, "ts": message.ts, "text": text, "message": message.as_json()}

    def chat_delete(self, args: Json) -> Json:
        message = self._own(args, "cant_delete_message")
        message.deleted = True
        self._emit_change("message_deleted", message, deleted_ts=message.ts)
        return {"channel": message.channel, "ts": message.ts}

    def chat_postEphemeral(self, args: Json) -> Json:
        text = _checked_text(args)
        channel = self._writable(args)
        if args.get("user") not in channel.members:
            raise SlackError("user_not_in_channel")
        self.state.ephemerals.append(Ephemeral(channel.id, args["user"], text, args.get("thread_ts")))
        return {"message_ts": f"{self.state.now():.6f}"}

    def chat_getPermalink(self, args: Json) -> Json:
        message = self.state.get_message(self._visible(args).id, args.get("message_ts", ""))
        path = f"{message.channel}/p{message.ts.replace('.', '')}"
        return {"channel": message.channel, "permalink": f"https://example.slack.com/archives/{path}"}

    def reactions_add(self, args: Json) -> Json:
        users = self._reacted(args)
        if self.state.bot.id in users:
            raise SlackError("already_reacted")
        users.add(self.state.bot.id)
        return {}

    def reactions_remove(self, args: Json) -> Json:
        users = self._reacted(args)
        if self.state.bot.id not in users:
            raise SlackError("no_reaction")
        users.remove(self.state.bot.id)
        return {}

    def assistant_threads_setStatus(self, args: Json) -> Json:
        channel = self._writable({"channel": args.get("channel_id")})
        if not any(m.ts == args.get("thread_ts") for m in self.state.messages(channel.id)):
            raise SlackError("invalid_thread_ts")
        self.state.statuses.append(Status(channel.id, args["thread_ts"], args["status"]))
        return {}

    def views_open(self, args: Json) -> Json:
        user, made_at = self.state.triggers.pop(str(args.get("trigger_id")), ("", 0.0))
        if not user:
            raise SlackError("invalid_trigger_id")
        if self.state.now() - made_at > TRIGGER_SECONDS:
            raise SlackError("expired_trigger_id")
        check_view(args["view"])
        view = View(f"V{self.state.number():08}", user, args["view"])
        self.state.views.append(view)
        return {"view": {"id": view.id, **view.content}}

    def message_event(self, message: Message) -> Json:
        """The `message` event of one new message, as the Events API shapes it."""
        channel = self.state.channels[message.channel]
        event = message.as_json() | {"channel": channel.id, "team": self.state.team, "event_ts": message.ts}
        event["channel_type"] = channel.kind
        if message.bot_id:
            event |= {"app_id": self.state.app_id, "bot_profile": {"id": message.bot_id}}
        return event

    def _as_read(self, message: Message, args: Json) -> Json:
        """As a history shows it: metadata only when asked for, and whether a thread begins there."""
        replies = [m for m in self.state.messages(message.channel) if m.thread == message.ts != m.ts]
        body = message.as_json() | ({"reply_count": len(replies)} if replies else {})
        if not _is_true(args.get("include_all_metadata")):
            body.pop("metadata", None)
        return body

    def change_event(self, subtype: str, message: Message, /, **fields: Any) -> Json:
        """The event of something that became of a message."""
        kind = self.state.channels[message.channel].kind
        event = {"type": "message", "subtype": subtype, "channel": message.channel, "channel_type": kind}
        ts = self.state.new_ts()
        return event | fields | {"hidden": True, "ts": ts, "event_ts": ts}

    def _emit_change(self, subtype: str, message: Message, /, **fields: Any) -> None:
        self.events.append(self.change_event(subtype, message, **fields))

    def _check_scope(self, needed: str | None, args: Json) -> None:
        if needed is None:
            return
        channel = self.state.channels.get(str(args.get("channel")))
        needed = needed.replace("*", SCOPE_PREFIX[channel.kind if channel else "channel"])
        if needed not in self.scopes:
            raise SlackError("missing_scope", needed=needed, provided=",".join(sorted(self.scopes)))

    def _visible(self, args: Json) -> Channel:
        channel = self.state.channels.get(str(args.get("channel")))
        hidden = channel and channel.kind != "channel" and self.state.bot.id not in channel.members
        if channel is None or hidden:
            raise SlackError("channel_not_found")
        return channel

    def _joined(self, args: Json) -> Channel:
        channel = self._visible(args)
        if self.state.bot.id not in channel.members:
            raise SlackError("not_in_channel")
        return channel

    def _writable(self, args: Json) -> Channel:
        channel = self._visible(args)
        if channel.archived:
            raise SlackError("is_archived")
        return channel if "chat:write.public" in self.scopes else self._joined(args)

    def _own(self, args: Json, otherwise: str) -> Message:
        message = self.state.get_message(self._writable(args).id, str(args.get("ts")))
        if message.user != self.state.bot.id:
            raise SlackError(otherwise)
        return message

    def _reacted(self, args: Json) -> set[str]:
        if not args.get("name"):
            raise SlackError("invalid_name")
        message = self.state.get_message(self._joined(args).id, str(args.get("timestamp")))
        return message.reactions.setdefault(args["name"], set())


def _checked_text(args: Json) -> str:
    text = str(args.get("text") or "")
    if not text.strip() and not args.get("blocks"):
        raise SlackError("no_text")
    if len(text) > LONGEST_TEXT:
        raise SlackError("msg_too_long")
    check_blocks(args.get("blocks") or [])
    return text


def _options(args: Json) -> Json:
    return {key: args[key] for key in OPTIONS if key in args}


def _is_true(value: object) -> bool:
    return str(value).lower() in ("1", "true")


def _between(messages: list[Message], args: Json) -> list[Message]:
    oldest, latest = float(args.get("oldest") or 0), float(args.get("latest") or "inf")
    if _is_true(args.get("inclusive")):
        return [m for m in messages if oldest <= float(m.ts) <= latest]
    return [m for m in messages if oldest < float(m.ts) < latest]


def _page(name: str, items: list[Any], args: Json) -> Json:
    start, limit = int(args.get("cursor") or 0), int(args.get("limit") or 100)
    more = start + limit < len(items)
    cursor = str(start + limit) if more else ""
    return {
        name: items[start : start + limit],
        "has_more": more,
        "response_metadata": {"next_cursor": cursor},
    }
