"""Slack as a platform, through the real Bolt app, a real delivery and the fake Slack."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from bot.actions import Actions
from bot.answer import Answer, Question
from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage, Reply
from bot.errors import PlatformRefused
from bot.platforms.slack_app import SlackPlatform
from bot.platforms.slack_presses import FAILED
from bot.platforms.slack_private import CUT, PRIVATELY
from storage import tables
from storage.database import Database
from storage.errors import DiskFull
from storage.inbox import add_received
from tests.bot.delivery.post_office import all_closed, inbox
from tests.bot.platforms.talker import Talker
from tests.fakes.slack_server import BOT_SCOPES, FakeSlack
from tests.fakes.slack_state import Ephemeral, Message, Status


class HastySlack(SlackPlatform):
    ping_seconds: ClassVar[float] = 0.05
    watch_seconds: ClassVar[float] = 0.05


@asynccontextmanager
async def started(slack: FakeSlack, talker: Talker) -> AsyncIterator[None]:
    """Parley from a start to a stop, whatever is open then."""
    delivery = talker.open_delivery()
    platform = HastySlack(
        bot_token=slack.bot_token,
        app_token=slack.app_token,
        use_cases=talker.use_cases(delivery),
        api_url=slack.api_url,
    )
    working = asyncio.create_task(delivery.run())
    running = asyncio.create_task(platform.run())
    try:
        await slack.wait_until_connected()
        yield
    finally:
        for task in (working, running):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(slack: FakeSlack, talker: Talker) -> AsyncIterator[None]:
    """Parley from a start until all is answered."""
    async with started(slack, talker):
        yield
        await all_closed(talker.database)


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


@pytest.fixture
def talker(database: Database) -> Talker:
    return Talker(database)


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


async def answered(slack: FakeSlack, channel: str, *expected: str) -> None:
    await slack.wait_for(lambda: texts(slack.answers(channel)) == list(expected))


async def recorded_parts(database: Database) -> list[str]:
    """Slack's ids of the answers, as the dialogue has them."""
    with database.reading() as session:
        query = select(tables.MessagePart.external_id)
        parts = session.scalars(query.order_by(tables.MessagePart.message_id, tables.MessagePart.part))
        return list(parts)


@pytest.mark.parametrize("mention_first", [False, True])
async def test_a_mention_is_answered_once_in_its_thread(
    slack: FakeSlack, talker: Talker, ada: str, channel: str, mention_first: bool
) -> None:
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
        client_msg_id=slack.messages(channel)[0].client_msg_id,
    )
    assert talker.asked.empty()
    (answer,) = slack.answers(channel)
    assert answer.thread == ts
    assert await recorded_parts(talker.database) == [answer.ts]


