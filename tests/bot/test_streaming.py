"""An answer that grows shows its first text at once, paces its edits, and is whole at the end."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bot.edit_budget import EditBudget
from bot.streaming import Preview
from tests.fakes.sink import FakeSink

NEVER = 3600.0


async def test_nothing_shows_before_the_start_but_typing_does_after_it() -> None:
    sink = FakeSink()
    preview = Preview(sink, EditBudget(NEVER))
    assert sink.calls == []
    await preview.start()
    await sink.wait_for("typing")
    assert await preview.finish() == ()
    assert sink.texts == []


async def test_the_first_text_shows_at_once_and_the_rest_waits_for_its_turn() -> None:
    sink = FakeSink()
    preview = Preview(sink, EditBudget(NEVER))
    await preview.start()
    await preview.append("Good")
    await sink.wait_for("shown")
    await preview.append(" mor")
    await preview.append("ning")
    assert await preview.finish() == ("Good morning",)
    assert [call for call in sink.calls if call[0] != "typing"] == [("post", "Good"), ("shown", "")]


async def test_an_edit_that_is_on_its_way_arrives_before_the_answer_ends() -> None:
    sink = FakeSink()
    preview = Preview(sink, EditBudget(0))
    await preview.start()
    await preview.append("Good")
    await sink.wait_for("shown")
    sink.may_edit.clear()
    await preview.append(" mor")
    await sink.wait_for("edit")
    await preview.append("ning")
    finishing = asyncio.create_task(preview.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    sink.may_edit.set()
    assert await finishing == ("Good morning",)
    assert sink.texts == ["Good mor"]


async def test_an_answer_that_stands_there_already_waits_for_its_turn_with_the_first_text() -> None:
    sink = FakeSink()
    sink.messages = {0: "What an earlier try left."}
    preview = Preview(sink, EditBudget(NEVER))
    await preview.start()
    await preview.append("Good")
    await preview.finish()
    assert sink.texts == ["What an earlier try left."]


async def test_a_second_message_that_needs_an_edit_gets_the_next_turn() -> None:
    sink = FakeSink(limit=50)
    sink.messages = {0: "old", 1: "old"}
    preview = Preview(sink, EditBudget(0))
    await preview.start()
    await preview.append("word " * 12)
    await sink.wait_for("shown")
    assert [text for call, text in sink.calls if call == "edit"] == sink.texts == list(await preview.finish())


async def test_a_long_answer_is_shown_in_several_messages() -> None:
    sink = FakeSink(limit=50)
    preview = Preview(sink, EditBudget(0))
    await preview.start()
    words = [f"word{number}" for number in range(60)]
    await preview.append(" ".join(words))
    await sink.wait_for("post", times=5)
    pieces = await preview.finish()
    assert len(pieces) > 5
    assert " ".join(pieces).split() == words
    assert sink.texts == list(pieces[: len(sink.texts)])


async def test_a_failure_leaves_what_was_said_and_adds_a_sentence() -> None:
    preview = Preview(FakeSink(), EditBudget(NEVER))
    await preview.start()
    await preview.append("Half an ans")
    await preview.fail("The engine stopped.")
    assert await preview.finish() == ("Half an ans\n\nThe engine stopped.",)


@given(st.lists(st.text(st.sampled_from("ab c\n。你👍"), max_size=30), max_size=30), st.integers(40, 60))
def test_whatever_the_pace_the_messages_together_are_the_text(pieces: list[str], limit: int) -> None:
    async def stream() -> tuple[str, ...]:
        preview = Preview(FakeSink(limit=limit), EditBudget(0))
        await preview.start()
        for piece in pieces:
            await preview.append(piece)
            await asyncio.sleep(0)
        return await preview.finish()

    def solid(text: str) -> str:
        return "".join(text.split())

    shown = asyncio.run(stream())
    assert solid("".join(shown)) == solid("".join(pieces))
    assert all(len(piece) <= limit for piece in shown)
