"""The commands about a conversation itself, as in a terminal."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from bot.chat import Author, CommandCall
from bot.commands.run import Commands
from bot.respond import Responder
from bot.writings import Writings
from storage.database import Database
from tests.bot.conversation import ADA, BO, CHANNEL, books, message, responder
from tests.fakes.engine import FakeEngine
from tests.fakes.reply import FakeReply


@dataclass(frozen=True)
class Desk:
    commands: Commands
    responder: Responder
    writings: Writings

    async def say(self, name: str, author: Author = ADA) -> str:
        return await self.commands.run(CommandCall(name, CHANNEL, author))

    async def ask(self, text: str) -> None:
        await self.responder.respond(message(text), FakeReply())


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    engine, writings = FakeEngine("Hi.", "Again.", "And again."), Writings()
    commands = Commands(engine, database, books(database), writings)
    yield Desk(commands, responder(engine, database), writings)


async def test_why_and_context_tell_of_the_last_answer(desk: Desk) -> None:
    assert await desk.say("why") == "I have not answered anything here yet."
    assert await desk.say("context") == "I have not answered anything here yet."
    await desk.ask("hello")
    why = await desk.say("why")
    assert why.startswith(
        "I answered because you spoke to me.\nModel: fake, version fake@00000000.\nSampling: "
    )
    assert "seed 1" in why
    assert "It ended by itself." in why
    assert (await desk.say("context")).endswith("\n\n[system]\nBe kind.\n\n[user, Ada]\nhello")


async def test_a_reset_is_taken_back_once(desk: Desk) -> None:
    assert await desk.say("reset") == "There is nothing to forget: we have not talked here yet."
    assert await desk.say("undo") == "There is no reset here that could be taken back."
    await desk.ask("hello")
    assert (await desk.say("reset")).startswith("Done: I start afresh here.")
    assert await desk.say("undo") == "Done: I see again what was said before the reset."
    assert await desk.say("undo") == "There is no reset here that could be taken back."
    await desk.ask("and now?")
    assert "\n\n[user, Ada]\nhello\n\n[assistant]\nHi.\n\n[user, Ada]\nand now?" in await desk.say("context")


async def test_everybody_stops_what_they_asked_for_and_moderators_stop_all(desk: Desk) -> None:
    stopped: list[str] = []
    with (
        desk.writings.begin(1, CHANNEL, ADA.id, lambda: stopped.append("ada's")),
        desk.writings.begin(2, CHANNEL, BO.id, lambda: stopped.append("bo's")),
    ):
        assert await desk.say("stop", Author("9", "Cy")) == "I am writing nothing here that you could stop."
        assert await desk.say("stop") == "Stopped."
        assert await desk.say("stop", Author("9", "Cy", moderates=True)) == "Stopped: 2 answers."
    assert stopped == ["ada's", "ada's", "bo's"]
