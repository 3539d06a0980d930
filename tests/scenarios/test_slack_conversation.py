"""On Slack, from the envelope to the last update and the rows of the database, through the real Bolt app."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from storage.database import Database
from tests.bot.conversation import Stored, stored_messages, stored_turns
from tests.fakes.engine import Answer, FakeEngine
from tests.fakes.slack_server import FakeSlack
from tests.scenarios.house import on_slack, parley


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


async def test_a_mention_is_answered_in_its_thread_by_a_reply_that_grows_and_is_remembered(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada", display_name="Ada")
    channel = slack.add_channel("general")
    seen = asyncio.Event()
    engine = FakeEngine(Answer("Hello", seen, ", Ada!"), "Still here.")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        asked = await slack.say(channel, ada, f"<@{slack.bot_user}> hi there")
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)] == ["Hello"])
        seen.set()
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)] == ["Hello, Ada!"])
        await slack.say(channel, ada, "and now without a mention", thread=asked)
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)][1:] == ["Still here."])
    assert {said.thread for said in slack.answers(channel)} == {asked}
    assert slack.answers(channel)[0].shown[0] == "Hello"
    assert await stored_messages(database) == [
        Stored("user", "hi there"),
        Stored("assistant", "Hello, Ada!"),
        Stored("user", "and now without a mention"),
        Stored("assistant", "Still here."),
    ]
    first, second = await stored_turns(database)
    assert (first.finish_reason, second.finish_reason) == ("stop", "stop")
    assert len(second.prompt_message_ids) == 3


async def test_a_thread_that_parley_takes_no_part_in_stays_among_people(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    channel = slack.add_channel("general")
    async with parley(FakeEngine("Yes?"), database, **on_slack(slack)):
        await slack.wait_until_connected()
        began = await slack.say(channel, ada, "who is coming to lunch?")
        await slack.say(channel, ada, "nobody?", thread=began)
        await slack.say(channel, ada, f"<@{slack.bot_user}> are you there?")
        await slack.wait_for(lambda: len(slack.answers(channel)) == 1)
    assert await stored_messages(database) == [Stored("user", "are you there?"), Stored("assistant", "Yes?")]


async def test_a_direct_message_is_answered(slack: FakeSlack, database: Database) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    async with parley(FakeEngine("Good morning."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(dm, ada, "good morning")
        await slack.wait_for(lambda: [said.text for said in slack.answers(dm)] == ["Good morning."])
    assert await stored_messages(database) == [
        Stored("user", "good morning"),
        Stored("assistant", "Good morning."),
    ]


async def test_the_slash_command_is_acknowledged_at_once_and_answered_in_the_channel(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    channel = slack.add_channel("general")
    go_on = asyncio.Event()
    async with parley(FakeEngine(Answer(go_on, "Twelve.")), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.use_command("/parley", "what is 5 + 7?", ada, channel)
        await slack.wait_for_acks()
        go_on.set()
        await slack.wait_for(lambda: any("Twelve." in said.text for said in slack.answers(channel)))
    assert await stored_messages(database) == [
        Stored("user", "what is 5 + 7?"),
        Stored("assistant", "Twelve."),
    ]


async def test_a_conversation_in_a_thread_can_be_reset_without_a_slash_command(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    channel = slack.add_channel("general")
    engine = FakeEngine("Hello.", "Who are you?")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        began = await slack.say(channel, ada, f"<@{slack.bot_user}> I am Ada")
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)] == ["Hello."])
        await slack.say(channel, ada, f"<@{slack.bot_user}> /reset", thread=began)
        await slack.wait_for(lambda: len(slack.answers(channel)) == 2)
        await slack.say(channel, ada, "who am I?", thread=began)
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)][2:] == ["Who are you?"])
    assert slack.answers(channel)[1].text.startswith("Done: I start afresh here.")
    assert {said.thread for said in slack.answers(channel)} == {began}
    assert [said.content for said in engine.requests[1].messages[1:]] == ["who am I?"]
