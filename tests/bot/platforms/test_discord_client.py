"""The Discord platform on a real delivery, driven by the real discord.py against the fake Discord."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.chat import Author, ConversationKey, IncomingMessage
from bot.delivery.courier import HistoryPage
from bot.errors import PlatformRefused
from bot.platforms.discord_courier import DiscordCourier
from storage.database import Database
from storage.errors import DiskFull
from storage.scans import add_scan, list_scans
from tests.bot.delivery.post_office import all_closed, inbox, until
from tests.fakes.discord_platform import FakeCore, Say, build_platform, serving
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import TEXT, Channel, Guild, Message, User


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
def core(database: Database) -> FakeCore:
    return FakeCore(database)


@pytest.fixture
def guild(discord: FakeDiscord) -> Guild:
    return discord.add_guild("Home")


@pytest.fixture
def channel(discord: FakeDiscord, guild: Guild) -> Channel:
    return discord.add_channel(guild, "general")


@pytest.fixture
def anna(discord: FakeDiscord) -> User:
    return discord.add_user("Anna")


@pytest.fixture
def free_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second login need not wait."""
    monkeypatch.setattr("bot.platforms.discord_client.seconds_before_identify", lambda recent, today: 0.0)


def texts(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


async def test_a_mention_is_answered_with_a_reply(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        asked = await discord.say(channel, anna, f"{discord.bot.mention} hello")
        message = await core.next_asked()
        await discord.wait_for(lambda: discord.answers(channel))
    assert message.conversation == ConversationKey("discord", str(guild.id), str(channel.id))
    assert (message.message_id, message.text, message.via) == (str(asked.id), "hello", "mention")
    assert message.author == Author(str(anna.id), "Anna")
    assert not message.private
    assert message.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - message.created_at) < timedelta(minutes=1)
    [answer] = discord.answers(channel)
    assert (answer.content, answer.reply_to) == ("an answer", asked.id)


async def test_a_reply_to_the_bot_is_answered(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel))
        [answer] = discord.answers(channel)
        await discord.say(channel, anna, "and why?", reply_to=answer)
        await core.next_asked()
        message = await core.next_asked()
    assert (message.via, message.text, message.reply_to) == ("reply", "and why?", str(answer.id))


async def test_a_direct_message_is_answered_in_private(
    discord: FakeDiscord, core: FakeCore, anna: User
) -> None:
    dm = discord.add_dm(anna)
    async with serving(discord, core):
        await discord.say(dm, anna, "hello")
        message = await core.next_asked()
        await discord.wait_for(lambda: discord.answers(dm))
    assert message.conversation == ConversationKey("discord", "dm", str(dm.id))
    assert (message.via, message.private) == ("dm", True)


async def test_a_mention_in_a_thread_belongs_to_the_thread(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        thread = await discord.start_thread(channel, "talk")
        await discord.say(thread, anna, "between people")
        await discord.say(thread, anna, f"{discord.bot.mention} hello")
        message = await core.next_asked()
        await discord.wait_for(lambda: discord.answers(thread))
    assert message.conversation == ConversationKey("discord", str(guild.id), str(channel.id), str(thread.id))
    assert (message.via, message.text) == ("mention", "hello")


async def test_with_the_message_content_intent_a_thread_that_parley_takes_part_in_needs_no_mention(
    core: FakeCore,
) -> None:
    async with FakeDiscord(message_content=True) as discord:
        channel, anna = discord.add_channel(discord.add_guild("Home"), "general"), discord.add_user("Anna")
        async with serving(discord, core, message_content=True):
            thread, other = [await discord.start_thread(channel, name) for name in ("talk", "other")]
            await discord.say(channel, anna, "not in the channel")
            await discord.say(other, anna, "between people")
            await discord.say(thread, anna, f"{discord.bot.mention} hello")
            await discord.say(thread, anna, "and then?")
            first, second = await core.next_asked(), await core.next_asked()
            rows = await all_closed(core.database)
    assert (first.via, second.via, second.text) == ("mention", "thread", "and then?")
    assert second.conversation.thread == str(thread.id)
    assert sorted((row.thread, row.decision) for row in rows) == sorted(
        [(str(other.id), "ignore"), (str(thread.id), "answer"), (str(thread.id), "answer")]
    )
    assert discord.answers(other) == []
    assert core.asked.empty()


async def test_other_bots_the_bot_itself_and_talk_between_people_are_ignored(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    other_bot, ben = discord.add_user("Beep", bot=True), discord.add_user("Ben")
    async with serving(discord, core):
        await discord.say(channel, other_bot, f"{discord.bot.mention} hello")
        await discord.say(discord.add_dm(other_bot), other_bot, "hello")
        await discord.say(channel, discord.bot, f"{discord.bot.mention} hello")
        said = await discord.say(channel, anna, f"{ben.mention} hello")
        await discord.say(channel, ben, "hello", reply_to=said)
        last = await discord.say(channel, anna, f"{discord.bot.mention} the last")
        assert (await core.next_asked()).message_id == str(last.id)
        rows = await all_closed(core.database)
    assert core.asked.empty()
    assert [row.message_id for row in rows] == [str(last.id)]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("{bot} hello", "hello"),
        ("{bot}, hello", "hello"),
        ("  {bot}\nhello", "hello"),
        ("{bot} :) hello", ":) hello"),
        ("{bot}", ""),
        ("hello {bot}", "hello @Parley"),
        ("{bot} ask {ben} in {channel} <:wave:123456789012345678>", "ask @Ben in #general :wave:"),
        ("{bot} what is <#123456789012345678> and <@&123456789012345678>?", "what is #unknown and @unknown?"),
        ("{bot} 我喜欢骑自行车 🚲", "我喜欢骑自行车 🚲"),
    ],
)
async def test_the_text_is_what_people_read(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, said: str, heard: str
) -> None:
    ben = discord.add_user("Ben")
    markup = {"bot": discord.bot.mention, "ben": ben.mention, "channel": f"<#{channel.id}>"}
    async with serving(discord, core):
        await discord.say(channel, anna, said.format(**markup))
        assert (await core.next_asked()).text == heard


