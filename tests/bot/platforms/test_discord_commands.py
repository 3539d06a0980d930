"""Slash commands on Discord with a real delivery, from the registered definition to the answer's last edit."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.chat import Author, CommandCall, ConversationKey, IncomingMessage
from bot.commands.table import COMMANDS
from storage.database import Database
from storage.errors import DiskFull
from storage.inbox import add_received
from tests.bot.delivery.post_office import all_closed, inbox
from tests.fakes.discord_command_rules import CHAT_INPUT, MESSAGE
from tests.fakes.discord_platform import FakeCore, Say, serving
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import EPHEMERAL, SUPPRESS_EMBEDS, Channel, User

DEFERRED = 5


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
def core(database: Database) -> FakeCore:
    return FakeCore(database)


@pytest.fixture
def channel(discord: FakeDiscord) -> Channel:
    return discord.add_channel(discord.add_guild("Home"), "general")


@pytest.fixture
def anna(discord: FakeDiscord) -> User:
    return discord.add_user("Anna")


async def test_the_commands_are_registered_for_workspaces_and_direct_messages(
    discord: FakeDiscord, core: FakeCore
) -> None:
    async with serving(discord, core):
        pass
    menus = {command["name"] for command in discord.commands if command["type"] == MESSAGE}
    names = {command["name"] for command in discord.commands if command["type"] == CHAT_INPUT}
    assert menus == {"Explain", "Translate", "Summarise from here", "Ask again", "Report"}
    assert names == {command.name.split()[0] for command in COMMANDS} | {"thread"}
    in_workspaces, in_direct_messages = 0, 1
    for command in discord.commands:
        only_in_workspaces = command["name"] == "thread"
        wanted = [in_workspaces] if only_in_workspaces else [in_workspaces, in_direct_messages]
        assert command["contexts"] == wanted
        assert command["integration_types"] == [0]
    [message] = next(command for command in discord.commands if command["name"] == "chat")["options"]
    assert (message["name"], message["required"], message["max_length"]) == ("message", True, 6000)


async def test_chat_is_deferred_at_once_and_its_answer_edits_the_response(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    may_answer = asyncio.Event()

    async def answer_later(message: IncomingMessage, say: Say) -> None:
        await may_answer.wait()
        await say("Hel")
        await discord.wait_for(lambda: discord.answers(channel))
        await say("lo")

    core.script = answer_later
    async with serving(discord, core):
        given = await discord.use_command(channel, anna, "chat", message=f"hi {discord.bot.mention}")
        message = await core.next_asked()
        assert given.acknowledged == DEFERRED
        assert discord.answers(channel) == []
        may_answer.set()
        await discord.wait_for(lambda: given.original and given.original.content == "Hello")
    assert given.original is not None
    assert given.original.shown == ["Hel", "Hello"]
    assert (given.followups, given.original.ephemeral) == ([], False)
    assert (message.text, message.via, message.message_id) == ("hi @Parley", "command", str(given.id))
    assert message.conversation.channel == str(channel.id)
    assert message.author == Author(str(anna.id), "Anna")
    assert message.created_at.tzinfo is not None


async def test_a_long_answer_to_chat_goes_on_in_follow_ups(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    text = "@everyone " + " ".join(f"word{number}" for number in range(700))

    async def answer_in_two_steps(message: IncomingMessage, say: Say) -> None:
        await say(text[:3000])
        await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
        await say(text[3000:])

    core.script = answer_in_two_steps
    async with serving(discord, core):
        given = await discord.use_command(channel, anna, "chat", message="tell me")
        await discord.wait_for(lambda: " ".join(message.content for message in given.messages) == text)
    assert [len(message.shown) for message in given.messages] == [2, 2, 1]  # the first loses its Stop button
    assert all(len(message.content) <= 2000 for message in given.messages)
    assert all(message.flags & SUPPRESS_EMBEDS for message in given.followups)
    assert discord.pings() == []


async def test_chat_in_a_thread_and_in_private_belongs_there(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    dm = discord.add_dm(anna)
    async with serving(discord, core):
        thread = await discord.start_thread(channel, "talk")
        await discord.use_command(thread, anna, "chat", message="hi")
        in_thread = await core.next_asked()
        await discord.use_command(dm, anna, "chat", message="hi")
        in_private = await core.next_asked()
    assert (in_thread.conversation.channel, in_thread.conversation.thread) == (
        str(channel.id),
        str(thread.id),
    )
    assert in_private.conversation == ConversationKey("discord", "dm", str(dm.id))
    assert (in_thread.private, in_private.private) == (False, True)


async def test_an_answer_after_the_fifteen_minutes_goes_on_in_the_channel(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    expired = asyncio.Event()

    async def answer_slowly(message: IncomingMessage, say: Say) -> None:
        await say("The beginning")
        await expired.wait()
        await say(" and the end, " + "long " * 500)

    core.script = answer_slowly
    async with serving(discord, core):
        given = await discord.use_command(channel, anna, "chat", message="tell me")
        await discord.wait_for(lambda: discord.answers(channel))
        discord.expire_commands()
        expired.set()
        await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
    first, second = discord.answers(channel)
    assert first is given.original
    assert first.content.startswith("The beginning and the end")
    assert second.interaction is None


async def test_chat_where_the_bot_may_not_write_after_the_fifteen_minutes_is_logged(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    channel.forbidden = {"SEND_MESSAGES"}

    async def too_late(message: IncomingMessage, say: Say) -> None:
        discord.expire_commands()
        await say("late")

    core.script = too_late
    with capture_logs() as logs:
        async with serving(discord, core):
            await discord.use_command(channel, anna, "chat", message="hi")
            await core.next_asked()
            [row] = await all_closed(core.database)
    [reason] = [entry["reason"] for entry in logs if entry["log_level"] == "warning"]
    assert reason.startswith("I may not write in #general: my role needs")
    assert (row.state, row.last_error) == ("done", reason)


@pytest.mark.parametrize("name", ["reset", "help"])
async def test_reset_and_help_answer_only_to_who_asked(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, name: str
) -> None:
    async with serving(discord, core):
        given = await discord.use_command(channel, anna, name)
        await discord.wait_for(lambda: given.original and given.original.shown)
    assert channel.guild is not None
    place = ConversationKey("discord", str(channel.guild.id), str(channel.id))
    assert core.commands == [CommandCall(name, place, Author(str(anna.id), "Anna"))]
    assert [message.content for message in given.messages] == [f"done: {name}"]
    assert given.original is not None
    assert given.original.ephemeral
    assert discord.messages(channel) == []


async def test_a_long_answer_to_a_command_stays_between_the_two(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    core.command_answer = "line\n" * 500
    async with serving(discord, core):
        given = await discord.use_command(channel, anna, "help")
        await discord.wait_for(lambda: len(given.messages) == 2)
    assert all(message.flags & EPHEMERAL for message in given.messages)
    assert discord.messages(channel) == []


async def test_an_answer_for_one_person_never_falls_back_to_the_channel(
    discord: FakeDiscord, database: Database, channel: Channel, anna: User
) -> None:
    class SlowCore(FakeCore):
        async def run_command(self, call: CommandCall) -> str:
            discord.expire_commands()
            return "a secret"

    with capture_logs() as logs:
        async with serving(discord, SlowCore(database)):
            await discord.use_command(channel, anna, "help")
            await discord.wait_for(lambda: discord.desk.requests[-1].path.endswith("/@original"))
            await discord.say(channel, anna, f"{discord.bot.mention} hello")
            await discord.wait_for(lambda: discord.answers(channel))
    assert [answer.content for answer in discord.answers(channel)] == ["an answer"]
    [reason] = [entry["reason"] for entry in logs if entry["log_level"] == "warning"]
    assert reason == (
        "Discord did not take my message for #general: Invalid Webhook Token (HTTP 401, code 50027)."
    )


async def test_a_failed_command_tells_a_sentence_and_logs_the_rest(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    core.command_answer = "{no such name}"
    with capture_logs() as logs:
        async with serving(discord, core):
            given = await discord.use_command(channel, anna, "reset")
            await discord.wait_for(lambda: given.original and given.original.shown)
    assert [message.content for message in given.messages] == [
        "Something went wrong on my side. The log has the details."
    ]
    [entry] = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["event"], entry["command"]) == ("a command failed", "reset")
    assert isinstance(entry["exc_info"], KeyError)


async def test_chat_that_discord_withdrew_is_logged_in_a_sentence_and_answered_in_the_channel(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.platforms.discord_commands.SECONDS_TO_ACKNOWLEDGE", 0.2)
    with capture_logs() as logs:
        async with serving(discord, core):
            discord.fail("POST", "/callback$", 404, code=10062, message="Unknown interaction")
            given = await discord.use_command(channel, anna, "chat", message="hi")
            assert (await core.next_asked()).text == "hi"
            await discord.wait_for(lambda: discord.answers(channel))
            await discord.say(channel, anna, f"{discord.bot.mention} still there?")
            await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
            rows = await all_closed(core.database)
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert warnings == ["Discord withdrew a command: it was not acknowledged within 3 s"]
    first, _ = discord.answers(channel)
    assert (first.content, first.reply_to, first.interaction) == ("an answer", None, None)
    assert given.messages == []
    assert [row.state for row in rows] == ["done", "done"]


async def test_chat_is_stored_before_it_is_acknowledged(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail_once(*args: Any, **options: Any) -> bool:
        if not failed.is_set():
            failed.set()
            raise DiskFull("The disk is full.")
        return add_received(*args, **options)

    monkeypatch.setattr("bot.delivery.desk.add_received", fail_once)
    with capture_logs():
        async with serving(discord, core):
            lost = await discord.use_command(channel, anna, "chat", message="one")
            await discord.wait_for(lambda: lost.original and lost.original.shown)
            kept = await discord.use_command(channel, anna, "chat", message="two")
            await discord.wait_for(lambda: kept.acknowledged)
            assert [row.message_id for row in await inbox(core.database)] == [str(kept.id)]
            await discord.wait_for(lambda: discord.answers(channel))
    assert [message.content for message in lost.messages] == [
        "Something went wrong on my side. The log has the details."
    ]
    assert lost.original is not None
    assert lost.original.ephemeral
    assert (await core.next_asked()).text == "two"
    assert core.asked.empty()


async def test_without_the_right_to_register_commands_the_rest_still_works(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    discord.fail("PUT", "/commands$", 403, code=50001, message="Missing Access")
    with capture_logs() as logs:
        async with serving(discord, core):
            await discord.say(channel, anna, f"{discord.bot.mention} hello")
            await discord.wait_for(lambda: discord.answers(channel))
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert warnings == ["Discord did not take the slash commands"]
