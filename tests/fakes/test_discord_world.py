"""Workspaces, threads, reactions and messages of the fake Discord, as the real discord.py sees them."""

from collections.abc import AsyncIterator, Awaitable

import discord
import pytest

from tests.fakes.discord_http import ChannelLimit
from tests.fakes.discord_listener import Listener, listening
from tests.fakes.discord_places import Channel, Guild, User
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import SILENT, SUPPRESS_EMBEDS


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as discord:
        yield discord


@pytest.fixture
def guild(fake: FakeDiscord) -> Guild:
    return fake.add_guild("Home")


@pytest.fixture
def channel(fake: FakeDiscord, guild: Guild) -> Channel:
    return fake.add_channel(guild, "general")


@pytest.fixture
def anna(fake: FakeDiscord) -> User:
    return fake.add_user("Anna")


async def refusal(request: Awaitable[object]) -> int:
    with pytest.raises(discord.HTTPException) as caught:
        await request
    return caught.value.code


async def test_people_react_and_take_it_back(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer")
        [message] = fake.messages(channel)
        await fake.react(message, anna, "👍")
        await fake.react(message, anna, "👍")
        [added] = await bot.event_of("raw_reaction_add")
        assert isinstance(added, discord.RawReactionActionEvent)
        assert (added.user_id, str(added.emoji), added.message_id) == (anna.id, "👍", message.id)
        assert (added.member and added.member.display_name, added.message_author_id) == ("Anna", fake.bot.id)
        await fake.unreact(message, anna, "👍")
        [removed] = await bot.event_of("raw_reaction_remove")
        assert isinstance(removed, discord.RawReactionActionEvent)
        assert removed.user_id == anna.id
        assert message.reactions == {}


async def test_reactions_are_told_only_with_their_intent(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake, Listener(discord.Intents(guilds=True, messages=True))) as bot:
        message = await fake.say(channel, anna, "hello")
        await fake.react(message, anna, "👍")
        await fake.delete_message(message)
        await bot.event_of("raw_message_delete")
        heard = [frame["t"] for session in fake.gateway.sessions.values() for frame in session.frames]
        assert "MESSAGE_DELETE" in heard
        assert "MESSAGE_REACTION_ADD" not in heard


async def test_the_bot_reacts_with_what_is_an_emoji(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake) as bot:
        message = await fake.say(channel, anna, "hello")
        partial = bot.place(channel).get_partial_message(message.id)
        await partial.add_reaction("👍")
        await partial.add_reaction("👍")
        await partial.add_reaction("<:parley:123>")
        assert message.reactions == {"👍": [fake.bot], "parley:123": [fake.bot]}
        assert await refusal(partial.add_reaction("thumbs")) == 10014
        channel.forbidden = {"ADD_REACTIONS"}
        assert await refusal(partial.add_reaction("🎉")) == 50013
        await partial.remove_reaction("👍", discord.Object(fake.bot.id))
        assert list(message.reactions) == ["parley:123"]


async def test_a_message_is_edited_and_deleted_by_its_author(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        message = await fake.say(channel, anna, "hello")
        await fake.edit_message(message, f"hello {fake.bot.mention}")
        [edited] = await bot.event_of("raw_message_edit")
        assert isinstance(edited, discord.RawMessageUpdateEvent)
        assert edited.message.content == f"hello {fake.bot.mention}"
        assert edited.message.edited_at is not None
        await fake.delete_message(message)
        [deleted] = await bot.event_of("raw_message_delete")
        assert isinstance(deleted, discord.RawMessageDeleteEvent)
        assert deleted.message_id == message.id


async def test_the_bot_begins_one_thread_from_a_message(
    fake: FakeDiscord, guild: Guild, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        said = await fake.say(channel, anna, f"{fake.bot.mention} hello")
        message = await bot.heard.get()
        thread = await message.create_thread(name="talk", auto_archive_duration=60)
        assert (thread.id, thread.parent_id, thread.owner_id) == (message.id, channel.id, fake.bot.id)
        assert said.thread is not None
        assert said.thread.archive_minutes == 60
        assert (await bot.place(channel).fetch_message(said.id)).flags.has_thread
        assert await refusal(message.create_thread(name="again")) == 160004
        await thread.send("in it")
        assert [inside.content for inside in fake.messages(said.thread)] == ["in it"]
        assert await refusal(thread.delete()) == 50013
        fake.join(guild, fake.bot, roles=[fake.add_role(guild, "Keepers", permissions=["MANAGE_THREADS"])])
        await thread.delete()
        assert said.thread.deleted


async def test_the_bot_begins_a_thread_without_a_message(fake: FakeDiscord, channel: Channel) -> None:
    async with listening(fake) as bot:
        place = bot.get_channel(channel.id)
        assert isinstance(place, discord.TextChannel)
        thread = await place.create_thread(name="talk", type=discord.ChannelType.public_thread)
        assert thread.parent_id == channel.id
        assert await refusal(place.create_thread(name="")) == 50035
        channel.forbidden = {"CREATE_PRIVATE_THREADS"}
        assert await refusal(place.create_thread(name="private")) == 50013


async def test_threads_are_begun_archived_and_deleted_by_people(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        said = await fake.say(channel, anna, "hello")
        thread = await fake.start_thread(channel, "talk", message=said, user=anna)
        [created] = await bot.event_of("thread_create")
        assert isinstance(created, discord.Thread)
        assert (created.id, created.owner_id) == (said.id, anna.id)
        await fake.change_thread(thread, archived=True)
        _, changed = await bot.event_of("thread_update")
        assert isinstance(changed, discord.Thread)
        assert changed.archived
        await created.send("open again")
        assert not thread.archived
        await fake.change_thread(thread, locked=True)
        assert await refusal(created.send("not so")) == 50083
        await fake.change_thread(thread)
        await fake.delete_channel(thread)
        await bot.event_of("thread_delete")
        assert await refusal(created.send("gone")) == 10003


async def test_channels_stand_in_categories_and_workspaces_have_a_system_channel(
    fake: FakeDiscord, guild: Guild
) -> None:
    category = fake.add_category(guild, "Garden")
    channel = fake.add_channel(guild, "roses", category=category)
    guild.system_channel = channel
    async with listening(fake) as bot:
        place = bot.get_channel(channel.id)
        assert isinstance(place, discord.TextChannel)
        assert place.category is not None
        assert (place.category.name, place.category_id) == ("Garden", category.id)
        assert place.guild.system_channel == place


async def test_the_bot_joins_and_leaves_workspaces_while_it_runs(fake: FakeDiscord, anna: User) -> None:
    later = fake.add_guild("Later", joined=False)
    later.system_channel = channel = fake.add_channel(later, "welcome")
    async with listening(fake) as bot:
        assert list(bot.guilds) == []
        assert await refusal(bot.place(channel).send("too early")) == 50001
        await fake.join_guild(later)
        [joined] = await bot.event_of("guild_join")
        assert isinstance(joined, discord.Guild)
        assert joined.system_channel is not None
        await joined.system_channel.send("hello")
        await fake.leave_guild(later)
        await bot.event_of("guild_remove")
        assert await refusal(bot.place(channel).send("too late")) == 50001
        await fake.say(channel, anna, "the bot does not hear this")
        await fake.join_guild(later)
        [again] = await bot.event_of("guild_join")
        assert isinstance(again, discord.Guild)
        await again.leave()
        assert fake.state.guilds == {}
        assert [(await bot.heard.get()).content, bot.heard.empty()] == ["hello", True]


async def test_the_bot_tells_its_state(fake: FakeDiscord) -> None:
    async with listening(fake) as bot:
        await bot.change_presence(status=discord.Status.idle, activity=discord.Game("with words"))
        await fake.wait_for(lambda: fake.presence)
        assert fake.presence is not None
        assert (fake.presence["status"], fake.presence["activities"][0]["name"]) == ("idle", "with words")


async def test_silent_messages_and_embeds_are_recorded(fake: FakeDiscord, channel: Channel) -> None:
    async with listening(fake) as bot:
        place = bot.place(channel)
        sent = await place.send("hush", silent=True, suppress_embeds=True)
        assert fake.messages(channel)[0].flags == SILENT | SUPPRESS_EMBEDS
        await place.get_partial_message(sent.id).edit(embed=discord.Embed(title="One"))
        assert fake.messages(channel)[0].content == "hush"
        assert fake.messages(channel)[0].embeds[0]["title"] == "One"
        alone = await place.send(embed=discord.Embed(description="without text"))
        assert alone.embeds[0].description == "without text"


@pytest.mark.parametrize(
    "embeds",
    [
        [discord.Embed(title="x" * 257)],
        [discord.Embed(description="x" * 4097)],
        [discord.Embed().add_field(name="x", value="x" * 1025)],
        [discord.Embed().add_field(name="", value="x")],
        [discord.Embed().set_footer(text="x" * 2049)],
        [discord.Embed(description="x" * 3001)] * 2,
    ],
)
async def test_embeds_have_their_limits(
    fake: FakeDiscord, channel: Channel, embeds: list[discord.Embed]
) -> None:
    async with listening(fake) as bot:
        assert await refusal(bot.place(channel).send(embeds=embeds)) == 50035


async def test_a_channel_takes_only_so_many_messages_and_edits(fake: FakeDiscord, guild: Guild) -> None:
    channel, other = fake.add_channel(guild, "one"), fake.add_channel(guild, "two")
    fake.limit_channels = True
    fake.desk.channel_limit = ChannelLimit(seconds=0.3)
    async with listening(fake) as bot:
        sent = await bot.place(channel).send("0")
        for number in range(1, 5):
            await sent.edit(content=str(number))
        await bot.place(other).send("elsewhere")
        assert fake.desk.refused == 0
        await sent.edit(content="5")
        assert fake.desk.refused == 1
        assert fake.messages(channel)[0].content == "5"
        fake.limit_channels = False
        for number in range(6):
            await sent.edit(content=str(number))
        assert fake.desk.refused == 1
