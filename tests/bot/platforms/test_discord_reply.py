"""How answers appear on Discord: pace, length, pings, and what happens when Discord refuses."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.chat import IncomingMessage, Reply
from bot.errors import DeliveryFailed
from tests.fakes.discord_platform import FakeCore, serving
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import SUPPRESS_EMBEDS, Channel, User


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def channel(discord: FakeDiscord) -> Channel:
    return discord.add_channel(discord.add_guild("Home"), "general")


@pytest.fixture
def anna(discord: FakeDiscord) -> User:
    return discord.add_user("Anna")


class Failing:
    """Answers with `text`, and keeps the sentence of the failure."""

    def __init__(self, text: str = "an answer") -> None:
        self.text = text
        self.sentences: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, message: IncomingMessage, reply: Reply) -> None:
        try:
            await reply.append(self.text)
            await reply.finish()
        except DeliveryFailed as error:
            await self.sentences.put(str(error))

    async def sentence(self) -> str:
        return await asyncio.wait_for(self.sentences.get(), 10)


async def test_typing_shows_before_the_first_text_which_then_grows_by_edits(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def stream(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await discord.wait_for(lambda: channel.typing)
        for piece, shown in (("One", "One"), (" two", "One two"), (" three", "One two three")):
            await reply.append(piece)
            await discord.wait_for(lambda shown=shown: shown in seen())  # type: ignore[misc]
        await reply.finish()

    def seen() -> list[str]:
        return [text for answer in discord.answers(channel) for text in answer.shown]

    core.script = stream
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} count")
        await discord.wait_for(lambda: "One two three" in seen())
    [answer] = discord.answers(channel)
    assert answer.shown == ["One", "One two", "One two three"]


async def test_a_long_answer_takes_several_messages_of_which_the_first_is_the_reply(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    core.answer = " ".join(f"word{number}" for number in range(700))
    async with serving(discord, core):
        asked = await discord.say(channel, anna, f"{discord.bot.mention} tell me")
        await discord.wait_for(lambda: len(discord.answers(channel)) == 3)
    answers = discord.answers(channel)
    assert all(len(answer.content) <= 2000 for answer in answers)
    assert " ".join(answer.content for answer in answers) == core.answer
    assert [answer.reply_to for answer in answers] == [asked.id, None, None]


async def test_an_answer_pings_nobody_and_unfurls_nothing_also_when_edited(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def shout(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await reply.append(f"@everyone {anna.mention} https://example.org")
        await discord.wait_for(lambda: discord.answers(channel))
        await reply.append(f" and <@&{discord.bot.id}> @here")
        await reply.finish()

    core.script = shout
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} shout")
        await discord.wait_for(lambda: any(len(a.shown) == 2 for a in discord.answers(channel)))
    [answer] = discord.answers(channel)
    assert answer.pings == []
    assert answer.sent["allowed_mentions"]["parse"] == []
    assert answer.flags & SUPPRESS_EMBEDS


async def test_an_answer_is_shown_though_the_question_was_deleted(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def answer_when_gone(message: IncomingMessage, reply: Reply) -> None:
        await discord.delete_message(discord.messages(channel)[0])
        await reply.append("too late?")
        await reply.finish()

    core.script = answer_when_gone
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel))
    [answer] = discord.answers(channel)
    assert (answer.content, answer.reply_to) == ("too late?", None)


async def test_a_rate_limit_is_waited_for(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    discord.fail("POST", "/messages$", 429, retry_after=0.05)
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(channel))
    assert (len(discord.answers(channel)), discord.desk.refused) == (1, 1)


async def test_a_part_that_is_no_longer_needed_is_deleted(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    async def shorten(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await reply.append("long " * 500)
        await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
        await reply.replace("short")
        await reply.finish()

    core.script = shorten
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: [a.content for a in discord.answers(channel)] == ["short"])


@pytest.mark.parametrize(("permission", "code"), [("SEND_MESSAGES", 50013), ("READ_MESSAGE_HISTORY", 160002)])
async def test_a_missing_permission_is_a_sentence_and_does_not_end_the_client(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, permission: str, code: int
) -> None:
    channel.forbidden = {permission}
    core.script = failing = Failing()
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        sentence = await failing.sentence()
        channel.forbidden = set()
        await discord.say(channel, anna, f"{discord.bot.mention} and now?")
        await discord.wait_for(lambda: discord.answers(channel))
    assert sentence == (
        "I may not write in #general: my role needs View Channel, Send Messages (also in threads) "
        f"and Read Message History there (Discord's code {code})."
    )


async def test_a_deleted_channel_is_a_sentence(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    failing = Failing()

    async def answer_when_gone(message: IncomingMessage, reply: Reply) -> None:
        await discord.delete_channel(channel)
        await failing(message, reply)

    core.script = answer_when_gone
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        assert "it is gone (Discord's code 10003)" in await failing.sentence()


async def test_an_answer_that_a_moderator_deletes_is_a_sentence(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User
) -> None:
    failing = Failing(" and more")

    async def answer_and_lose_it(message: IncomingMessage, reply: Reply) -> None:
        await reply.start()
        await reply.append("Hello")
        await discord.wait_for(lambda: discord.answers(channel))
        await discord.delete_message(discord.answers(channel)[0])
        await failing(message, reply)

    core.script = answer_and_lose_it
    async with serving(discord, core):
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        assert "was deleted before its end" in await failing.sentence()


@pytest.mark.parametrize("status", [503, 0])
async def test_a_discord_that_is_down_or_cuts_the_connection_is_a_sentence(
    discord: FakeDiscord, core: FakeCore, channel: Channel, anna: User, status: int
) -> None:
    core.script = failing = Failing()
    async with serving(discord, core):
        discord.fail("POST", "/messages$", status, message="upstream overflow")
        await discord.say(channel, anna, f"{discord.bot.mention} hello")
        sentence = await failing.sentence()
    named = "HTTP 503" if status else "Discord could not be reached for #general"
    assert named in sentence
