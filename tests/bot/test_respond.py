"""The path of one message: who is answered, what the model sees, what people read, what is remembered."""

import asyncio
from dataclasses import replace

from bot.answer import EMPTY_ANSWER, EMPTY_QUESTION
from bot.chat import CommandCall
from bot.commands.run import Commands
from bot.respond import STOPPED
from bot.writings import Writings
from model.errors import BadRequest, EngineDied, Overloaded
from model.request import ChatMessage
from storage.database import Database
from tests.bot.conversation import (
    ADA,
    BO,
    CHANNEL,
    Stored,
    books,
    message,
    responder,
    stored_messages,
    stored_turns,
)
from tests.fakes.engine import HEALTH, Answer, FakeEngine
from tests.fakes.reply import FakeReply


async def test_a_question_is_answered_and_both_are_remembered_with_the_turn(database: Database) -> None:
    engine, reply = FakeEngine("Hello, Ada!"), FakeReply()
    await responder(engine, database).respond(message("hi"), reply)
    assert (reply.text, reply.finished) == ("Hello, Ada!", True)
    assert await stored_messages(database) == [Stored("user", "hi"), Stored("assistant", "Hello, Ada!")]
    (turn,) = await stored_turns(database)
    assert (turn.version, turn.finish_reason, turn.seed) == ("fake@00000000", "stop", 1)
    assert turn.prompt_message_ids == [turn.question_id]
    assert turn.sampling["temperature"] == 0.7
    assert turn.completion_tokens == 2


async def test_the_model_sees_the_persona_the_history_and_who_speaks(database: Database) -> None:
    engine = FakeEngine("One.", "Two.")
    answering = responder(engine, database)
    await answering.respond(message("first"), FakeReply())
    await answering.respond(message("second", author=BO), FakeReply())
    assert engine.requests[1].messages == (
        ChatMessage("system", "Be kind."),
        ChatMessage("user", "first", name="Ada"),
        ChatMessage("assistant", "One."),
        ChatMessage("user", "second", name="Bo"),
    )
    assert engine.requests[1].conversation == str(CHANNEL)


async def test_in_private_nobody_is_named(database: Database) -> None:
    engine = FakeEngine("Hi.")
    await responder(engine, database).respond(message("hello", via="dm", private=True), FakeReply())
    assert engine.requests[0].messages[-1] == ChatMessage("user", "hello")


async def test_an_event_that_comes_twice_is_answered_once(database: Database) -> None:
    engine, first, second = FakeEngine("Once."), FakeReply(), FakeReply()
    answering = responder(engine, database)
    same = message("hi", message_id="m1")
    await asyncio.gather(answering.respond(same, first), answering.respond(same, second))
    assert first.text == "Once."
    assert not second.started.is_set()
    assert len(engine.requests) == 1


async def test_what_the_engine_refuses_is_read_as_its_sentence(database: Database) -> None:
    for error in (
        BadRequest("Your message has 9,000 tokens."),
        Overloaded("64 replies wait. Please try again in about 3 s.", retry_after=3),
        EngineDied("The engine was closed."),
    ):
        reply = FakeReply()
        await responder(FakeEngine(Answer("Half an ", error)), database).respond(message("hi"), reply)
        assert reply.failed_with == str(error)
        turn = (await stored_turns(database))[-1]
        assert (turn.finish_reason, turn.error) == ("failed", str(error))
    assert (await stored_messages(database))[-1] == Stored("assistant", "Half an")


async def test_an_engine_that_is_gone_still_leads_to_a_sentence_and_a_turn(database: Database) -> None:
    engine, reply = FakeEngine(), FakeReply()
    await engine.close()
    await responder(engine, database).respond(message("hi"), reply)
    assert reply.failed_with == "The engine was closed."
    assert (await stored_turns(database))[0].finish_reason == "failed"


async def test_a_fault_that_nobody_foresaw_shows_a_reference_and_no_traceback(database: Database) -> None:
    class BrokenEngine(FakeEngine):
        async def count_tokens(self, messages: object) -> int:
            raise ZeroDivisionError("secret detail")

    answering = responder(BrokenEngine(default="never"), database)
    await answering.respond(message("one"), FakeReply())
    reply = FakeReply()
    await answering.respond(message("two"), reply)
    assert reply.failed_with is not None
    assert "The log has the details under" in reply.failed_with
    assert "secret detail" not in reply.failed_with


