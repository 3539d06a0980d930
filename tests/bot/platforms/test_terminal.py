"""The terminal: lines in, replies out, commands, and an end that is clean."""

import asyncio
import io
from collections.abc import Awaitable, Callable

from rich.console import Console

from bot.chat import CommandCall, IncomingMessage, Reply
from bot.platforms.terminal import TerminalPlatform

Respond = Callable[[IncomingMessage, Reply], Awaitable[None]]


def lines(*texts: str) -> Callable[[str], Awaitable[str | None]]:
    waiting = list(texts)

    async def read_line(_: str) -> str | None:
        return waiting.pop(0) if waiting else None

    return read_line


async def talk(respond: Respond, *typed: str) -> str:
    screen = io.StringIO()

    async def run_command(call: CommandCall) -> str:
        return f"<{call.name}>"

    platform = TerminalPlatform(
        respond=respond,
        run_command=run_command,
        console=Console(file=screen, width=40),
        read_line=lines(*typed),
    )
    await platform.run()
    return screen.getvalue()


async def echo(message: IncomingMessage, reply: Reply) -> None:
    await reply.start()
    for word in message.text.split():
        await reply.append(f" {word}")
    await reply.finish()


async def test_a_line_is_answered_and_quit_ends() -> None:
    assert await talk(echo, "hello there", "/quit", "never read") == "parley> hello there\n"


async def test_the_end_of_the_input_ends_the_chat() -> None:
    assert await talk(echo, "hi") == "parley> hi\n"


async def test_a_command_is_run_and_an_empty_line_is_nothing() -> None:
    assert await talk(echo, "", "  ", "/reset") == "<reset>\n"


async def test_all_messages_of_a_start_are_one_private_conversation() -> None:
    seen: list[IncomingMessage] = []

    async def respond(message: IncomingMessage, reply: Reply) -> None:
        seen.append(message)

    await talk(respond, "one", "two")
    assert seen[0].conversation == seen[1].conversation
    assert seen[0].message_id != seen[1].message_id
    assert all(message.private and message.via == "dm" for message in seen)


async def test_a_failure_is_a_sentence_on_a_line_of_its_own() -> None:
    async def respond(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await reply.append("Half")
        await reply.fail("The engine stopped.")

    assert await talk(respond, "hi") == "parley> Half\nThe engine stopped.\n"


async def test_escape_sequences_in_a_reply_do_not_reach_the_terminal() -> None:
    async def respond(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await reply.append("red \x1b[31m alert [bold]你好👨‍👩‍👧")
        await reply.finish()

    written = await talk(respond, "hi")
    assert "\x1b" not in written
    assert "[bold]你好👨‍👩‍👧" in written


async def test_a_long_reply_is_not_broken_into_lines_by_us() -> None:
    assert await talk(echo, "word " * 30) == "parley> " + " ".join(["word"] * 30) + "\n"


async def test_cancelling_the_platform_cancels_the_answer_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def respond(message: IncomingMessage, reply: Reply) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(talk(respond, "hi"))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended.is_set()
    assert task.cancelled()


async def test_a_question_may_be_asked_by_its_command() -> None:
    assert await talk(echo, "/chat hello there") == "parley> hello there\n"
    assert await talk(echo, "/chat") == "<chat>\n"
