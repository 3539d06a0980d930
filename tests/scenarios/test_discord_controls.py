"""On Discord, through the real discord.py: the buttons under an answer, settings by commands, and when Parley talks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from storage import tables
from storage.database import Database
from tests.bot.conversation import Stored, stored_messages
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import Interaction, Message
from tests.fakes.engine import Answer, FakeEngine
from tests.scenarios.house import on_discord, parley

STOP, AGAIN = "Stop", "Again"


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord(message_content=True) as fake:
        yield fake


def labels(message: Message) -> list[str]:
    return [button["label"] for row in message.components for button in row["components"]]


async def said(discord: FakeDiscord, interaction: Interaction) -> str:
    """What only the presser sees."""

    def shown() -> str:
        return "".join(message.content for message in interaction.messages if message.ephemeral)

    await discord.wait_for(shown)
    return shown()


async def test_an_answer_is_stopped_written_again_and_explained_by_its_buttons(
    discord: FakeDiscord, database: Database
) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    hold = asyncio.Event()
    engine = FakeEngine(Answer("Once upon a time", hold), "There was a king.")
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(channel, ada, f"{discord.bot.mention} a story, please")
        await discord.wait_for(lambda: discord.answers(channel))
        (answer,) = discord.answers(channel)
        assert labels(answer) == [STOP]
        refused = await discord.press(answer, bob, STOP)
        assert await said(discord, refused) == "Only who asked, and moderators, may do that."
        await discord.press(answer, ada, STOP)
        await discord.wait_for(lambda: answer.content == "Once upon a time\n\n(Stopped.)")
        await discord.wait_for(lambda: AGAIN in labels(answer))

        await discord.press(answer, ada, AGAIN)
        await discord.wait_for(lambda: answer.content == "There was a king." and "◀ 2/2" in labels(answer))
        await discord.press(answer, ada, "◀ 2/2")
        await discord.wait_for(lambda: answer.content == "Once upon a time" and "1/2 ▶" in labels(answer))

        why = await said(discord, await discord.press(answer, bob, "Why?"))
        assert "It ended by being stopped." in why
        saw = await said(discord, await discord.press(answer, bob, "What I saw"))
        assert saw.endswith("[user, Ada]\na story, please")
    assert discord.answers(channel) == [answer]
    assert await stored_messages(database) == [
        Stored("user", "a story, please"),
        Stored("assistant", "Once upon a time"),
        Stored("assistant", "There was a king."),
    ]


async def test_a_bad_rating_may_say_why(discord: FakeDiscord, database: Database) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Twelve."), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(channel, ada, f"{discord.bot.mention} what is 5 + 8?")
        await discord.wait_for(
            lambda: discord.answers(channel) and labels(discord.answers(channel)[0]) != [STOP]
        )
        (answer,) = discord.answers(channel)
        assert await said(discord, await discord.press(answer, ada, "👍")) == "Thank you: noted."
        pressed = await discord.press(answer, ada, "👎")
        await discord.wait_for(lambda: pressed.modal)
        given = await discord.submit(discord.modal_of(pressed), ada, reason="it is thirteen")
        assert await said(discord, given) == "Thank you: noted."
    with database.reading() as session:
        ratings = session.scalars(select(tables.Feedback).order_by(tables.Feedback.id))
        kept = [(row.rating, row.reason) for row in ratings]
    assert kept == [("up", None), ("down", None), ("down", "it is thirteen")]


async def test_a_manager_gives_a_category_a_bundle_and_people_choose_how_words_are_drawn(
    discord: FakeDiscord, database: Database
) -> None:
    guild = discord.add_guild("Home")
    channel = discord.add_channel(guild, "lessons", category=discord.add_category(guild, "School"))
    chief = discord.join(
        guild,
        discord.add_user("Chief"),
        roles=[discord.add_role(guild, "chiefs", permissions=["MANAGE_GUILD"])],
    )
    ada = discord.add_user("Ada")
    engine = FakeEngine("Plants eat light.")
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        made = await discord.use_command(
            channel, chief, "bundle set", name="tutor", setting="persona", value="You teach biology."
        )
        assert await said(discord, made) == "The bundle tutor holds persona = You teach biology.."
        bound = await discord.use_command(channel, chief, "bundle bind", name="tutor", where="category")
        assert await said(discord, bound) == "The bundle tutor holds for this category now."
        offered = await discord.autocomplete(channel, chief, "bundle show", option="name", typed="tu")
        assert [choice["value"] for choice in offered] == ["tutor"]

        refused = await discord.use_command(channel, ada, "settings set", setting="talk", value="off")
        assert (await said(discord, refused)).startswith("You may not change my settings")
        await said(discord, await discord.use_command(channel, ada, "sampling preset", name="precise"))
        await discord.say(channel, ada, f"{discord.bot.mention} what do plants eat?")
        await discord.wait_for(lambda: discord.answers(channel))
        shown = await said(discord, await discord.use_command(channel, ada, "settings show"))
    assert "persona: You teach biology. (the bundle tutor, for this category)" in shown
    assert "temperature: 0.2 (you)" in shown
    (request,) = engine.requests
    assert request.messages[0].content == "You teach biology."
    assert (request.sampling.temperature, request.sampling.top_p) == (0.2, 0.9)


async def test_who_was_denied_gets_no_answer_and_a_sentence_to_a_command(
    discord: FakeDiscord, database: Database
) -> None:
    guild = discord.add_guild("Home")
    channel = discord.add_channel(guild, "general")
    chief = discord.join(
        guild,
        discord.add_user("Chief"),
        roles=[discord.add_role(guild, "chiefs", permissions=["MANAGE_GUILD"])],
    )
    bob = discord.add_user("Bob")
    async with parley(FakeEngine("Hi Chief."), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        denied = await discord.use_command(channel, chief, "access deny", need="chat", subject=bob.mention)
        assert await said(discord, denied) == f"From now on the person {bob.id} may not: chat."
        await discord.say(channel, bob, f"{discord.bot.mention} hello")
        asked = await discord.use_command(channel, bob, "chat", message="hello?")
        await discord.wait_for(lambda: asked.original and asked.original.content)
        assert asked.original is not None
        assert asked.original.content == "You may not talk with me here: there is a rule for you."
        await discord.say(channel, chief, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel)[-1].content == "Hi Chief.")
    with database.reading() as session:
        decided = [(row.decision, row.reason) for row in session.scalars(select(tables.Inbox))]
    assert decided[0] == ("blocked", "there is a rule for you")


async def test_a_wake_word_calls_and_everything_else_is_left_alone(
    discord: FakeDiscord, database: Database
) -> None:
    guild = discord.add_guild("Home")
    channel = discord.add_channel(guild, "general")
    chief = discord.join(
        guild,
        discord.add_user("Chief"),
        roles=[discord.add_role(guild, "chiefs", permissions=["MANAGE_GUILD"])],
    )
    ada = discord.add_user("Ada")
    settings = on_discord(discord) | {"discord_message_content": True}
    async with parley(FakeEngine("At your service."), database, **settings):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        await discord.say(channel, ada, "computer, are you there?")
        chosen = await discord.use_command(channel, chief, "settings set", setting="wake", value="computer")
        await said(discord, chosen)
        await discord.say(channel, ada, "my computers are slow")
        await discord.say(channel, ada, "computer, are you there?")
        await discord.wait_for(lambda: discord.answers(channel))
        why = await said(discord, await discord.use_command(channel, ada, "why"))
    assert [answer.content for answer in discord.answers(channel)] == ["At your service."]
    assert why.startswith("I answered because you said 'computer'.")
    with database.reading() as session:
        assert len(list(session.scalars(select(tables.Inbox)))) == 1


async def test_a_reset_can_be_taken_back(discord: FakeDiscord, database: Database) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    engine = FakeEngine("Hi.", "Who?", "Ada.")
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        for number, question in enumerate(("I am Ada", "who am I?", "and now?")):
            await discord.say(channel, ada, f"{discord.bot.mention} {question}")
            await discord.wait_for(lambda: len(discord.answers(channel)) == number + 1)  # noqa: B023
            if number < 2:
                await said(discord, await discord.use_command(channel, ada, ("reset", "undo")[number]))
    assert [len(request.messages) for request in engine.requests] == [2, 2, 6]


async def test_a_deleted_question_takes_its_answer_with_it(discord: FakeDiscord, database: Database) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Hi."), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        asked = await discord.say(channel, ada, f"{discord.bot.mention} hello")
        await discord.wait_for(
            lambda: discord.answers(channel) and labels(discord.answers(channel)[0]) != [STOP]
        )
        await discord.delete_message(asked)
        await discord.wait_for(lambda: not discord.answers(channel))
    assert await stored_messages(database) == []
