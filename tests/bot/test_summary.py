"""What no longer fits a prompt is kept in short."""

from dataclasses import replace

import pytest

from bot.respond import Responder
from bot.summary import FEWEST, Summaries, Summariser
from model.errors import Overloaded
from storage import tables
from storage.conversations import Conversation, Summary, find_summary, reset_conversation
from storage.database import Database, Session
from tests.bot.conversation import message, responder
from tests.fakes.engine import HEALTH, Answer, FakeEngine
from tests.fakes.reply import FakeReply

MANY = FEWEST


def conversation(session: Session) -> Conversation:
    row = session.query(tables.Conversation).one()
    return Conversation(row.id, row.channel_id, "discord", row.private)


async def talk(answering: Responder, turns: int = MANY) -> None:
    for number in range(turns):
        await answering.respond(message(f"question {number}"), FakeReply())


async def first_of_the_last(database: Database) -> int:
    with database.reading() as session:
        return max(row.id for row in session.query(tables.Message)) - 1


@pytest.mark.parametrize(
    ("mode", "parameters", "written"),
    [
        ("auto", 1_000_000, False),
        ("auto", 4_000_000_000, True),
        ("on", 1_000_000, True),
        ("off", 10**10, False),
    ],
)
async def test_only_models_that_can_write_summaries_unless_told_otherwise(
    database: Database, mode: Summaries, parameters: int, written: bool
) -> None:
    await talk(responder(FakeEngine(default="Well."), database))
    engine = FakeEngine("They asked much.", health=replace(HEALTH, parameters=parameters))
    place = await database.read(conversation)
    summary = await Summariser(engine, database, mode).summarise(place, await first_of_the_last(database))
    assert (summary is not None) is written
    assert (await database.read(find_summary, place) is not None) is written


async def test_a_summary_goes_on_from_the_one_before(database: Database) -> None:
    answering = responder(FakeEngine(default="Well."), database)
    await talk(answering)
    engine = FakeEngine("First part.", "Both parts.")
    summariser = Summariser(engine, database, "on")
    place = await database.read(conversation)
    first = await summariser.summarise(place, await first_of_the_last(database))
    assert await summariser.summarise(place, await first_of_the_last(database)) is None
    await talk(answering)
    second = await summariser.summarise(place, await first_of_the_last(database))
    assert first is not None
    assert second is not None
    assert (first.text, second.text) == ("First part.", "Both parts.")
    asked = engine.requests[1].messages[0].content
    assert "So far: First part." in asked
    assert asked.count("Ada: question 0") == 1


async def test_what_a_reset_puts_aside_is_not_summed_up_any_more(database: Database) -> None:
    await talk(responder(FakeEngine(default="Well."), database))
    place = await database.read(conversation)
    await Summariser(FakeEngine("Much."), database, "on").summarise(place, await first_of_the_last(database))
    await database.write(reset_conversation, place)
    assert await database.read(find_summary, place) is None


async def test_an_engine_that_is_busy_leaves_the_summary_for_later(database: Database) -> None:
    await talk(responder(FakeEngine(default="Well."), database))
    engine = FakeEngine(Answer(Overloaded("I am busy.", retry_after=1)), "Now.")
    summariser = Summariser(engine, database, "on")
    place = await database.read(conversation)
    assert await summariser.summarise(place, await first_of_the_last(database)) is None
    later = await summariser.summarise(place, await first_of_the_last(database))
    assert isinstance(later, Summary)
