"""Slack as a platform, through the real Bolt app and the fake Slack."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage, Reply
from bot.errors import PlatformRefused
from bot.platforms.slack_app import SlackPlatform
from tests.fakes.slack_server import BOT_SCOPES, FakeSlack
from tests.fakes.slack_state import Message, Status


class HastySlack(SlackPlatform):
    ping_seconds: ClassVar[float] = 0.05
    watch_seconds: ClassVar[float] = 0.05


class Talker:
    """Stands for the core: writes down what it is asked, and answers `say(message)`, one piece after the other."""

    def __init__(self, say: Callable[[IncomingMessage], list[str]] | None = None) -> None:
        self.asked: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        self.commands: list[CommandCall] = []
        self.shown: list[tuple[str, ...]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._answering = 0
        self._say = say or (lambda message: [f"You said: {message.text}"])

    async def respond(self, message: IncomingMessage, reply: Reply) -> None:
        self.asked.put_nowait(message)
        self._answering += 1
        self.idle.clear()
        try:
            await self.answer(message, reply)
        except asyncio.CancelledError:
            await reply.fail("(stopped)")
            raise
        finally:
            self._answering -= 1
            if not self._answering:
                self.idle.set()

    async def answer(self, message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await self.may_answer.wait()
        for piece in self._say(message):
            await reply.append(piece)
        self.shown.append(await reply.finish())

    async def run_command(self, call: CommandCall) -> str:
        self.commands.append(call)
        return f"*{call.name}* for <{call.author.name}>"


@asynccontextmanager
async def serving(slack: FakeSlack, talker: Talker) -> AsyncIterator[asyncio.Task[None]]:
    platform = HastySlack(
        bot_token=slack.bot_token,
        app_token=slack.app_token,
        respond=talker.respond,
        run_command=talker.run_command,
        edit_seconds=0.01,
        api_url=slack.api_url,
    )
    running = asyncio.create_task(platform.run())
    try:
        await slack.wait_until_connected()
        yield running
        if not running.done():
            await talker.idle.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
def ada(slack: FakeSlack) -> str:
    return slack.add_user("ada", display_name="Ada L.")


@pytest.fixture
def channel(slack: FakeSlack, ada: str) -> str:
    return slack.add_channel("general")


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


async def answered(slack: FakeSlack, channel: str, *expected: str) -> None:
    await slack.wait_for(lambda: texts(slack.answers(channel)) == list(expected))


@pytest.mark.parametrize("mention_first", [False, True])
async def test_a_mention_is_answered_once_in_its_thread(
    slack: FakeSlack, ada: str, channel: str, mention_first: bool
) -> None:
    talker = Talker()
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> hello &amp; hi", mention_first=mention_first)
        await answered(slack, channel, "You said: hello &amp; hi")
        await slack.wait_for_acks()
    assert talker.asked.get_nowait() == IncomingMessage(
        conversation=ConversationKey("slack", slack.team, channel, ts),
        message_id=ts,
        author=Author(ada, "Ada L."),
        text="hello & hi",
        created_at=datetime.fromtimestamp(float(ts), UTC),
        via="mention",
    )
    assert talker.asked.empty()
    (answer,) = slack.answers(channel)
    assert (answer.thread, talker.shown) == (ts, [(answer.ts,)])


async def test_a_mention_in_a_thread_is_answered_there(slack: FakeSlack, ada: str, channel: str) -> None:
    talker = Talker()
    async with serving(slack, talker):
        root = await slack.say(channel, ada, "something else")
        await slack.say(channel, ada, f"what do you say <@{slack.bot_user}>?", thread=root)
        await answered(slack, channel, "You said: what do you say?")
    message = talker.asked.get_nowait()
    assert (message.via, message.conversation.thread, message.reply_to) == ("mention", root, root)
    assert slack.answers(channel)[0].thread == root


async def test_a_message_in_a_thread_is_handed_on_as_a_follow_up(slack: FakeSlack, ada: str) -> None:
    talker, channel = Talker(), slack.add_channel("secret", private=True)
    async with serving(slack, talker):
        root = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "You said: hello")
        await slack.say(channel, ada, "go on", thread=root)
        await answered(slack, channel, "You said: hello", "You said: go on")
    first, second = talker.asked.get_nowait(), talker.asked.get_nowait()
    assert (first.via, second.via) == ("mention", "thread")
    assert first.conversation == second.conversation


async def test_a_direct_message_is_answered_where_it_stands(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    async with serving(slack, talker):
        root = await slack.say(dm, ada, "hello")
        await answered(slack, dm, "You said: hello")
        await slack.say(dm, ada, f"<@{slack.bot_user}> and here?", thread=root)
        await answered(slack, dm, "You said: hello", "You said: and here?")
    assert [answer.thread for answer in slack.answers(dm)] == [None, root]
    first, second = talker.asked.get_nowait(), talker.asked.get_nowait()
    assert [(m.via, m.private, m.conversation.thread) for m in (first, second)] == [
        ("dm", True, ""),
        ("dm", True, root),
    ]


async def test_what_does_not_concern_the_bot_is_acknowledged_and_left_alone(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    talker = Talker()
    robot, dm = slack.add_user("robot", bot=True), slack.open_dm(ada)
    async with serving(slack, talker):
        root = await slack.say(channel, ada, "not for you")
        await slack.say(channel, robot, f"<@{slack.bot_user}> I am a bot")
        await slack.say(channel, robot, "so am I", thread=root)
        await slack.say(dm, ada, "joined", subtype="channel_join")
        await slack.say(dm, ada, "", subtype="message_changed")
        await slack.send_event({"type": "reaction_added", "user": ada, "item": {"channel": channel}})
        await slack.say(dm, ada, "this one", subtype="file_share")
        await answered(slack, dm, "You said: this one")
        await slack.wait_for_acks()
    assert talker.asked.qsize() == 1
    assert slack.answers(channel) == []
    own = [
        e.payload["event"] for e in slack.socket.envelopes if e.payload["event"].get("user") == slack.bot_user
    ]
    assert own != []


async def test_an_event_that_comes_again_is_answered_once(slack: FakeSlack, ada: str, channel: str) -> None:
    talker = Talker()
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "You said: hello")
        for envelope in slack.socket.envelopes[:2]:
            await slack.socket.redeliver(envelope)
        await slack.say(channel, ada, f"<@{slack.bot_user}> bye")
        await answered(slack, channel, "You said: hello", "You said: bye")
        await slack.wait_for_acks()
    assert talker.asked.qsize() == 2


async def test_names_channels_and_links_are_readable(slack: FakeSlack, ada: str, channel: str) -> None:
    talker, bob = Talker(), slack.add_user("bob", display_name="Bob &amp; Co")
    text = f"<@{slack.bot_user}> ask <@{bob}> in <#C1|random> about <https://a.b|this>, 1 &lt; 2"
    async with serving(slack, talker):
        await slack.say(channel, ada, text)
        message = await talker.asked.get()
        await slack.say(channel, ada, text)
        await talker.asked.get()
    assert message.text == "ask @Bob & Co in #random about this (https://a.b), 1 < 2"
    assert sorted(call.args["user"] for call in slack.calls if call.method == "users.info") == sorted(
        [ada, bob]
    )


async def test_messages_are_handed_on_in_the_order_of_arrival(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    slack.fail_next("users.info", "ratelimited", retry_after=0)
    async with serving(slack, talker):
        for number in range(5):
            await slack.say(dm, ada, f"message {number}")
        heard = [(await talker.asked.get()).text for _ in range(5)]
    assert heard == [f"message {number}" for number in range(5)]


async def test_a_person_whose_name_is_not_told_is_answered_all_the_same(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    slack.fail_next("users.info", "internal_error")
    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await answered(slack, dm, "You said: hello")
    assert talker.asked.get_nowait().author == Author(ada, ada)


async def test_a_thread_shows_that_an_answer_is_being_written(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    talker = Talker()
    talker.may_answer.clear()
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.wait_for(lambda: slack.state.statuses == [Status(channel, ts, "is writing...")])
        talker.may_answer.set()
        await answered(slack, channel, "You said: hello")


async def test_parley_answers_in_the_channel_and_quotes_who_asked_what(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    talker = Talker()
    talker.may_answer.clear()
    async with serving(slack, talker):
        envelope = await slack.use_command("/parley", "what is &lt;b&gt;,\nplease?", ada, channel)
        await slack.wait_for(lambda: envelope.acked and slack.answers(channel) != [])
        assert envelope.seconds_to_ack < 1
        talker.may_answer.set()
        heading = "*Ada L.* asked:\n&gt; what is &lt;b&gt;, please?\n\n"
        await answered(slack, channel, f"{heading}You said: what is &lt;b&gt;,\nplease?")
    (answer,) = slack.answers(channel)
    assert answer.shown[0] == f"{heading}..."
    message = talker.asked.get_nowait()
    assert (message.via, message.private, message.conversation) == (
        "command",
        False,
        ConversationKey("slack", slack.team, channel),
    )
    assert message.message_id == f"command-{envelope.payload['trigger_id']}"
    assert envelope.ack == {}
    assert slack.ephemerals == []


async def test_parley_in_a_direct_message_simply_answers(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    async with serving(slack, talker):
        await slack.use_command("/parley", "hello", ada, dm)
        await answered(slack, dm, "You said: hello")
    assert talker.asked.get_nowait().private


@pytest.mark.parametrize("private", [False, True])
async def test_parley_where_the_bot_is_not_a_member_answers_the_asker_alone(
    slack: FakeSlack, ada: str, private: bool
) -> None:
    talker, channel = Talker(), slack.add_channel("far", private=private, bot_inside=False)
    async with serving(slack, talker):
        await slack.use_command("/parley", "hello", ada, channel)
        await slack.wait_for(lambda: len(slack.ephemerals) == 2)
    assert slack.ephemerals[0].text.startswith("I may not write in this channel")
    assert (slack.ephemerals[1].user, slack.ephemerals[1].text) == (ada, "You said: hello")
    assert slack.messages(channel) == []


async def test_a_private_answer_that_is_too_long_says_so(slack: FakeSlack, ada: str) -> None:
    talker, channel = Talker(lambda message: ["word " * 4000]), slack.add_channel("far", bot_inside=False)
    async with serving(slack, talker):
        await slack.use_command("/parley", "hello", ada, channel)
        await slack.wait_for(lambda: len(slack.ephemerals) == 5)
    assert slack.ephemerals[4].text.endswith("(My answer was longer than Slack lets me show here.)")


@pytest.mark.parametrize(("typed", "name"), [("reset", "reset"), (" Help ", "help"), ("", "help")])
async def test_parley_reset_and_help_are_answered_privately_without_the_model(
    slack: FakeSlack, ada: str, channel: str, typed: str, name: str
) -> None:
    talker = Talker()
    async with serving(slack, talker):
        envelope = await slack.use_command("/parley", typed, ada, channel)
        await slack.wait_for(lambda: envelope.acked and slack.ephemerals != [])
    where = ConversationKey("slack", slack.team, channel)
    assert talker.commands == [CommandCall(name, where, Author(ada, "Ada L."), private=False)]
    assert talker.asked.empty()
    assert [(post.user, post.text) for post in slack.ephemerals] == [(ada, f"*{name}* for &lt;Ada L.&gt;")]


async def test_a_command_that_fails_says_so(slack: FakeSlack, ada: str, channel: str) -> None:
    class Broken(Talker):
        async def run_command(self, call: CommandCall) -> str:
            raise RuntimeError("no database")

    with capture_logs() as logs:
        async with serving(slack, Broken()):
            await slack.use_command("/parley", "reset", ada, channel)
            await slack.wait_for(lambda: slack.ephemerals != [])
    assert slack.ephemerals[0].text.startswith("Something went wrong with reset")
    assert "a command failed" in [entry["event"] for entry in logs]


async def test_an_event_is_acknowledged_before_its_answer_is_made(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    talker = Talker()
    talker.may_answer.clear()
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await talker.asked.get()
        await slack.wait_for_acks()
        assert slack.answers(channel) == []
        talker.may_answer.set()
        await answered(slack, channel, "You said: hello")


async def test_a_crash_in_one_answer_is_logged_and_others_go_on(slack: FakeSlack, ada: str) -> None:
    class Fragile(Talker):
        async def answer(self, message: IncomingMessage, reply: Reply) -> None:
            if message.text == "crash":
                raise RuntimeError("a bug")
            await super().answer(message, reply)

    dm = slack.open_dm(ada)
    with capture_logs() as logs:
        async with serving(slack, Fragile()):
            await slack.say(dm, ada, "crash")
            await slack.say(dm, ada, "hello")
            await answered(slack, dm, "You said: hello")
    assert "a message could not be handled" in [entry["event"] for entry in logs]


async def test_a_long_answer_is_several_messages_in_the_thread(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    story = " ".join(f"word{number}" for number in range(1200))
    talker = Talker(lambda message: [story[i : i + 1000] for i in range(0, len(story), 1000)])
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> tell me a story")
        await slack.wait_for(
            lambda: "".join(texts(slack.answers(channel))).replace(" ", "") == story.replace(" ", "")
        )
        await slack.wait_for(lambda: talker.shown != [])
    answers = slack.answers(channel)
    assert talker.shown == [tuple(answer.ts for answer in answers)]
    assert len(answers) == 3
    assert {answer.thread for answer in answers} == {ts}


async def test_an_answer_pings_nobody_and_unfolds_nothing(slack: FakeSlack, ada: str, channel: str) -> None:
    talker = Talker(lambda message: ["<!here> <@U123> @everyone & **bold** https://a.b"])
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "&lt;!here&gt; &lt;@U123&gt; @everyone &amp; *bold* https://a.b")
    (answer,) = slack.answers(channel)
    assert answer.options == {
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


async def test_the_final_text_is_shown_although_slack_says_slow_down(
    slack: FakeSlack, ada: str, channel: str
) -> None:
    class TwoSteps(Talker):
        async def answer(self, message: IncomingMessage, reply: Reply) -> None:
            await reply.start()
            await reply.append("the beginning")
            await answered(slack, channel, "the beginning")
            await reply.append(" and the end")
            await reply.finish()

    slack.fail_next("chat.postMessage", "ratelimited", retry_after=0)
    slack.fail_next("chat.update", "ratelimited", retry_after=1)
    async with serving(slack, TwoSteps()):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "the beginning and the end")
    (answer,) = slack.answers(channel)
    assert answer.shown == ["the beginning", "the beginning and the end"]


async def test_a_disconnected_socket_is_opened_again(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    async with serving(slack, talker):
        await slack.socket.disconnect("refresh_requested")
        await slack.say(dm, ada, "still there?")
        await answered(slack, dm, "You said: still there?")
    assert slack.socket.connections == 2


async def test_a_socket_address_that_is_out_of_date_is_asked_for_again(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    async with serving(slack, talker):
        slack.socket.stale_tickets = 1
        await slack.socket.disconnect("warning")
        await slack.say(dm, ada, "still there?")
        await answered(slack, dm, "You said: still there?")


async def test_when_stopped_it_ends_its_answers_and_closes_its_connection(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    talker.may_answer.clear()
    async with serving(slack, talker) as running:
        await slack.say(dm, ada, "hello")
        await talker.asked.get()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert texts(slack.answers(dm)) == ["(stopped)"]
        await slack.wait_for(lambda: slack.socket.sockets == [])


async def run_and_be_refused(slack: FakeSlack, *, bot_token: str = "", app_token: str = "") -> str:
    platform = SlackPlatform(
        bot_token=bot_token or slack.bot_token,
        app_token=app_token or slack.app_token,
        respond=Talker().respond,
        run_command=Talker().run_command,
        edit_seconds=1,
        api_url=slack.api_url,
    )
    with pytest.raises(PlatformRefused) as refused:
        await asyncio.wait_for(platform.run(), 5)
    assert "secret" not in str(refused.value)
    return str(refused.value)


async def test_a_refused_token_is_named_and_not_shown(slack: FakeSlack) -> None:
    sentence = await run_and_be_refused(slack, bot_token="xoxb-secret")
    assert sentence.startswith("Slack refused SLACK_BOT_TOKEN: invalid_auth. It is the Bot User OAuth Token")
    sentence = await run_and_be_refused(slack, app_token="xapp-secret")
    assert sentence.startswith("Slack refused SLACK_APP_TOKEN: invalid_auth. It is an app-level token")
    sentence = await run_and_be_refused(slack, bot_token=slack.app_token)
    assert sentence.startswith("Slack refused SLACK_BOT_TOKEN: not_allowed_token_type")


async def test_a_missing_scope_is_named() -> None:
    async with FakeSlack(scopes=set(BOT_SCOPES) - {"im:history"}) as slack:
        assert "SLACK_BOT_TOKEN lacks the scope im:history" in await run_and_be_refused(slack)
    async with FakeSlack(app_scopes=[]) as slack:
        sentence = await run_and_be_refused(slack)
        assert "SLACK_APP_TOKEN: missing_scope, the app needs the scope connections:write" in sentence


async def test_a_slack_that_is_away_for_a_moment_is_waited_for(slack: FakeSlack, ada: str) -> None:
    talker, dm = Talker(), slack.open_dm(ada)
    slack.fail_next("auth.test", "internal_error")
    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await answered(slack, dm, "You said: hello")
