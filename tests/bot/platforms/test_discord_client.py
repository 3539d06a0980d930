"""The Discord platform, driven by the real discord.py against the fake Discord."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from bot.chat import Author, ConversationKey, IncomingMessage, Reply
from bot.errors import PlatformRefused
from tests.fakes.discord_platform import FakeCore, build_platform, serving
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import Channel, Guild, User


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def guild(discord: FakeDiscord) -> Guild:
    return discord.add_guild("Home")


@pytest.fixture
def channel(discord: FakeDiscord, guild: Guild) -> Channel:
    return discord.add_channel(guild, "general")


@pytest.fixture
def anna(discord: FakeDiscord) -> User:
    return discord.add_user("Anna")


async def test_a_mention_is_answered_with_a_reply(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        asked = await discord.say(channel, anna, f"{discord.bot.mention} hello")
        message = await core.next_heard()
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
        await core.next_heard()
        message = await core.next_heard()
    assert (message.via, message.text, message.reply_to) == ("reply", "and why?", str(answer.id))


async def test_a_direct_message_is_answered_in_private(
    discord: FakeDiscord, core: FakeCore, anna: User
) -> None:
    dm = discord.add_dm(anna)
    async with serving(discord, core):
        await discord.say(dm, anna, "hello")
        message = await core.next_heard()
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
        message = await core.next_heard()
        await discord.wait_for(lambda: discord.answers(thread))
    assert message.conversation == ConversationKey("discord", str(guild.id), str(channel.id), str(thread.id))
    assert (message.via, message.text) == ("mention", "hello")


async def test_with_the_message_content_intent_a_thread_needs_no_mention(core: FakeCore) -> None:
    async with FakeDiscord(message_content=True) as discord:
        channel, anna = discord.add_channel(discord.add_guild("Home"), "general"), discord.add_user("Anna")
        async with serving(discord, core, message_content=True):
            thread = await discord.start_thread(channel, "talk")
            await discord.say(channel, anna, "not in the channel")
            await discord.say(thread, anna, "and then?")
            message = await core.next_heard()
    assert (message.via, message.text, message.conversation.thread) == ("thread", "and then?", str(thread.id))


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
        assert (await core.next_heard()).message_id == str(last.id)
    assert core.heard.empty()


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
        assert (await core.next_heard()).text == heard


async def test_a_mention_of_the_bots_role_counts_though_its_text_may_be_hidden(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.say(channel, anna, f"<@&{guild.bot_role}> hello")
        message = await core.next_heard()
    assert (message.via, message.text) == ("mention", "")


async def test_a_mention_of_the_bots_role_is_removed_like_the_bots_own(core: FakeCore) -> None:
    async with FakeDiscord(message_content=True) as discord:
        guild, anna = discord.add_guild("Home"), discord.add_user("Anna")
        channel = discord.add_channel(guild, "general")
        async with serving(discord, core, message_content=True):
            await discord.say(channel, anna, f"<@&{guild.bot_role}> hello")
            message = await core.next_heard()
    assert (message.via, message.text) == ("mention", "hello")


async def test_answers_in_different_channels_do_not_wait_for_each_other(
    discord: FakeDiscord, core: FakeCore, guild: Guild, channel: Channel, anna: User
) -> None:
    other, may_end = discord.add_channel(guild, "other"), asyncio.Event()

    async def first_waits(message: IncomingMessage, reply: Reply) -> None:
        if message.text == "slow":
            await may_end.wait()
        await reply.append(message.text)
        await reply.finish()

    core.script = first_waits
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} slow")
        await discord.say(other, anna, f"{discord.bot.mention} fast")
        await discord.wait_for(lambda: discord.answers(other))
        assert discord.answers(channel) == []
        may_end.set()
        await discord.wait_for(lambda: discord.answers(channel))


async def test_a_crash_in_one_answer_is_logged_and_does_not_end_the_client(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def crash_once(message: IncomingMessage, reply: Reply) -> None:
        core.script = None
        raise ZeroDivisionError("a mistake of ours")

    core.script = crash_once
    with capture_logs() as logs:
        async with serving(discord, core):
            await discord.say(channel, anna, f"{discord.bot.mention} one")
            await discord.say(channel, anna, f"{discord.bot.mention} two")
            await discord.wait_for(lambda: discord.answers(channel))
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["an answer failed"]


async def test_a_lost_connection_is_resumed_and_nothing_is_missed_or_heard_twice(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} before")
        await core.next_heard()
        async with discord.outage():
            await discord.say(channel, anna, f"{discord.bot.mention} meanwhile")
        await discord.say(channel, anna, f"{discord.bot.mention} after")
        assert [(await core.next_heard()).text for _ in range(2)] == ["meanwhile", "after"]
        assert (discord.gateway.resumes, len(discord.gateway.identifies)) == (1, 1)
    assert core.heard.empty()


async def test_an_invalidated_session_begins_anew(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async with serving(discord, core):
        await discord.invalidate_sessions()
        await discord.wait_for(lambda: len(discord.gateway.identifies) == 2 and discord.connected)
        await discord.say(channel, anna, f"{discord.bot.mention} again")
        assert (await core.next_heard()).text == "again"


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
    assert identify["intents"] == guilds | messages | typing


async def test_cancelling_stops_the_answers_first_and_says_goodbye(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def answer_until_stopped(message: IncomingMessage, reply: Reply) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await reply.fail("(stopped)")

    core.script = answer_until_stopped
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await core.next_heard()
    assert [answer.content for answer in discord.answers(channel)] == ["(stopped)"]
    assert discord.gateway.sessions == {}


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
