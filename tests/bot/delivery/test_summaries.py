"""A long conversation, answered by a model that can write summaries."""

from dataclasses import replace

from storage.database import Database
from tests.bot.delivery.post_office import all_closed, at_work, delivery, said
from tests.fakes.courier import FakeCourier
from tests.fakes.engine import HEALTH, FakeEngine


async def test_what_no_longer_fits_is_told_in_short_to_later_answers(database: Database) -> None:
    able = replace(HEALTH, parameters=4_000_000_000, context_tokens=600)
    engine, courier = FakeEngine(default="Well, well.", health=able), FakeCourier()
    desk = delivery(engine, database)
    async with at_work(desk):
        await desk.connected(courier)
        for number in range(12):
            await desk.receive(said(f"question {number}: " + "and so on " * 15 + "?"))
            await all_closed(database)
    summaries = [r for r in engine.requests if r.messages[0].content.startswith("Write a short summary")]
    assert summaries
    assert "Ada: question 0: and so on" in summaries[0].messages[0].content
    assert engine.requests[-1].messages[0].content.startswith("Write") or (
        "What was said earlier, in short:\nWell, well." in engine.requests[-1].messages[0].content
    )