async def test_a_mention_of_the_bots_role_counts_though_its_text_may_be_hidden(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.say(channel, anna, f"<@&{guild.bot_role}> hello")
        message = await core.next_asked()
    assert (message.via, message.text) == ("mention", "")


async def test_a_mention_of_the_bots_role_is_removed_like_the_bots_own(core: FakeCore) -> None:
    async with FakeDiscord(message_content=True) as discord:
        guild, anna = discord.add_guild("Home"), discord.add_user("Anna")
        channel = discord.add_channel(guild, "general")
        async with serving(discord, core, message_content=True):
            await discord.say(channel, anna, f"<@&{guild.bot_role}> hello")
            message = await core.next_asked()
    assert (message.via, message.text) == ("mention", "hello")


async def test_answers_in_different_channels_do_not_wait_for_each_other(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    other, may_end = discord.add_channel(guild, "other"), asyncio.Event()

    async def first_waits(message: IncomingMessage, say: Say) -> None:
        if message.text == "slow":
            await may_end.wait()
        await say(message.text)

    core.script = first_waits
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} slow")
        await discord.say(other, anna, f"{discord.bot.mention} fast")
        await discord.wait_for(lambda: discord.answers(other))
        assert discord.answers(channel) == []
        may_end.set()
        await discord.wait_for(lambda: discord.answers(channel))


async def test_a_crash_in_one_answer_is_told_and_logged_and_does_not_end_the_client(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def crash_once(message: IncomingMessage, say: Say) -> None:
        core.script = None
        raise ZeroDivisionError("a mistake of ours")

    core.script = crash_once
    with capture_logs() as logs:
        async with serving(discord, core):
            await discord.say(channel, anna, f"{discord.bot.mention} one")
            await discord.say(channel, anna, f"{discord.bot.mention} two")
            await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
    [entry] = [entry for entry in logs if entry["log_level"] == "error"]
    assert entry["event"] == "no answer"
    assert texts(discord.answers(channel)) == [
        f"Something went wrong on my side. The log has the details under {entry['reference']}.",
        "an answer",
    ]


async def test_a_lost_connection_is_resumed_and_nothing_is_missed_or_heard_twice(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} before")
        await core.next_asked()
        async with discord.outage():
            await discord.say(channel, anna, f"{discord.bot.mention} meanwhile")
        await discord.say(channel, anna, f"{discord.bot.mention} after")
        assert [(await core.next_asked()).text for _ in range(2)] == ["meanwhile", "after"]
        assert (discord.gateway.resumes, len(discord.gateway.identifies)) == (1, 1)
    assert core.asked.empty()


@pytest.mark.usefixtures("free_logins")
async def test_an_invalidated_session_begins_anew(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.invalidate_sessions()
        await discord.wait_for(lambda: len(discord.gateway.identifies) == 2 and discord.connected)
        await discord.say(channel, anna, f"{discord.bot.mention} again")
        assert (await core.next_asked()).text == "again"


async def test_each_login_but_the_first_waits_as_long_as_those_before_it_in_the_database_say(
    discord: FakeDiscord, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, int]] = []

    def count(recent: int, today: int) -> float:
        counted.append((recent, today))
        return 0.0

    monkeypatch.setattr("bot.platforms.discord_client.seconds_before_identify", count)
    async with serving(discord, core):
        await discord.invalidate_sessions()
        await discord.wait_for(lambda: len(discord.gateway.identifies) == 2 and discord.connected)
    await discord.wait_for(lambda: not discord.connected)
    async with serving(discord, core):
        pass
    assert counted == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.usefixtures("free_logins")
@pytest.mark.parametrize("invalidated", [True, False], ids=["by op 9", "by a closed gateway"])
async def test_what_was_said_while_the_gateway_was_away_is_answered_once_and_before_newer_messages(
    discord: FakeDiscord,
    core: FakeCore,
    channel: Channel,
    anna: User,
    monkeypatch: pytest.MonkeyPatch,
    invalidated: bool,
) -> None:
    reading, may_read = asyncio.Event(), asyncio.Event()
    read_history = DiscordCourier.read_history

    async def read_late(
        self: DiscordCourier, place: ConversationKey, private: bool, after: str
    ) -> HistoryPage:
        reading.set()
        await may_read.wait()
        return await read_history(self, place, private, after)

    async def are_stored(messages: list[Message]) -> bool:
        stored = {row.message_id for row in await inbox(core.database)}
        return stored >= {str(message.id) for message in messages}

    dm = discord.add_dm(anna)
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} before")
        await discord.say(dm, anna, "before in private")
        await discord.wait_for(lambda: discord.answers(channel) and discord.answers(dm))
        monkeypatch.setattr(DiscordCourier, "read_history", read_late)
        discord.gateway.open.clear()
        if invalidated:
            await discord.invalidate_sessions()
        else:
            discord.gateway.sessions.clear()
            await discord.gateway.close_sockets(4000)
        await discord.say(channel, anna, f"{discord.bot.mention} meanwhile")
        await discord.say(dm, anna, "meanwhile in private")
        discord.gateway.open.set()
        await discord.wait_for(lambda: discord.connected)
        await asyncio.wait_for(reading.wait(), 10)
        newer = [
            await discord.say(channel, anna, f"{discord.bot.mention} newer"),
            await discord.say(dm, anna, "newer in private"),
        ]
        await until(lambda: are_stored(newer))
        assert core.asked.qsize() == 2
        may_read.set()
        await discord.wait_for(lambda: len(discord.answers(channel)) == len(discord.answers(dm)) == 3)
        await all_closed(core.database)
    heard = [core.asked.get_nowait() for _ in range(core.asked.qsize())]
    assert [m.text for m in heard if not m.private] == ["before", "meanwhile", "newer"]
    assert [m.text for m in heard if m.private] == [
        "before in private",
        "meanwhile in private",
        "newer in private",
    ]
    assert [len(discord.answers(place)) for place in (channel, dm)] == [3, 3]


@pytest.mark.usefixtures("free_logins")
async def test_what_was_said_in_a_channel_where_nobody_had_spoken_to_the_bot_is_read_too(
    discord: FakeDiscord, core: FakeCore, guild: Guild, anna: User
) -> None:
    a_year_ago = discord.state.next_id() - (365 * 24 * 3_600_000 << 22)
    channel = discord.state.add_channel(Channel(a_year_ago, "old", TEXT, guild=guild))
    await discord.say(channel, anna, f"{discord.bot.mention} long before the first start")
    async with serving(discord, core):
        await until(lambda: _is_watched(core.database))
    await discord.wait_for(lambda: not discord.connected)
    await discord.say(channel, anna, f"{discord.bot.mention} while stopped")
    async with serving(discord, core):
        assert (await core.next_asked()).text == "while stopped"
        await discord.wait_for(lambda: discord.answers(channel))
    assert core.asked.empty()


async def _is_watched(database: Database) -> bool:
    with database.reading() as session:
        return bool(list_scans(session, "discord", datetime.now(UTC)))


@pytest.mark.parametrize("where", ["channel", "thread", "direct message"])
async def test_what_is_edited_or_deleted_before_its_answer_begins_counts(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, where: str
) -> None:
    bot = discord.bot.mention
    core.may_answer.clear()
    async with serving(discord, core):
        place = discord.add_dm(anna) if where == "direct message" else channel
        if where == "thread":
            place = await discord.start_thread(channel, "talk")
        await discord.say(place, anna, f"{bot} first")
        await core.next_asked()
        edited = await discord.say(place, anna, f"{bot} helo")
        deleted = await discord.say(place, anna, f"{bot} never mind")
        await until(lambda: _are_stored(core.database, 3))
        edited.show(f"{bot} hello", {})
        await discord.gateway.dispatch_message("MESSAGE_UPDATE", edited)
        await discord.delete_message(deleted)
        await until(lambda: _is_changed(core.database))
        core.may_answer.set()
        await discord.wait_for(lambda: len(discord.answers(place)) == 2)
        rows = await all_closed(core.database)
    assert [row.state for row in rows] == ["done", "done", "cancelled"]
    assert (await core.next_asked()).text == "hello"
    assert core.asked.empty()


async def _are_stored(database: Database, count: int) -> bool:
    return len(await inbox(database)) == count


async def _is_changed(database: Database) -> bool:
    _, edited, deleted = await inbox(database)
    return edited.text == "hello" and deleted.state == "cancelled"


async def test_a_change_of_a_message_that_is_not_of_its_words_leaves_them(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    core.may_answer.clear()
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} first")
        await core.next_asked()
        linked = await discord.say(channel, anna, f"{discord.bot.mention} see https://a.b")
        await until(lambda: _are_stored(core.database, 2))
        linked.content = ""
        await discord.gateway.dispatch_message("MESSAGE_UPDATE", linked)
        await discord.type(channel, anna)
        await asyncio.wait_for(core.prepared.get(), 10)
        core.may_answer.set()
        assert (await core.next_asked()).text == "see https://a.b"


async def test_a_database_that_fails_when_the_session_begins_does_not_keep_the_bot_silent(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail_once(*args: Any, **options: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise DiskFull("The disk is full.")
        add_scan(*args, **options)

    monkeypatch.setattr("bot.delivery.desk.add_scan", fail_once)
    async with serving(discord, core):
        await asyncio.to_thread(failed.wait, 10)
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel))


async def test_a_refused_token_is_a_sentence_that_does_not_tell_it(
    discord: FakeDiscord, core: FakeCore
) -> None:
    with pytest.raises(PlatformRefused, match="DISCORD_TOKEN") as caught:
        await build_platform(discord, core, token="mistyped-secret").run()
    assert "mistyped-secret" not in str(caught.value)
    assert discord.gateway.identifies == []


async def test_a_token_that_is_revoked_later_is_refused_too(discord: FakeDiscord, core: FakeCore) -> None:
    async with serving(discord, core) as running:
        async with discord.outage():
            discord.state.token = "a new one"
        with pytest.raises(PlatformRefused, match="DISCORD_TOKEN"):
            await running


async def test_a_connection_that_is_closed_for_good_names_the_code(
    discord: FakeDiscord, core: FakeCore
) -> None:
    async with serving(discord, core) as running, discord.outage(code=4011):
        with pytest.raises(PlatformRefused, match="code 4011"):
            await running


async def test_a_missing_privileged_intent_is_a_sentence_that_names_the_switch(
    discord: FakeDiscord, core: FakeCore
) -> None:
    with pytest.raises(PlatformRefused, match="PARLEY_DISCORD_MESSAGE_CONTENT") as caught:
        await build_platform(discord, core, message_content=True).run()
    assert "Message Content Intent on the Bot page" in str(caught.value)


async def test_only_the_intents_that_are_needed_are_asked_for(discord: FakeDiscord, core: FakeCore) -> None:
    async with serving(discord, core):
        [identify] = discord.gateway.identifies
    guilds, messages, typing = 1 << 0, 1 << 9 | 1 << 12, 1 << 11 | 1 << 14
    reactions = 1 << 10 | 1 << 13
    assert identify["intents"] == guilds | messages | reactions | typing


@pytest.mark.usefixtures("free_logins")
async def test_an_answer_that_a_stop_interrupts_is_finished_in_its_place_at_the_next_start(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def answer_until_stopped(message: IncomingMessage, say: Say) -> None:
        await say("the beginning")
        await asyncio.Event().wait()

    core.script = answer_until_stopped
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel))
    assert texts(discord.answers(channel)) == ["the beginning"]
    assert discord.gateway.sessions == {}
    core.script = None
    async with serving(discord, core):
        await discord.wait_for(lambda: texts(discord.answers(channel)) == ["an answer"])
        await all_closed(core.database)
    [answer] = discord.answers(channel)
    assert answer.shown[0] == "the beginning"
    assert core.asked.qsize() == 2


async def test_an_unreachable_discord_is_tried_again(
    discord: FakeDiscord, core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    discord.fail("GET", "/users/@me$", 503)
    with capture_logs() as logs:
        async with serving(discord, core):
            assert discord.connected
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "Discord could not be reached"
    ]


async def test_typing_in_a_thread_names_the_thread_and_the_bots_own_typing_is_not_heard(
    discord: FakeDiscord, core: FakeCore
) -> None:
    guild = discord.add_guild("Home")
    channel, ada = discord.add_channel(guild, "general"), discord.add_user("Ada")
    async with serving(discord, core):
        thread = await discord.start_thread(channel, "cats")
        await discord.type(channel, discord.bot)
        await discord.type(thread, ada)
        typed_in = await asyncio.wait_for(core.prepared.get(), 10)
    assert typed_in == ConversationKey("discord", str(guild.id), str(channel.id), str(thread.id))
    assert core.prepared.empty()
