"""The fake Discord behaves as the real one does, as far as the real discord.py can tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiohttp
import discord
import pytest

from bot.platforms.discord_client import use_addresses
from tests.fakes.discord_rules import NO_HISTORY_TO_REPLY
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import Channel


class Listener(discord.Client):
    """Keeps what it hears, and begins anew without discord.py's pause of five seconds."""

    def __init__(self, intents: discord.Intents) -> None:
        super().__init__(intents=intents)
        self.heard: asyncio.Queue[discord.Message] = asyncio.Queue()
        self.edited: asyncio.Queue[str] = asyncio.Queue()
        self.commands: asyncio.Queue[discord.Interaction] = asyncio.Queue()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        pass

    async def on_message(self, message: discord.Message) -> None:
        await self.heard.put(message)

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        await self.edited.put(event.message.content)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        await self.commands.put(interaction)

    def place(self, channel: Channel) -> discord.PartialMessageable:
        return self.get_partial_messageable(channel.id, guild_id=channel.guild.id if channel.guild else None)


@asynccontextmanager
async def listening(fake: FakeDiscord, *, message_content: bool = False) -> AsyncIterator[Listener]:
    use_addresses(fake.api_url, fake.gateway_url, fake.cdn_url)
    intents = discord.Intents(
        guilds=True, messages=True, guild_reactions=True, message_content=message_content
    )
    async with Listener(intents) as client:
        running = asyncio.create_task(client.start(fake.token))
        await fake.wait_for(lambda: running.done() or fake.connected)
        yield client
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as discord:
        yield discord


async def heard(client: Listener) -> discord.Message:
    return await asyncio.wait_for(client.heard.get(), 5)


async def refusal(request: Awaitable[object]) -> int:
    with pytest.raises(discord.HTTPException) as caught:
        await request
    return caught.value.code


