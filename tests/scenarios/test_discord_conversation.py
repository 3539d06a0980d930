"""On Discord, from the gateway's event to the last edit and the rows of the database, through the real discord.py."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from model.request import ChatMessage
from storage.database import Database
from tests.bot.conversation import Stored, stored_messages, stored_turns
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.engine import Answer, FakeEngine
from tests.scenarios.house import on_discord, parley


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


async def test_a_mention_is_answered_by_a_reply_that_grows_and_is_remembered(
    discord: FakeDiscord, database: Database
) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    first_seen, second_seen = asyncio.Event(), asyncio.Event()
    engine = FakeEngine(Answer("Hello", first_seen, ", Ada", second_seen, "! How are you?"))
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        asked = await discord.say(channel, ada, f"{discord.bot.mention} hi there")
        await discord.wait_for(lambda: discord.answers(channel))
        (answer,) = discord.answers(channel)
        await discord.wait_for(lambda: answer.content == "Hello")
        first_seen.set()
        await discord.wait_for(lambda: answer.content == "Hello, Ada")
        second_seen.set()
        await discord.wait_for(lambda: answer.content == "Hello, Ada! How are you?")
        assert channel.typing > 0

    assert discord.answers(channel) == [answer]
    assert answer.reply_to == asked.id
    assert answer.shown[0] == "Hello"
    assert discord.pings() == []
    assert await stored_messages(database) == [
        Stored("user", "hi there"),
        Stored("assistant", "Hello, Ada! How are you?"),
    ]
    (turn,) = await stored_turns(database)
    assert (turn.finish_reason, turn.seed, turn.version) == ("stop", 1, "fake@00000000")
    assert engine.requests[0].messages[-1] == ChatMessage("user", "hi there", name="Ada")


async def test_a_direct_message_goes_on_where_it_was(discord: FakeDiscord, database: Database) -> None:
    ada = discord.add_user("Ada")
    dm = discord.add_dm(ada)
    engine = FakeEngine("Nice to meet you, Ada.", "You are Ada.")
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(dm, ada, "my name is Ada")
        await discord.wait_for(lambda: len(discord.answers(dm)) == 1)
        await discord.say(dm, ada, "what is my name?")
        await discord.wait_for(
            lambda: (
                [said.content for said in discord.answers(dm)] == ["Nice to meet you, Ada.", "You are Ada."]
            )
        )
    assert [said.content for said in engine.requests[1].messages[1:]] == [
        "my name is Ada",
        "Nice to meet you, Ada.",
        "what is my name?",
    ]
    assert len(await stored_turns(database)) == 2


async def test_the_chat_command_is_answered_in_its_own_response(
    discord: FakeDiscord, database: Database
) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Twelve."), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        await discord.use_command(channel, ada, "chat", message="what is 5 + 7?")
        await discord.wait_for(lambda: [said.content for said in discord.answers(channel)] == ["Twelve."])
    assert await stored_messages(database) == [
        Stored("user", "what is 5 + 7?"),
        Stored("assistant", "Twelve."),
    ]


async def test_while_a_person_types_the_engine_reads_the_conversation(
    discord: FakeDiscord, database: Database
) -> None:
    dm = discord.add_dm(ada := discord.add_user("Ada"))
    unknown = discord.add_dm(bob := discord.add_user("Bob"))
    engine = FakeEngine("Nice to meet you, Ada.", "You are Ada.")
    async with parley(engine, database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(dm, ada, "my name is Ada")
        await discord.wait_for(lambda: [m.content for m in discord.answers(dm)] == ["Nice to meet you, Ada."])
        while not await stored_turns(database):  # noqa: ASYNC110  # an answer is shown before it is remembered
            await asyncio.sleep(0.01)
        await discord.type(unknown, bob)
        await discord.type(dm, ada)
        while not engine.prefetched:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await discord.say(dm, ada, "what is my name?")
        await discord.wait_for(lambda: len(discord.answers(dm)) == 2)
    (ahead,) = engine.prefetched
    assert [said.content for said in ahead.messages[1:]] == ["my name is Ada", "Nice to meet you, Ada."]
    assert engine.requests[1].messages[: len(ahead.messages)] == ahead.messages


async def test_a_long_answer_becomes_several_messages_that_ping_nobody(
    discord: FakeDiscord, database: Database
) -> None:
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    ada = discord.add_user("Ada")
    text = f"@everyone {ada.mention} " + " ".join(f"word{number}" for number in range(700))
    async with parley(FakeEngine(text), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(channel, ada, f"{discord.bot.mention} go on and on")
        await discord.wait_for(
            lambda: " ".join(said.content for said in discord.answers(channel)).split() == text.split()
        )
    assert len(discord.answers(channel)) == 3
    assert discord.pings() == []
    assert (await stored_messages(database))[-1] == Stored("assistant", text)
