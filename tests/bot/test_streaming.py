"""An answer that grows shows its first text at once, paces its edits, and is whole at the end."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bot.streaming import Preview
from tests.fakes.sink import FakeSink

NEVER = 3600.0


async def test_nothing_shows_before_the_start_but_typing_does_after_it() -> None:
    sink = FakeSink()
    preview = Preview(sink, edit_seconds=NEVER)
    assert sink.calls == []
    await preview.start()
    await sink.wait_for("typing")
    assert await preview.finish() == ()
    assert sink.texts == []


async def test_the_first_text_shows_at_once_and_the_rest_waits_for_the_pace() -> None:
    sink = FakeSink()
    preview = Preview(sink, edit_seconds=NEVER)
    await preview.start()
    await preview.append("Good")
    await sink.wait_for("show")
    await preview.append(" mor")
    await preview.append("ning")
    assert await preview.finish() == ("Good morning",)
    assert sink.texts == ["Good"]
    assert [call for call, _ in sink.calls if call != "typing"] == ["show"]


async def test_a_long_answer_is_shown_in_several_messages() -> None:
    sink = FakeSink(limit=50)
    preview = Preview(sink, edit_seconds=0)
    await preview.start()
    words = [f"word{number}" for number in range(60)]
    await preview.append(" ".join(words))
    await sink.wait_for("show", times=5)
    pieces = await preview.finish()
    assert len(pieces) > 5
    assert " ".join(pieces).split() == words
    assert sink.texts[:5] == list(pieces[:5])


async def test_a_failure_leaves_what_was_said_and_adds_a_sentence() -> None:
    preview = Preview(FakeSink(), edit_seconds=NEVER)
    await preview.start()
    await preview.append("Half an ans")
    await preview.fail("The engine stopped.")
    assert await preview.finish() == ("Half an ans\n\nThe engine stopped.",)


@given(st.lists(st.text(st.sampled_from("ab c\n。你👍"), max_size=30), max_size=30), st.integers(40, 60))
def test_whatever_the_pace_the_messages_together_are_the_text(pieces: list[str], limit: int) -> None:
    async def stream() -> tuple[str, ...]:
        preview = Preview(FakeSink(limit=limit), edit_seconds=0)
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
