"""A streamed reply shows the first text at once, paces its edits, and always ends with the whole text."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import DeliveryFailed
from bot.streaming import StreamedReply
from tests.fakes.sink import FakeSink

NEVER = 3600.0


async def test_nothing_shows_before_the_start_but_typing_does_after_it() -> None:
    sink = FakeSink()
    reply = StreamedReply(sink, edit_seconds=NEVER)
    assert sink.calls == []
    await reply.start()
    await sink.wait_for("typing")
    await reply.finish()
    assert sink.texts == []


async def test_the_first_text_shows_at_once_and_the_rest_waits_for_the_pace() -> None:
    sink = FakeSink()
    reply = StreamedReply(sink, edit_seconds=NEVER)
    await reply.start()
    await reply.append("Good")
    await sink.wait_for("post")
    await reply.append(" mor")
    await reply.append("ning")
    assert sink.texts == ["Good"]
    assert await reply.finish() == tuple(sink.messages)
    assert sink.texts == ["Good morning"]
    assert [call for call, _ in sink.calls if call != "typing"] == ["post", "edit"]


async def test_a_long_reply_becomes_several_messages() -> None:
    sink = FakeSink(limit=50)
    reply = StreamedReply(sink, edit_seconds=0)
    await reply.start()
    words = [f"word{number}" for number in range(60)]
    for word in words:
        await reply.append(f"{word} ")
        await asyncio.sleep(0)
    ids = await reply.finish()
    assert len(ids) == len(sink.messages) > 5
    assert " ".join(sink.texts).split() == words


async def test_a_shorter_text_in_place_of_a_long_one_takes_the_surplus_messages_away() -> None:
    sink = FakeSink(limit=50)
    reply = StreamedReply(sink, edit_seconds=0)
    await reply.start()
    await reply.append("many words " * 20)
    await sink.wait_for("post")
    await reply.replace("short")
    await reply.finish()
    assert sink.texts == ["short"]


async def test_a_failure_leaves_what_was_shown_and_adds_a_sentence() -> None:
    sink = FakeSink()
    reply = StreamedReply(sink, edit_seconds=NEVER)
    await reply.start()
    await reply.append("Half an ans")
    await reply.fail("The engine stopped.")
    assert sink.texts == ["Half an ans\n\nThe engine stopped."]


async def test_a_failed_preview_does_not_end_the_reply() -> None:
    sink = FakeSink()
    sink.failures = ["no connection"]
    reply = StreamedReply(sink, edit_seconds=0)
    await reply.start()
    await reply.append("Hello")
    await sink.wait_for("typing")
    await reply.append(" there")
    await reply.finish()
    assert sink.texts == ["Hello there"]


async def test_a_final_text_that_cannot_be_shown_is_an_error() -> None:
    sink = FakeSink()
    reply = StreamedReply(sink, edit_seconds=NEVER)
    await reply.append("Hello")
    sink.failures = ["the channel is gone"]
    with pytest.raises(DeliveryFailed, match="the channel is gone"):
        await reply.finish()


@given(st.lists(st.text(st.sampled_from("ab c\n。你👍"), max_size=30), max_size=30), st.integers(40, 60))
def test_whatever_the_pace_the_messages_together_are_the_text(pieces: list[str], limit: int) -> None:
    async def stream() -> list[str]:
        sink = FakeSink(limit=limit)
        reply = StreamedReply(sink, edit_seconds=0)
        await reply.start()
        for piece in pieces:
            await reply.append(piece)
            await asyncio.sleep(0)
        await reply.finish()
        return sink.texts

    def solid(text: str) -> str:
        return "".join(text.split())

    assert solid("".join(asyncio.run(stream()))) == solid("".join(pieces))
