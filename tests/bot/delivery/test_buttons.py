"""The buttons under an answer, from the press to what stands there afterwards, and in the dialogue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from bot.actions import GONE, NOT_YOURS, STILL_WRITING, THANKS, Actions, Presser
from bot.chat import Author
from bot.controls import Button, Controls, Name, Pressed, read_button
from bot.delivery.desk import Delivery
from model.errors import Overloaded
from storage import tables
from storage.conversations import Conversation, list_history
from storage.database import Database, Session
from tests.bot.conversation import ADA, BO, CHANNEL, books
from tests.bot.delivery.post_office import all_closed, at_work, delivery_parts, said
from tests.fakes.courier import FakeCourier
from tests.fakes.engine import Answer, FakeEngine


@dataclass
class House:
    """A delivery at work on one channel, and its buttons."""

    engine: FakeEngine
    database: Database
    courier: FakeCourier
    desk: Delivery
    actions: Actions
    presses: int = 0

    async def ask(self, text: str = "hello") -> int:
        """The row of the inbox, once its answer stands there."""
        await self.desk.receive(said(text))
        rows = await all_closed(self.database)
        return int(rows[-1].id)

    async def press(
        self, name: Name, inbox_id: int, by: Author = ADA, candidate: int | None = None
    ) -> str | None:
        self.presses += 1
        presser = Presser(CHANNEL, by, f"9000{self.presses}", datetime.now(UTC))
        return await self.actions.press(Pressed(name, inbox_id, candidate), presser)

    def buttons(self) -> dict[Name, Button]:
        """Of the newest message that has some."""
        shown = [shown.controls for shown in self.courier.standing.values() if shown.controls is not None]
        return {button.name: button for row in shown[-1].rows() for button in row}

    async def history(self) -> list[str]:
        def read(session: Session) -> list[str]:
            row = session.scalars(select(tables.Conversation)).one()
            conversation = Conversation(row.id, row.channel_id, "discord", row.private)
            return [message.text for message in list_history(session, conversation, limit=50)]

        return await self.database.read(read)


@asynccontextmanager
async def house(database: Database, *answers: str | Answer) -> AsyncIterator[House]:
    engine, courier = FakeEngine(*answers), FakeCourier()
    courier.has_controls = True
    parts = delivery_parts(engine, database)
    actions = Actions(database, books(database), parts.writings, parts.desk)
    async with at_work(parts.desk):
        await parts.desk.connected(courier)
        yield House(engine, database, courier, parts.desk, actions)


async def test_a_finished_answer_has_its_buttons_and_nothing_to_stop(database: Database) -> None:
    async with house(database, "One.") as here:
        row = await here.ask()
        assert list(here.buttons()) == ["regenerate", "continue", "why", "context", "up", "down"]
        assert read_button(here.buttons()["why"].id) == Pressed("why", row)


async def test_another_answer_takes_the_place_of_the_first_and_of_its_part_in_the_dialogue(
    database: Database,
) -> None:
    async with house(database, "One.", "Two.") as here:
        row = await here.ask()
        assert await here.press("regenerate", row) is None
        await all_closed(database)

        assert here.courier.texts == ["Two."]
        assert await here.history() == ["hello", "Two."]
        assert here.buttons()["previous"].label == "◀ 2/2"
        assert not here.buttons()["next"].works
        assert [message.content for message in here.engine.requests[1].messages][-1] == "hello"


async def test_one_can_leaf_through_the_answers(database: Database) -> None:
    async with house(database, "One.", "Two.", "And on.") as here:
        row = await here.ask()
        await here.press("regenerate", row)
        await all_closed(database)
        back = read_button(here.buttons()["previous"].id)
        assert back is not None
        await here.press("previous", back.inbox_id, candidate=back.candidate)
        await all_closed(database)

        assert here.courier.texts == ["One."]
        assert await here.history() == ["hello", "One."]
        forth = read_button(here.buttons()["next"].id)
        assert forth is not None
        await here.press("next", forth.inbox_id, candidate=forth.candidate)
        await all_closed(database)
        assert here.courier.texts == ["Two."]
        assert await here.history() == ["hello", "Two."]


async def test_a_second_press_on_the_old_button_changes_what_stands_there_now(database: Database) -> None:
    async with house(database, "One.", "Two, and that is a long one. " * 100, "Three.") as here:
        row = await here.ask()
        await here.press("regenerate", row)
        await all_closed(database)
        assert len(here.courier.texts) == 2
        await here.press("regenerate", row)
        await all_closed(database)
        assert here.courier.texts == ["Three."]


async def test_going_on_is_a_new_question_in_the_same_conversation(database: Database) -> None:
    async with house(database, "One.", "And two.") as here:
        row = await here.ask()
        await here.press("continue", row)
        await all_closed(database)
        assert here.courier.texts == ["One.", "And two."]
        assert await here.history() == ["hello", "One.", "Please go on.", "And two."]


async def test_a_stopped_answer_says_what_it_had_and_the_generation_ends(database: Database) -> None:
    hold = asyncio.Event()
    async with house(database, Answer("Once upon a time ", hold, "there was")) as here:
        await here.desk.receive(said("tell me"))
        await here.courier.wait_until(lambda: bool(here.courier.standing))
        assert list(here.buttons()) == ["stop"]
        (row,) = [shown.controls.inbox_id for shown in here.courier.standing.values() if shown.controls]

        assert await here.press("regenerate", row) == STILL_WRITING
        assert await here.press("stop", row, BO) == NOT_YOURS
        assert await here.press("stop", row) is None
        await all_closed(database)

        assert here.courier.texts == ["Once upon a time\n\n(Stopped.)"]
        assert await here.history() == ["tell me", "Once upon a time"]
        assert len(here.engine.cancelled) == 1
        assert "regenerate" in here.buttons()
        assert await here.press("stop", row) == "It is written already."


async def test_a_question_that_is_deleted_takes_its_answers_with_it(database: Database) -> None:
    async with house(database, "One.", "Two, and that is a long one. " * 100) as here:
        question = said("hello")
        await here.desk.receive(question)
        (row,) = await all_closed(database)
        await here.press("regenerate", row.id)
        await all_closed(database)
        assert len(here.courier.texts) == 2

        await here.desk.deleted(CHANNEL, question.message_id)
        rows = await all_closed(database)
        assert here.courier.texts == []
        assert await here.history() == []
        assert [(row.state, row.question_id) for row in rows] == [("done", None)] * 2
        await here.desk.receive(question)
        assert len(await all_closed(database)) == 2


async def test_a_question_that_is_edited_is_answered_again_in_its_new_words(database: Database) -> None:
    async with house(database, "One.", "Two.") as here:
        question = said("hello")
        await here.desk.receive(question)
        (row,) = await all_closed(database)
        await here.desk.edited(CHANNEL, question.message_id, "good night")
        await here.press("regenerate", row.id)
        await all_closed(database)
        assert await here.history() == ["good night", "Two."]
        assert here.engine.requests[1].messages[-1].content == "good night"


async def test_only_who_asked_and_moderators_change_an_answer(database: Database) -> None:
    async with house(database, "One.", "Two.") as here:
        row = await here.ask()
        assert await here.press("regenerate", row, BO) == NOT_YOURS
        assert await here.press("regenerate", row, replace(BO, moderates=True)) is None
        await all_closed(database)
        assert here.courier.texts == ["Two."]


async def test_why_and_context_say_what_happened(database: Database) -> None:
    async with house(database, "One.") as here:
        row = await here.ask()
        why = await here.press("why", row, BO)
        assert why is not None
        assert why.startswith("I answered because you mentioned me.\nModel: fake, version fake@00000000.")
        context = await here.press("context", row, BO)
        assert context is not None
        assert context.endswith("[system]\nBe kind.\n\n[user, Ada]\nhello")


async def test_ratings_are_kept_and_the_newest_counts(database: Database) -> None:
    async with house(database, "One.") as here:
        row = await here.ask()
        assert await here.press("up", row, BO) == THANKS
        presser = Presser(CHANNEL, BO, "1", datetime.now(UTC))
        assert await here.actions.rate(Pressed("down", row), presser, "down", "too short") == THANKS
        with database.reading() as session:
            rows = session.scalars(select(tables.Feedback).order_by(tables.Feedback.id))
            kept = [(row.rating, row.reason) for row in rows]
        assert kept == [("up", None), ("down", "too short")]


async def test_a_button_of_an_answer_that_is_gone_says_so(database: Database) -> None:
    async with house(database) as here:
        names: tuple[Name, ...] = ("regenerate", "why", "up")
        assert [await here.press(name, 77) for name in names] == [GONE] * 3


async def test_another_answer_that_fails_leaves_the_first_and_says_why(database: Database) -> None:
    async with house(database, "One.", Answer(Overloaded("I am busy.", retry_after=3))) as here:
        row = await here.ask()
        await here.press("regenerate", row)
        await all_closed(database)
        (text,) = here.courier.texts
        assert text.startswith("One.\n\n(")
        assert await here.history() == ["hello", "One."]


@pytest.mark.parametrize(
    "identifier", ["", "parley:why", "parley:why:x", "parley:dance:1", "other:why:1", "parley:why:1:"]
)
def test_a_strange_button_is_none_of_ours(identifier: str) -> None:
    assert read_button(identifier) is None


def test_a_row_holds_at_most_five_buttons_with_short_ids() -> None:
    rows = Controls(10**17, candidates=(1, 10**17, 3), shown=10**17).rows()
    assert all(len(row) <= 5 for row in rows)
    assert all(len(button.id) <= 100 for row in rows for button in row)


async def test_an_answer_that_is_still_on_its_way_is_taken_away_when_it_has_arrived(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.delivery.desk.RETRACT_SECONDS", 0.01)
    hold = asyncio.Event()
    async with house(database, Answer("Once upon", hold, " a time.")) as here:
        question = said("tell me")
        await here.desk.receive(question)
        await here.courier.wait_until(lambda: bool(here.courier.standing))
        await here.desk.deleted(CHANNEL, question.message_id)
        hold.set()
        await here.courier.wait_until(lambda: not here.courier.standing)
        (row,) = await all_closed(database)
        assert (row.state, row.question_id) == ("done", None)
        assert await here.history() == []
