"""On Slack, through the real Bolt app: the buttons under an answer, who administers, edits, deletions and reactions."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from storage import tables
from storage.database import Database
from tests.bot.conversation import Stored, stored_messages
from tests.bot.delivery.post_office import all_closed
from tests.fakes.engine import Answer, FakeEngine
from tests.fakes.slack_server import FakeSlack
from tests.fakes.slack_state import Message
from tests.scenarios.house import on_slack, parley

STOP, AGAIN = "Stop", "Again"


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


async def finished(slack: FakeSlack, channel: str) -> Message:
    """The newest answer, when it is written."""
    await slack.wait_for(lambda: slack.answers(channel) != [] and AGAIN in slack.answers(channel)[-1].buttons)
    return slack.answers(channel)[-1]


async def told(slack: FakeSlack, number: int = 1) -> str:
    """What was shown to one person alone, when so much was."""
    await slack.wait_for(lambda: len(slack.ephemerals) == number)
    return slack.ephemerals[-1].text


def ratings(database: Database) -> list[tuple[str, str | None]]:
    with database.reading() as session:
        rows = session.scalars(select(tables.Feedback).order_by(tables.Feedback.id))
        return [(row.rating, row.reason) for row in rows]


async def test_an_answer_is_stopped_written_again_and_explained_by_its_buttons(
    slack: FakeSlack, database: Database
) -> None:
    ada, bob = slack.add_user("ada", display_name="Ada"), slack.add_user("bob")
    channel = slack.add_channel("general")
    hold = asyncio.Event()
    engine = FakeEngine(Answer("Once upon a time", hold), "There was a king.")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        asked = await slack.say(channel, ada, f"<@{slack.bot_user}> a story, please")
        await slack.wait_for(lambda: slack.answers(channel) != [])
        (answer,) = slack.answers(channel)
        assert answer.buttons == [STOP]
        await slack.press(answer, bob, STOP)
        assert await told(slack, 1) == "Only who asked, and moderators, may do that."
        assert (slack.ephemerals[0].user, slack.ephemerals[0].thread) == (bob, asked)
        await slack.press(answer, ada, STOP)
        await slack.wait_for(lambda: answer.text == "Once upon a time\n\n(Stopped.)")
        await slack.wait_for(lambda: AGAIN in answer.buttons)
        assert answer.buttons == [AGAIN, "Continue", "Why?", "What I saw", "👍", "👎"]

        await slack.press(answer, ada, AGAIN)
        await slack.wait_for(lambda: answer.text == "There was a king." and "◀ 2/2" in answer.buttons)
        assert "2/2 ▶" not in answer.buttons
        await slack.press(answer, ada, "◀ 2/2")
        await slack.wait_for(lambda: answer.text == "Once upon a time" and "1/2 ▶" in answer.buttons)

        await slack.press(answer, bob, "Why?")
        assert "It ended by being stopped." in await told(slack, 2)
        await slack.press(answer, bob, "What I saw")
        assert (await told(slack, 3)).endswith("[user, Ada]\na story, please")
        await slack.wait_for_acks()
    assert slack.answers(channel) == [answer]
    assert answer.blocks[0]["text"]["text"] == answer.text
    assert await stored_messages(database) == [
        Stored("user", "a story, please"),
        Stored("assistant", "Once upon a time"),
        Stored("assistant", "There was a king."),
    ]


async def test_an_answer_goes_on_in_its_thread_by_a_button(slack: FakeSlack, database: Database) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    engine = FakeEngine("One.", "Two.")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        asked = await slack.say(channel, ada, f"<@{slack.bot_user}> count")
        await slack.press(await finished(slack, channel), ada, "Continue")
        await slack.wait_for(lambda: [said.text for said in slack.answers(channel)] == ["One.", "Two."])
        await finished(slack, channel)
    assert {said.thread for said in slack.answers(channel)} == {asked}
    assert [said.content for said in engine.requests[1].messages[1:]] == ["count", "One.", "Please go on."]


async def test_a_press_that_comes_again_is_done_once(slack: FakeSlack, database: Database) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    engine = FakeEngine("One.", "Two.", "Three.")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(dm, ada, "count")
        pressed = await slack.press(await finished(slack, dm), ada, AGAIN)
        await slack.wait_for(lambda: slack.answers(dm)[0].text == "Two." and pressed.acked)
        await slack.wait_for(lambda: "◀ 2/2" in slack.answers(dm)[0].buttons)
        again = await slack.socket.send("interactive", pressed.payload)
        await slack.wait_for(lambda: again.acked)
        await slack.say(dm, ada, "go on")
        await slack.wait_for(lambda: [said.text for said in slack.answers(dm)] == ["Two.", "Three."])
        await finished(slack, dm)
    assert len(engine.requests) == 3


async def test_who_asked_stays_above_another_answer_to_a_command(
    slack: FakeSlack, database: Database
) -> None:
    ada, channel = slack.add_user("ada", display_name="Ada"), slack.add_channel("general")
    async with parley(FakeEngine("Twelve.", "12."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.use_command("/parley", "what is 5 + 7?", ada, channel)
        answer = await finished(slack, channel)
        assert answer.text == "*Ada* asked:\n&gt; what is 5 + 7?\n\nTwelve."
        await slack.press(answer, ada, AGAIN)
        await slack.wait_for(lambda: "◀ 2/2" in answer.buttons)
    assert answer.text == "*Ada* asked:\n&gt; what is 5 + 7?\n\n12."
    assert [block["text"]["text"] for block in answer.blocks[:2]] == [
        "*Ada* asked:\n&gt; what is 5 + 7?",
        "12.",
    ]


async def test_a_long_answer_has_its_buttons_under_its_last_message_and_short_blocks(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    story = " ".join(f"word{number}&" for number in range(600))
    async with parley(FakeEngine(story), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(dm, ada, "a story")
        last = await finished(slack, dm)
        await slack.wait_for(lambda: slack.answers(dm)[0].buttons == [])
    first, second = slack.answers(dm)
    assert (second, first.blocks) == (last, [])
    assert AGAIN in second.buttons


async def test_a_bad_rating_may_say_why(slack: FakeSlack, database: Database) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with parley(FakeEngine("Twelve."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(channel, ada, f"<@{slack.bot_user}> what is 5 + 8?")
        answer = await finished(slack, channel)
        await slack.press(answer, ada, "👍")
        assert await told(slack, 1) == "Thank you: noted."
        await slack.press(answer, ada, "👎")
        await slack.wait_for(lambda: slack.state.views != [])
        given = await slack.submit(slack.state.views[0], reason="it is thirteen")
        await slack.wait_for(lambda: given.acked)
        assert await told(slack, 2) == "Thank you: noted."
    assert ratings(database) == [("up", None), ("down", None), ("down", "it is thirteen")]


async def test_a_bad_rating_counts_although_the_form_came_too_late(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    slack.fail_next("views.open", "expired_trigger_id")
    async with parley(FakeEngine("Twelve."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(dm, ada, "what is 5 + 8?")
        await slack.press(await finished(slack, dm), ada, "👎")
        assert await told(slack) == "Thank you: noted."
    assert ratings(database) == [("down", None)]


async def test_a_deleted_question_takes_its_answer_with_it(slack: FakeSlack, database: Database) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    dm = slack.open_dm(ada)
    async with parley(FakeEngine("Hi.", "Hello."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        in_channel = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await finished(slack, channel)
        alone = await slack.say(dm, ada, "hello")
        await finished(slack, dm)
        await all_closed(database)
        await slack.delete_message(channel, in_channel)
        await slack.delete_message(dm, alone)
        await slack.wait_for(lambda: slack.answers(channel) == slack.answers(dm) == [])
        await slack.wait_for_acks()
    assert await stored_messages(database) == []


async def test_after_an_edit_another_answer_uses_the_new_words(slack: FakeSlack, database: Database) -> None:
    ada, bob = slack.add_user("ada"), slack.add_user("bob", display_name="Bob")
    channel = slack.add_channel("general")
    engine = FakeEngine("Hi Bbo.", "Hi Bob.")
    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()
        asked = await slack.say(channel, ada, f"<@{slack.bot_user}> greet Bbo")
        answer = await finished(slack, channel)
        await slack.edit_message(channel, asked, f"<@{slack.bot_user}> greet <@{bob}> &amp; me")
        await slack.wait_for_acks()
        await slack.press(answer, ada, AGAIN)
        await slack.wait_for(lambda: answer.text == "Hi Bob." and AGAIN in answer.buttons)
    assert engine.requests[1].messages[-1].content == "greet @Bob & me"


async def test_who_administers_the_workspace_changes_settings_rules_and_bundles(
    slack: FakeSlack, database: Database
) -> None:
    chief, bob = slack.add_user("chief", admin=True), slack.add_user("bob", display_name="Bob")
    channel = slack.add_channel("general")
    engine = FakeEngine("Plants eat light.")

    async with parley(engine, database, **on_slack(slack)):
        await slack.wait_until_connected()

        async def type_command(user: str, text: str) -> str:
            before = len(slack.ephemerals)
            await slack.use_command("/parley", text, user, channel)
            return await told(slack, before + 1)

        made = await type_command(chief, "bundle set tutor persona You teach &lt;biology&gt; &amp; more.")
        assert made == "The bundle tutor holds persona = You teach &lt;biology&gt; &amp; more.."
        bound = await type_command(chief, "bundle bind tutor channel")
        assert bound == "The bundle tutor holds for this channel now."
        refused = await type_command(bob, "settings set talk off")
        assert refused.startswith("You may not change my settings")
        denied = await type_command(chief, f"access deny chat <@{bob}|bob>")
        assert denied == f"From now on the person {bob} may not: chat."
        asked = await slack.say(channel, chief, f"<@{slack.bot_user}> what do plants eat?")
        await finished(slack, channel)
        await slack.say(channel, chief, f"<@{slack.bot_user}> !access clear chat <@{bob}>", thread=asked)
        await slack.wait_for(lambda: len(slack.answers(channel)) == 2)
    assert bob in slack.answers(channel)[1].text
    assert engine.requests[0].messages[0].content.startswith("You teach <biology> & more.")


async def test_who_administers_may_change_another_persons_answer(
    slack: FakeSlack, database: Database
) -> None:
    ada, chief = slack.add_user("ada"), slack.add_user("chief", admin=True)
    channel = slack.add_channel("general")
    async with parley(FakeEngine("One.", "Two."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(channel, ada, f"<@{slack.bot_user}> count")
        answer = await finished(slack, channel)
        await slack.press(answer, chief, AGAIN)
        await slack.wait_for(lambda: answer.text == "Two." and AGAIN in answer.buttons)


async def test_a_long_answer_to_a_command_comes_in_several_posts(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    async with parley(FakeEngine("Long."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(dm, ada, " ".join(f"word{number}" for number in range(700)))
        await finished(slack, dm)
        await slack.use_command("/parley", "context", ada, dm)
        await slack.wait_for(lambda: len(slack.ephemerals) == 2)
    shown = " ".join(ephemeral.text for ephemeral in slack.ephemerals)
    assert "word0 " in shown
    assert shown.split()[-1] == "word699"


async def test_thumbs_under_an_answer_rate_it_and_those_elsewhere_do_not(
    slack: FakeSlack, database: Database
) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with parley(FakeEngine("Hi."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        asked = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        answer = await finished(slack, channel)
        await all_closed(database)
        await slack.react(answer, ada, "+1")
        await slack.react(answer, ada, "tada")
        await slack.react(slack.state.get_message(channel, asked), ada, "-1")
        await slack.react(answer, ada, "-1::skin-tone-3")
        await slack.wait_for_acks()
    assert ratings(database) == [("up", None), ("down", None)]


async def test_a_wake_word_calls_and_everything_else_is_left_alone(
    slack: FakeSlack, database: Database
) -> None:
    chief, ada = slack.add_user("chief", admin=True), slack.add_user("ada")
    channel = slack.add_channel("general")
    async with parley(FakeEngine("At your service."), database, **on_slack(slack)):
        await slack.wait_until_connected()
        await slack.say(channel, ada, "computer, are you there?")
        await slack.use_command("/parley", "settings set wake computer", chief, channel)
        assert await told(slack) == "wake is computer now, for this channel."
        await slack.say(channel, ada, "my computers are slow")
        await slack.say(channel, ada, "computer, are you there?")
        await finished(slack, channel)
        await all_closed(database)
    assert [answer.text for answer in slack.answers(channel)] == ["At your service."]
    with database.reading() as session:
        (row,) = session.scalars(select(tables.Inbox).where(tables.Inbox.via == "wake"))
    assert row.reason == "you said 'computer'"