async def test_a_stopped_answer_keeps_what_was_said_and_frees_the_engine(database: Database) -> None:
    engine, reply = FakeEngine(Answer("Once upon", asyncio.Event())), FakeReply()
    task = asyncio.create_task(responder(engine, database).respond(message("a story"), reply))
    await reply.wait_until_read("Once upon")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert reply.failed_with == STOPPED
    assert len(engine.cancelled) == 1
    (turn,) = await stored_turns(database)
    assert turn.finish_reason == "cancelled"
    assert (await stored_messages(database))[-1].text == "Once upon"


async def test_an_answer_that_cannot_be_delivered_is_remembered_with_the_reason(database: Database) -> None:
    reply = FakeReply(undeliverable="The channel was deleted.")
    await responder(FakeEngine("Hello."), database).respond(message("hi"), reply)
    (turn,) = await stored_turns(database)
    assert (turn.finish_reason, turn.error) == ("failed", "The channel was deleted.")


async def test_a_mention_without_a_question_is_greeted_without_the_model(database: Database) -> None:
    engine, reply = FakeEngine(), FakeReply()
    await responder(engine, database).respond(message("  "), reply)
    assert reply.text == EMPTY_QUESTION
    assert engine.requests == []


async def test_an_empty_answer_is_a_sentence_and_not_silence(database: Database) -> None:
    reply = FakeReply()
    await responder(FakeEngine(" "), database).respond(message("hi"), reply)
    assert reply.text.strip() == EMPTY_ANSWER


async def test_an_answer_cut_at_the_limit_says_so(database: Database) -> None:
    reply = FakeReply()
    engine = FakeEngine(Answer("one two three", reason="length"))
    await responder(engine, database).respond(message("count"), reply)
    assert reply.text == "one two three\n\n(I stopped at my limit of 3 tokens. Ask me to go on.)"
    assert (await stored_messages(database))[-1].text == "one two three"


async def test_the_deadline_of_a_reply_is_the_setting(database: Database) -> None:
    reply = FakeReply()
    engine = FakeEngine(Answer("Slow", asyncio.Event()))
    await responder(engine, database, reply_seconds=0.01).respond(message("hi"), reply)
    assert reply.failed_with == "The reply was not finished within 0.01 seconds."


async def test_a_reset_starts_afresh_and_help_names_the_model(database: Database) -> None:
    engine = FakeEngine("One.", "Two.")
    answering, commands = (
        responder(engine, database),
        Commands(engine, database, books(database), Writings()),
    )
    call = CommandCall("reset", CHANNEL, ADA)
    assert "nothing to forget" in await commands.run(call)
    await answering.respond(message("remember me"), FakeReply())
    assert "start afresh" in await commands.run(call)
    await answering.respond(message("who am I?"), FakeReply())
    assert [said.content for said in engine.requests[1].messages] == ["Be kind.", "who am I?"]
    assert "fake" in await commands.run(CommandCall("help", CHANNEL, ADA))
    assert "no command" in await commands.run(CommandCall("dance", CHANNEL, ADA))


async def test_what_no_longer_fits_is_told_once_in_the_language_of_the_question(database: Database) -> None:
    engine = FakeEngine(default="word " * 20, health=replace(HEALTH, context_tokens=100))
    answering = responder(engine, database)
    read = []
    for text in ("one", "two", "three", "four", "五", "six"):
        reply = FakeReply()
        await answering.respond(message(f"{text} {'word ' * 20}"), reply)
        read.append(reply.text)
    noted = [number for number, text in enumerate(read) if "oldest messages" in text or "最早的" in text]
    (turn, *_) = [turn for turn in await stored_turns(database) if turn.prompt_message_ids[0] > 1]
    assert noted == [turn.id - 1]
    assert all("oldest" not in said.text for said in await stored_messages(database))


async def test_the_note_in_a_chinese_conversation_is_chinese(database: Database) -> None:
    engine = FakeEngine(default="word " * 30, health=replace(HEALTH, context_tokens=60))
    answering = responder(engine, database)
    for _ in range(2):
        reply = FakeReply()
        await answering.respond(message("你好 " * 10), reply)
    assert "最早的 2 条消息" in reply.text