async def test_a_client_connects_and_sees_the_workspace_with_its_channels(fake: FakeDiscord) -> None:
    guild = fake.add_guild("Home")
    channel, anna = fake.add_channel(guild, "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        await fake.say(channel, anna, "hello")
        message = await heard(client)
        assert isinstance(message.channel, discord.TextChannel)
        assert message.guild is not None
        assert (message.guild.name, message.channel.name, message.author.display_name) == (
            "Home",
            "general",
            "Anna",
        )
        assert message.guild.me.id == fake.bot.id


async def test_heartbeats_are_acknowledged() -> None:
    async with FakeDiscord(heartbeat_seconds=0.02) as fake, listening(fake) as client:
        await fake.wait_for(lambda: fake.gateway.heartbeats >= 3)
        assert client.latency < 5


async def test_text_is_hidden_without_the_intent_but_for_its_exceptions(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        own = await client.place(channel).send("mine")
        answer = fake.messages(channel)[0]
        await fake.say(channel, anna, "not for you")
        await fake.say(channel, anna, f"{fake.bot.mention} for you")
        await fake.say(channel, anna, "in reply", reply_to=answer)
        await fake.say(channel, anna, "in reply without a ping", reply_to=answer, ping=False)
        await fake.say(fake.add_dm(anna), anna, "in private")
        texts = [(await heard(client)).content for _ in range(6)]
        assert texts == ["mine", "", f"{fake.bot.mention} for you", "in reply", "", "in private"]
        assert (await client.place(channel).fetch_message(own.id)).content == "mine"


async def test_text_is_readable_with_the_intent() -> None:
    async with FakeDiscord(message_content=True) as fake:
        channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
        async with listening(fake, message_content=True) as client:
            await fake.say(channel, anna, "for all")
            assert (await heard(client)).content == "for all"


async def test_messages_are_sent_edited_fetched_and_deleted(fake: FakeDiscord) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        place = client.place(channel)
        await place.typing()
        first = await place.send("one")
        await place.get_partial_message(first.id).edit(content="one, edited")
        await place.send("two", reference=first.to_reference())
        assert await asyncio.wait_for(client.edited.get(), 5) == "one, edited"
        assert [message.content async for message in place.history()] == ["two", "one, edited"]
        await first.add_reaction("👍")
        await first.delete()
        assert channel.typing == 1
        assert [message.content for message in fake.messages(channel)] == ["two"]
        assert fake.messages(channel)[0].reply_to == first.id


async def test_a_message_tells_what_it_showed_over_time(fake: FakeDiscord) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        sent = await client.place(channel).send("Hel")
        await client.place(channel).get_partial_message(sent.id).edit(content="Hello ")
        assert fake.messages(channel)[0].shown == ["Hel", "Hello"]


async def test_the_same_nonce_makes_one_message(fake: FakeDiscord) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        first = await client.place(channel).send("once", nonce="n1")
        again = await client.place(channel).send("twice", nonce="n1")
        assert again.id == first.id
        assert [message.content for message in fake.messages(channel)] == ["once"]


async def test_faulty_messages_are_refused_with_discords_codes(fake: FakeDiscord) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        place = client.place(channel)
        assert await refusal(place.send("x" * 2001)) == 50035
        assert await refusal(place.send(" ")) == 50006
        assert await refusal(place.send("x", nonce="n" * 26)) == 50035
        assert await refusal(place.fetch_message(1)) == 10008
        assert await refusal(client.get_partial_messageable(1).send("x")) == 10003
        assert await refusal(place.send("x", reference=gone_reference(channel))) == 50035


def gone_reference(channel: Channel) -> discord.MessageReference:
    return discord.MessageReference(message_id=1, channel_id=channel.id)


async def test_missing_permissions_are_refused(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        asked = await fake.say(channel, anna, "hello")
        place = client.place(channel)
        assert await refusal(place.get_partial_message(asked.id).edit(content="mine now")) == 50005
        channel.forbidden = {"READ_MESSAGE_HISTORY"}
        reference = discord.MessageReference(message_id=asked.id, channel_id=channel.id)
        assert await refusal(place.send("x", reference=reference)) == NO_HISTORY_TO_REPLY
        channel.forbidden = {"SEND_MESSAGES"}
        assert await refusal(place.send("x")) == 50013
        channel.forbidden = {"VIEW_CHANNEL"}
        assert await refusal(place.send("x")) == 50001
        await fake.say(channel, anna, "the bot does not hear this")
        await fake.say(fake.add_dm(anna), anna, "but this")
        assert [(await heard(client)).content for _ in range(2)] == ["", "but this"]


async def test_a_message_pings_unless_allowed_mentions_forbid_it(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        asked = await fake.say(channel, anna, "hello")
        answered = discord.MessageReference(message_id=asked.id, channel_id=channel.id)
        text = f"@everyone {anna.mention}"
        place = client.place(channel)
        loud = await place.send(text, reference=answered)
        await place.send(text, reference=answered, allowed_mentions=discord.AllowedMentions.none())
        assert [message.id for message in fake.pings()] == [loud.id]
        assert fake.pings()[0].pings == ["@everyone", str(anna.id), str(anna.id)]


async def test_the_rate_limit_headers_slow_the_client_down_before_it_is_refused() -> None:
    async with FakeDiscord(limit=2, seconds=0.2) as fake:
        channel = fake.add_channel(fake.add_guild("Home"), "general")
        async with listening(fake) as client:
            begin = asyncio.get_running_loop().time()
            for number in range(5):
                await client.place(channel).send(str(number))
            assert asyncio.get_running_loop().time() - begin >= 0.35
            assert len(fake.messages(channel)) == 5


async def test_who_ignores_the_headers_gets_429() -> None:
    async with FakeDiscord(limit=1, seconds=60) as fake, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bot {fake.token}"}
        await session.get(f"{fake.api_url}/users/@me", headers=headers)
        async with session.get(f"{fake.api_url}/users/@me", headers=headers) as answer:
            assert answer.status == 429
            assert answer.headers["X-RateLimit-Scope"] == "user"
            assert 59 < (await answer.json())["retry_after"] <= 60


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_scripted_429_is_waited_for(fake: FakeDiscord, everywhere: bool) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        fake.fail("POST", r"/messages$", 429, retry_after=0.05, **{"global": everywhere})
        await client.place(channel).send("late")
        assert fake.desk.refused == 1
        assert [message.content for message in fake.messages(channel)] == ["late"]


async def test_a_scripted_failure_can_have_taken_effect(fake: FakeDiscord) -> None:
    channel = fake.add_channel(fake.add_guild("Home"), "general")
    async with listening(fake) as client:
        fake.fail("POST", r"/messages$", 503)
        with pytest.raises(discord.DiscordServerError):
            await client.place(channel).send("lost")
        fake.fail("POST", r"/messages$", 0, applied=True)
        with pytest.raises(aiohttp.ClientError):
            await client.place(channel).send("arrived")
        assert [message.content for message in fake.messages(channel)] == ["arrived"]


async def test_a_request_without_the_token_is_unauthorized(fake: FakeDiscord) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{fake.api_url}/users/@me") as answer:
        assert answer.status == 401


async def test_a_lost_connection_is_resumed_and_replays_what_was_missed(fake: FakeDiscord) -> None:
    dm = fake.add_dm(anna := fake.add_user("Anna"))
    async with listening(fake) as client:
        async with fake.outage():
            for number in range(3):
                await fake.say(dm, anna, str(number))
        assert [(await heard(client)).content for _ in range(3)] == ["0", "1", "2"]
        assert (fake.gateway.resumes, len(fake.gateway.identifies)) == (1, 1)


async def test_an_invalidated_session_makes_the_client_begin_anew(fake: FakeDiscord) -> None:
    dm = fake.add_dm(anna := fake.add_user("Anna"))
    async with listening(fake) as client:
        await fake.invalidate_sessions()
        await fake.wait_for(lambda: len(fake.gateway.identifies) == 2 and fake.connected)
        await fake.say(dm, anna, "again")
        assert (await heard(client)).content == "again"


async def test_a_session_that_the_gateway_forgot_cannot_be_resumed(fake: FakeDiscord) -> None:
    async with listening(fake):
        async with fake.outage():
            fake.gateway.sessions.clear()
        await fake.wait_for(lambda: len(fake.gateway.identifies) == 2 and fake.connected)
        assert fake.gateway.resumes == 0


async def test_a_wrong_token_and_a_privileged_intent_are_refused(fake: FakeDiscord) -> None:
    use_addresses(fake.api_url, fake.gateway_url, fake.cdn_url)
    async with Listener(discord.Intents.none()) as client:
        with pytest.raises(discord.LoginFailure):
            await client.start("another token")
    async with Listener(discord.Intents(message_content=True)) as client:
        with pytest.raises(discord.PrivilegedIntentsRequired):
            await client.start(fake.token)
    async with Listener(discord.Intents.none()) as client:
        await client.login(fake.token)
        client.http.token = "revoked meanwhile"
        with pytest.raises(discord.ConnectionClosed) as caught:
            await client.connect()
        assert caught.value.code == 4004


async def test_a_slash_command_is_deferred_answered_and_followed_up(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        await client.http.bulk_upsert_global_commands(fake.bot.id, [{"name": "hi", "description": "Hi"}])
        given = await fake.use_command(channel, anna, "hi")
        interaction = await asyncio.wait_for(client.commands.get(), 5)
        await interaction.response.defer(thinking=True)
        assert fake.answers(channel) == []
        await interaction.edit_original_response(content="first")
        followup = await interaction.followup.send("second", wait=True)
        await interaction.followup.edit_message(followup.id, content="second, edited")
        assert [message.shown for message in given.messages] == [["first"], ["second", "second, edited"]]
        assert fake.answers(channel) == given.messages


async def test_an_ephemeral_answer_enters_no_channel(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        await client.http.bulk_upsert_global_commands(fake.bot.id, [{"name": "hi", "description": "Hi"}])
        given = await fake.use_command(channel, anna, "hi")
        interaction = await asyncio.wait_for(client.commands.get(), 5)
        await interaction.response.send_message("psst", ephemeral=True)
        assert given.original is not None
        assert given.original.ephemeral
        assert fake.messages(channel) == []


async def test_an_interaction_has_its_limits(fake: FakeDiscord) -> None:
    dm = fake.add_dm(anna := fake.add_user("Anna"))
    async with listening(fake) as client:
        await client.http.bulk_upsert_global_commands(fake.bot.id, [{"name": "hi", "description": "Hi"}])
        late = await fake.use_command(dm, anna, "hi")
        late.given_at -= 4
        assert await refusal((await client.commands.get()).response.defer()) == 10062
        given = await fake.use_command(dm, anna, "hi")
        interaction = await client.commands.get()
        await interaction.response.defer()
        assert given.acknowledged == 5
        callback = f"{fake.api_url}/interactions/{given.id}/{given.token}/callback"
        async with aiohttp.ClientSession() as session, session.post(callback, json={"type": 5}) as answer:
            assert (await answer.json())["code"] == 40060
        given.expired = True
        assert await refusal(interaction.edit_original_response(content="too late")) == 50027


async def test_faulty_commands_are_refused(fake: FakeDiscord) -> None:
    async with listening(fake) as client:
        register = client.http.bulk_upsert_global_commands
        assert await refusal(register(fake.bot.id, [{"name": "No Good", "description": "x"}])) == 50035
        assert await refusal(register(fake.bot.id, [{"name": "chat", "description": ""}])) == 50035


async def test_a_thread_belongs_to_its_channel(fake: FakeDiscord) -> None:
    channel, anna = fake.add_channel(fake.add_guild("Home"), "general"), fake.add_user("Anna")
    async with listening(fake) as client:
        thread = await fake.start_thread(channel, "talk")
        await fake.say(thread, anna, f"{fake.bot.mention} hello")
        message = await heard(client)
        assert isinstance(message.channel, discord.Thread)
        assert message.channel.parent_id == channel.id
        thread.locked = True
        assert await refusal(message.channel.send("x")) == 50083