async def test_a_mention_in_a_thread_is_answered_there(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    async with serving(slack, talker):
        root = await slack.say(channel, ada, "something else")
        await slack.say(channel, ada, f"what do you say <@{slack.bot_user}>?", thread=root)
        await answered(slack, channel, "You said: what do you say?")
    message = talker.asked.get_nowait()
    assert (message.via, message.conversation.thread, message.reply_to) == ("mention", root, None)
    assert slack.answers(channel)[0].thread == root


async def test_a_message_in_a_thread_is_handed_on_as_a_follow_up(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    channel = slack.add_channel("secret", private=True)
    async with serving(slack, talker):
        root = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "You said: hello")
        await slack.say(channel, ada, "go on", thread=root)
        await answered(slack, channel, "You said: hello", "You said: go on")
    first, second = talker.asked.get_nowait(), talker.asked.get_nowait()
    assert (first.via, second.via) == ("mention", "thread")
    assert first.conversation == second.conversation


async def test_a_direct_message_is_answered_where_it_stands(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
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
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    robot, dm = slack.add_user("robot", bot=True), slack.open_dm(ada)
    async with serving(slack, talker):
        root = await slack.say(channel, ada, "not for you")
        await slack.say(channel, robot, f"<@{slack.bot_user}> I am a bot")
        await slack.say(channel, robot, "so am I", thread=root)
        await slack.say(dm, ada, "joined", subtype="channel_join")
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
    assert [(row.channel, row.decision) for row in await inbox(talker.database)] == [(dm, "answer")]


async def test_a_thread_that_parley_takes_no_part_in_is_decided_on_and_left_alone(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    async with serving(slack, talker):
        root = await slack.say(channel, ada, "not for you")
        await slack.say(channel, ada, "nor this", thread=root)
        await slack.wait_for_acks()
    (row,) = await inbox(talker.database)
    assert (row.decision, row.text) == ("ignore", "")
    assert talker.asked.empty()
    assert slack.answers(channel) == []


async def test_what_is_edited_or_deleted_before_its_answer_begins_counts(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    talker.may_answer.clear()
    async with serving(slack, talker):
        await slack.say(dm, ada, "first")
        await talker.asked.get()
        edited, deleted = await slack.say(dm, ada, "helo"), await slack.say(dm, ada, "never mind")
        await slack.wait_for_acks()
        change = {"type": "message", "channel": dm, "channel_type": "im", "hidden": True}
        new = {"type": "message", "user": ada, "text": "hello", "ts": edited}
        await slack.send_event(change | {"subtype": "message_changed", "message": new})
        await slack.send_event(change | {"subtype": "message_deleted", "deleted_ts": deleted})
        await slack.wait_for_acks()
        talker.may_answer.set()
        await answered(slack, dm, "You said: first", "You said: hello")
    assert [row.state for row in await inbox(talker.database)] == ["done", "done", "cancelled"]


async def test_an_event_that_comes_again_is_answered_once(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "You said: hello")
        for envelope in slack.socket.envelopes[:2]:
            await slack.socket.redeliver(envelope)
        await slack.say(channel, ada, f"<@{slack.bot_user}> bye")
        await answered(slack, channel, "You said: hello", "You said: bye")
        await slack.wait_for_acks()
    assert talker.asked.qsize() == 2


async def test_names_channels_and_links_are_readable(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    bob = slack.add_user("bob", display_name="Bob &amp; Co")
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


async def test_messages_are_handed_on_in_the_order_of_arrival(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    slack.fail_next("users.info", "ratelimited", retry_after=0)
    async with serving(slack, talker):
        for number in range(5):
            await slack.say(dm, ada, f"message {number}")
        heard = [(await talker.asked.get()).text for _ in range(5)]
    assert heard == [f"message {number}" for number in range(5)]


async def test_a_person_whose_name_is_not_told_is_answered_all_the_same(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    slack.fail_next("users.info", "internal_error")
    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await answered(slack, dm, "You said: hello")
    assert talker.asked.get_nowait().author == Author(ada, ada)


async def test_a_thread_shows_that_an_answer_is_being_written(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    talker.may_answer.clear()
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.wait_for(lambda: slack.state.statuses == [Status(channel, ts, "is writing...")])
        talker.may_answer.set()
        await answered(slack, channel, "You said: hello")


async def test_parley_answers_in_the_channel_and_quotes_who_asked_what(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    talker.may_answer.clear()
    async with serving(slack, talker):
        envelope = await slack.use_command("/parley", "what is &lt;b&gt;,\nplease?", ada, channel)
        message = await talker.asked.get()
        await slack.wait_for(lambda: envelope.acked)
        assert envelope.seconds_to_ack < 1
        assert slack.answers(channel) == []
        talker.may_answer.set()
        heading = "*Ada L.* asked:\n&gt; what is &lt;b&gt;, please?\n\n"
        await answered(slack, channel, f"{heading}You said: what is &lt;b&gt;,\nplease?")
    assert (message.via, message.private, message.conversation) == (
        "command",
        False,
        ConversationKey("slack", slack.team, channel),
    )
    assert message.message_id == f"command-{envelope.payload['trigger_id']}"
    assert message.author == Author(ada, "Ada L.")
    assert envelope.ack == {}
    assert slack.ephemerals == []


async def test_parley_in_a_direct_message_simply_answers(slack: FakeSlack, talker: Talker, ada: str) -> None:
    dm = slack.open_dm(ada)
    async with serving(slack, talker):
        await slack.use_command("/parley", "hello", ada, dm)
        await answered(slack, dm, "You said: hello")
    assert talker.asked.get_nowait().private


@pytest.mark.parametrize("private", [False, True])
async def test_parley_where_the_bot_is_not_a_member_answers_the_asker_alone(
    slack: FakeSlack, talker: Talker, ada: str, private: bool
) -> None:
    channel = slack.add_channel("far", private=private, bot_inside=False)
    async with serving(slack, talker):
        await slack.use_command("/parley", "hello", ada, channel)
        await slack.wait_for(lambda: slack.ephemerals != [])
    (answer,) = slack.ephemerals
    assert (answer.user, answer.text) == (ada, f"{PRIVATELY}\n\nYou said: hello")
    assert slack.messages(channel) == []


async def test_a_private_answer_that_is_too_long_is_cut_and_says_so(
    slack: FakeSlack, database: Database, ada: str
) -> None:
    story = " ".join(f"word{number}" for number in range(2500))
    channel = slack.add_channel("far", bot_inside=False)
    async with serving(slack, Talker(database, lambda message: [story])):
        await slack.use_command("/parley", "hello", ada, channel)
        await slack.wait_for(lambda: len(slack.ephemerals) == 5)
    said = "".join(post.text for post in slack.ephemerals)
    assert said.endswith(CUT)
    shown = said.removeprefix(f"{PRIVATELY}\n\n").removesuffix(CUT)
    assert story.replace(" ", "").startswith(shown.replace(" ", "").strip())
    (row,) = await inbox(database)
    assert (row.state, row.last_error) == ("done", None)


@pytest.mark.parametrize(("typed", "name"), [("reset", "reset"), (" Help ", "help"), ("", "help")])
async def test_parley_reset_and_help_are_answered_privately_without_the_model(
    slack: FakeSlack, talker: Talker, ada: str, channel: str, typed: str, name: str
) -> None:
    async with serving(slack, talker):
        envelope = await slack.use_command("/parley", typed, ada, channel)
        await slack.wait_for(lambda: envelope.acked and slack.ephemerals != [])
    where = ConversationKey("slack", slack.team, channel)
    (call,) = talker.commands
    assert (call.name, call.conversation, call.author, call.private) == (
        name,
        where,
        Author(ada, "Ada L."),
        False,
    )
    assert talker.asked.empty()
    assert [(post.user, post.text) for post in slack.ephemerals] == [(ada, f"*{name}* for &lt;Ada L.&gt;")]


async def test_a_command_that_fails_says_so(
    slack: FakeSlack, database: Database, ada: str, channel: str
) -> None:
    class Broken(Talker):
        async def run_command(self, call: CommandCall) -> str:
            raise RuntimeError("no database")

    with capture_logs() as logs:
        async with serving(slack, Broken(database)):
            await slack.use_command("/parley", "reset", ada, channel)
            await slack.wait_for(lambda: slack.ephemerals != [])
    assert slack.ephemerals[0].text.startswith("Something went wrong with reset")
    assert "a command failed" in [entry["event"] for entry in logs]


async def test_an_event_is_acknowledged_before_its_answer_is_made(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    talker.may_answer.clear()
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await talker.asked.get()
        await slack.wait_for_acks()
        assert slack.answers(channel) == []
        talker.may_answer.set()
        await answered(slack, channel, "You said: hello")


async def test_a_crash_in_one_answer_is_told_and_logged_and_others_go_on(
    slack: FakeSlack, database: Database, ada: str
) -> None:
    class Fragile(Talker):
        async def answer(
            self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
        ) -> None:
            if message.text == "crash":
                raise RuntimeError("a bug")
            await super().answer(message, question, answer, reply)

    dm = slack.open_dm(ada)
    with capture_logs() as logs:
        async with serving(slack, Fragile(database)):
            await slack.say(dm, ada, "crash")
            await slack.say(dm, ada, "hello")
            await slack.wait_for(lambda: len(slack.answers(dm)) == 2)
    crashed, other = texts(slack.answers(dm))
    (entry,) = [entry for entry in logs if entry["event"] == "no answer"]
    assert crashed == (
        f"Something went wrong on my side. The log has the details under {entry['reference']}."
    )
    assert other == "You said: hello"


async def test_a_long_answer_is_several_messages_in_the_thread(
    slack: FakeSlack, database: Database, ada: str, channel: str
) -> None:
    story = " ".join(f"word{number}" for number in range(1200))
    talker = Talker(database, lambda message: [story[i : i + 1000] for i in range(0, len(story), 1000)])
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> tell me a story")
        await slack.wait_for(
            lambda: "".join(texts(slack.answers(channel))).replace(" ", "") == story.replace(" ", "")
        )
    answers = slack.answers(channel)
    assert await recorded_parts(database) == [answer.ts for answer in answers]
    assert len(answers) == 3
    assert {answer.thread for answer in answers} == {ts}


async def test_an_answer_pings_nobody_and_unfolds_nothing(
    slack: FakeSlack, database: Database, ada: str, channel: str
) -> None:
    talker = Talker(database, lambda message: ["<!here> <@U123> @everyone & **bold** https://a.b"])
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "&lt;!here&gt; &lt;@U123&gt; @everyone &amp; *bold* https://a.b")
    (answer,) = slack.answers(channel)
    metadata = answer.options.pop("metadata")
    assert metadata["event_type"] == "parley_answer"
    assert metadata["event_payload"]["question"] == answer.thread
    assert answer.options == {
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


async def test_an_answer_that_slack_does_not_take_early_is_shown_when_it_is_complete(
    slack: FakeSlack, database: Database, ada: str, channel: str
) -> None:
    talker = Talker(database, lambda message: ["the beginning", " and the end"])
    slack.fail_next("chat.postMessage", "ratelimited", retry_after=0)
    async with serving(slack, talker):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "the beginning and the end")
    (answer,) = slack.answers(channel)
    assert answer.shown == ["the beginning and the end"]


class TwoSteps(Talker):
    """Goes on when its beginning is shown and it may."""

    def __init__(self, database: Database, slack: FakeSlack) -> None:
        super().__init__(database)
        self.slack = slack

    async def answer(
        self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
    ) -> None:
        self.asked.put_nowait(message)
        await self.speak("the beginning", answer, reply)
        await answered(self.slack, message.conversation.channel, "the beginning")
        await self.may_answer.wait()
        await self.speak(" and the end", answer, reply)


async def test_the_final_text_is_shown_although_slack_says_slow_down(
    slack: FakeSlack, database: Database, ada: str, channel: str
) -> None:
    slack.fail_next("chat.update", "ratelimited", retry_after=1)
    async with serving(slack, TwoSteps(database, slack)):
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await answered(slack, channel, "the beginning and the end")
    (answer,) = slack.answers(channel)
    assert answer.shown == ["the beginning", "the beginning and the end"]


async def test_a_disconnected_socket_is_opened_again(slack: FakeSlack, talker: Talker, ada: str) -> None:
    dm = slack.open_dm(ada)
    async with serving(slack, talker):
        await slack.socket.disconnect("refresh_requested")
        await slack.say(dm, ada, "still there?")
        await answered(slack, dm, "You said: still there?")
    assert slack.socket.connections == 2


async def test_a_socket_address_that_is_out_of_date_is_asked_for_again(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    async with serving(slack, talker):
        slack.socket.stale_tickets = 1
        await slack.socket.disconnect("warning")
        await slack.say(dm, ada, "still there?")
        await answered(slack, dm, "You said: still there?")


async def test_an_answer_that_a_stop_interrupts_is_finished_in_its_place_at_the_next_start(
    slack: FakeSlack, database: Database, ada: str
) -> None:
    talker, dm = TwoSteps(database, slack), slack.open_dm(ada)
    talker.may_answer.clear()
    async with started(slack, talker):
        await slack.say(dm, ada, "hello")
        await answered(slack, dm, "the beginning")
    await slack.wait_for(lambda: slack.socket.sockets == [])
    (interrupted,) = slack.answers(dm)
    assert interrupted.shown == ["the beginning"]
    talker.may_answer.set()
    async with serving(slack, talker):
        await answered(slack, dm, "the beginning and the end")
    (answer,) = slack.answers(dm)
    assert answer is interrupted
    assert talker.asked.qsize() == 2


async def test_an_event_that_cannot_be_stored_is_not_acknowledged_and_answered_when_it_comes_again(
    slack: FakeSlack, talker: Talker, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail_once(*args: Any, **options: Any) -> bool:
        if not failed.is_set():
            failed.set()
            raise DiskFull("The disk is full.")
        return add_received(*args, **options)

    monkeypatch.setattr("bot.delivery.desk.add_received", fail_once)
    dm = slack.open_dm(ada)
    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await asyncio.to_thread(failed.wait, 10)
        (first,) = slack.socket.envelopes
        again = await slack.socket.redeliver(first)
        await slack.wait_for(lambda: again.acked)
        await answered(slack, dm, "You said: hello")
    assert not first.acked
    assert talker.asked.qsize() == 1


async def test_a_question_by_command_that_cannot_be_stored_is_not_acknowledged(
    slack: FakeSlack, talker: Talker, ada: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*args: Any, **options: Any) -> bool:
        failed.set()
        raise DiskFull("The disk is full.")

    async with serving(slack, talker):
        with monkeypatch.context() as patch:
            patch.setattr("bot.delivery.desk.add_received", fail)
            lost = await slack.use_command("/parley", "one", ada, channel)
            await asyncio.to_thread(failed.wait, 10)
        kept = await slack.use_command("/parley", "two", ada, channel)
        await slack.wait_for(lambda: kept.acked)
    assert not lost.acked
    assert [message.text.splitlines()[-1] for message in slack.answers(channel)] == ["You said: two"]


async def test_a_first_mention_of_which_only_the_plain_event_comes_is_answered(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    mention = slack.state.add_message(channel, ada, f"<@{slack.bot_user}> hello")
    async with serving(slack, talker):
        await slack.send_event(slack.api.message_event(mention))
        await answered(slack, channel, "You said: hello")
    (answer,) = slack.answers(channel)
    assert answer.thread == mention.ts


async def test_a_question_that_is_deleted_and_leaves_a_tombstone_is_not_answered(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    talker.may_answer.clear()
    async with serving(slack, talker):
        await slack.say(dm, ada, "first")
        await talker.asked.get()
        deleted = await slack.say(dm, ada, "never mind")
        await slack.wait_for_acks()
        tombstone = {"subtype": "tombstone", "text": "This message was deleted.", "ts": deleted}
        change = {"type": "message", "subtype": "message_changed", "channel": dm, "channel_type": "im"}
        await slack.send_event(change | {"hidden": True, "message": {"type": "message"} | tombstone})
        await slack.wait_for_acks()
        talker.may_answer.set()
    assert texts(slack.answers(dm)) == ["You said: first"]


async def test_what_was_said_while_the_socket_was_away_is_read_at_the_next_hello_and_answered_once(
    slack: FakeSlack, talker: Talker, ada: str, channel: str
) -> None:
    mention = f"<@{slack.bot_user}> "
    async with serving(slack, talker):
        root = await slack.say(channel, ada, f"{mention}hello")
        await answered(slack, channel, "You said: hello")
        await slack.socket.disconnect("refresh_requested")
        # Of the first two no event ever comes, of the third one both the history and an event tell.
        slack.state.add_message(channel, ada, "in the thread", thread=root)
        slack.state.add_message(channel, ada, f"{mention}in the channel")
        await slack.say(channel, ada, f"{mention}told twice")
        await slack.wait_for(lambda: len(slack.answers(channel)) == 4)
        await slack.wait_for_acks()
        await slack.socket.disconnect("refresh_requested")
        await slack.say(channel, ada, f"{mention}after all")
        await slack.wait_for(lambda: "You said: after all" in texts(slack.answers(channel)))
    said = ["hello", "in the channel", "in the thread", "told twice", "after all"]
    assert sorted(texts(slack.answers(channel))) == sorted(f"You said: {words}" for words in said)
    assert talker.asked.qsize() == 5


async def run_and_be_refused(
    slack: FakeSlack, talker: Talker, *, bot_token: str = "", app_token: str = ""
) -> str:
    delivery = talker.open_delivery()
    platform = SlackPlatform(
        bot_token=bot_token or slack.bot_token,
        app_token=app_token or slack.app_token,
        use_cases=talker.use_cases(delivery),
        api_url=slack.api_url,
    )
    with pytest.raises(PlatformRefused) as refused:
        await asyncio.wait_for(platform.run(), 5)
    assert "secret" not in str(refused.value)
    return str(refused.value)


async def test_a_refused_token_is_named_and_not_shown(slack: FakeSlack, talker: Talker) -> None:
    sentence = await run_and_be_refused(slack, talker, bot_token="xoxb-secret")
    assert sentence.startswith("Slack refused SLACK_BOT_TOKEN: invalid_auth. It is the Bot User OAuth Token")
    sentence = await run_and_be_refused(slack, talker, app_token="xapp-secret")
    assert sentence.startswith("Slack refused SLACK_APP_TOKEN: invalid_auth. It is an app-level token")
    sentence = await run_and_be_refused(slack, talker, bot_token=slack.app_token)
    assert sentence.startswith("Slack refused SLACK_BOT_TOKEN: not_allowed_token_type")


async def test_a_missing_scope_is_named(talker: Talker) -> None:
    async with FakeSlack(scopes=set(BOT_SCOPES) - {"im:history"}) as slack:
        assert "SLACK_BOT_TOKEN lacks the scope im:history" in await run_and_be_refused(slack, talker)
    async with FakeSlack(app_scopes=[]) as slack:
        sentence = await run_and_be_refused(slack, talker)
        assert "SLACK_APP_TOKEN: missing_scope, the app needs the scope connections:write" in sentence


async def test_a_slack_that_is_away_for_a_moment_is_waited_for(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    slack.fail_next("auth.test", "internal_error")
    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await answered(slack, dm, "You said: hello")


async def test_a_press_is_acknowledged_before_it_is_done_and_one_that_fails_says_so(
    slack: FakeSlack, talker: Talker, ada: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def fail(*_: object) -> None:
        await go_on.wait()
        raise DiskFull("The disk is full.")

    monkeypatch.setattr(Actions, "press", fail)
    async with serving(slack, talker):
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.wait_for(lambda: slack.answers(channel) != [])
        pressed = await slack.press(slack.answers(channel)[0], ada, "Why?")
        await slack.wait_for(lambda: pressed.acked)
        assert slack.ephemerals == []
        go_on.set()
        await slack.wait_for(lambda: slack.ephemerals != [])
    assert slack.ephemerals == [Ephemeral(channel, ada, FAILED, ts)]


async def test_a_form_that_cannot_be_stored_stays_open(
    slack: FakeSlack, talker: Talker, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm, failed = slack.open_dm(ada), asyncio.Event()

    async def fail(*_: object) -> str:
        failed.set()
        raise DiskFull("The disk is full.")

    async with serving(slack, talker):
        await slack.say(dm, ada, "hello")
        await slack.wait_for(lambda: slack.answers(dm) != [])
        await slack.press(slack.answers(dm)[0], ada, "👎")
        await slack.wait_for(lambda: slack.state.views != [])
        with monkeypatch.context() as patch:
            patch.setattr(Actions, "rate", fail)
            lost = await slack.submit(slack.state.views[0], reason="too short")
            await failed.wait()
        kept = await slack.submit(slack.state.views[0], reason="too short")
        await slack.wait_for(lambda: kept.acked and slack.ephemerals != [])
    assert not lost.acked


async def test_a_preview_that_slack_adds_to_a_link_is_no_edit(
    slack: FakeSlack, talker: Talker, ada: str
) -> None:
    dm = slack.open_dm(ada)
    talker.may_answer.clear()
    async with serving(slack, talker):
        await slack.say(dm, ada, "first")
        await talker.asked.get()
        ts = await slack.say(dm, ada, "see a.b")
        same = {"type": "message", "user": ada, "text": "see <https://a.b|a.b>", "ts": ts}
        fields = {"message": same | {"attachments": [{"title": "A page"}]}, "previous_message": same}
        await slack.send_event(
            slack.api.change_event("message_changed", slack.state.get_message(dm, ts), **fields)
        )
        await slack.wait_for_acks()
        talker.may_answer.set()
        await answered(slack, dm, "You said: first", "You said: see a.b")
