"""Discord's courier, with the real client library, against the fake Discord."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import discord
import pytest

from bot.chat import Author, ConversationKey, IncomingMessage
from bot.delivery.courier import Courier, InDoubt, NotApplied, Post, Refused
from bot.edit_budget import EditBudget
from bot.platforms import discord_history
from bot.platforms.discord_client import use_addresses
from bot.platforms.discord_courier import DiscordCourier
from bot.platforms.discord_incoming import read_chat_command
from bot.platforms.discord_limits import Limiter
from bot.streaming import Preview
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import SUPPRESS_EMBEDS, Channel, Interaction, Message, User

NONCE = "0123456789abcdef01234567"
MESSAGES = "/messages$"


class Client(discord.Client):
    """Logged in, without discord.py's pause, and quick to acknowledge a command."""

    def __init__(self, limiter: Limiter) -> None:
        intents = discord.Intents(guilds=True, messages=True)
        nobody = discord.AllowedMentions.none()
        super().__init__(
            intents=intents,
            allowed_mentions=nobody,
            http_trace=limiter.trace(),
            guild_ready_timeout=0.1,
        )
        self.commands: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        pass

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        await interaction.response.defer(thinking=True)
        self.commands.put_nowait(read_chat_command(interaction, "why?"))


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as server:
        server.state.commands[""] = [{"name": "chat"}]
        yield server


@pytest.fixture
def channel(fake: FakeDiscord) -> Channel:
    return fake.add_channel(fake.add_guild("Home"), "general")


@pytest.fixture
def anna(fake: FakeDiscord) -> User:
    return fake.add_user("Anna")


@pytest.fixture
def limiter() -> Limiter:
    return Limiter()


@pytest.fixture
async def client(fake: FakeDiscord, channel: Channel, limiter: Limiter) -> AsyncIterator[Client]:
    use_addresses(fake.api_url, fake.gateway_url, fake.cdn_url)
    async with Client(limiter) as client:
        running = asyncio.create_task(client.start(fake.token))
        await asyncio.wait_for(client.wait_until_ready(), 10)
        yield client
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def courier(client: Client, limiter: Limiter) -> DiscordCourier:
    return DiscordCourier(client, reads_threads=True, limiter=limiter, settle_seconds=0)


def place_of(channel: Channel) -> ConversationKey:
    workspace = str(channel.guild.id) if channel.guild else "dm"
    if channel.parent is not None:
        return ConversationKey("discord", workspace, str(channel.parent.id), str(channel.id))
    return ConversationKey("discord", workspace, str(channel.id))


async def ask(fake: FakeDiscord, channel: Channel, user: User, text: str = "hello") -> IncomingMessage:
    said = await fake.say(channel, user, f"{fake.bot.mention} {text}")
    author = Author(str(user.id), user.name)
    return IncomingMessage(place_of(channel), str(said.id), author, text, datetime.now(UTC), "mention")


async def command(
    fake: FakeDiscord, client: Client, channel: Channel, user: User
) -> tuple[IncomingMessage, Interaction]:
    given = await fake.use_command(channel, user, "chat")
    return await asyncio.wait_for(client.commands.get(), 10), given


def post_of(question: IncomingMessage, text: str = "hi", part: int = 0, previous: str | None = None) -> Post:
    return Post(question, part, text, NONCE, datetime.now(UTC), previous)


def long_ago(post: Post) -> Post:
    """When Discord has forgotten the nonce."""
    return replace(post, first_try_at=post.first_try_at - timedelta(minutes=10))


def shown(fake: FakeDiscord, channel: Channel) -> list[tuple[str, str]]:
    return [(str(answer.id), answer.content) for answer in fake.answers(channel)]


def add_answer(fake: FakeDiscord, channel: Channel, text: str, reply_to: str | None = None) -> str:
    """What the bot said, as one that no courier of this test posted."""
    asked = int(reply_to) if reply_to else None
    message = Message(fake.state.next_id(), channel, fake.bot, text, reply_to=asked, shown=[text])
    channel.messages[message.id] = message
    return str(message.id)


def test_it_is_a_courier(client: Client) -> None:
    courier: Courier = DiscordCourier(client, reads_threads=False, limiter=Limiter())
    assert courier.name == "discord"


# Posts.


async def test_the_first_part_replies_and_each_part_carries_its_nonce(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    first = await courier.post(post_of(question, f"@everyone {anna.mention}"))
    second = await courier.post(replace(post_of(question, "more", 1, first), nonce="f" * 24))
    one, two = fake.answers(channel)
    assert (str(one.id), str(two.id)) == (first, second)
    assert (str(one.reply_to), two.reply_to) == (question.message_id, None)
    assert (one.nonce, two.nonce) == (NONCE, "f" * 24)
    assert one.sent["enforce_nonce"] and two.sent["enforce_nonce"]
    assert one.flags & two.flags & SUPPRESS_EMBEDS
    assert fake.pings() == []


@pytest.mark.parametrize("kind", ["thread", "dm"])
async def test_a_thread_and_a_direct_message_are_answered_where_they_are(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User, kind: str
) -> None:
    place = await fake.start_thread(channel, "a talk") if kind == "thread" else fake.add_dm(anna)
    question = await ask(fake, place, anna)
    posted = await courier.post(post_of(question))
    assert shown(fake, place) == [(posted, "hi")]


async def test_a_question_that_was_deleted_is_answered_without_a_reference(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    await fake.delete_message(fake.messages(channel)[0])
    posted = await courier.post(post_of(question))
    assert await courier.find(long_ago(post_of(question))) == posted


async def test_one_nonce_makes_one_message(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    post = post_of(await ask(fake, channel, anna))
    assert await courier.post(post) == await courier.post(post)
    assert len(fake.answers(channel)) == 1


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("status", [0, 200, 503])
async def test_a_post_that_was_applied_and_cut_off_is_found(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User, status: int, old: bool
) -> None:
    post = post_of(await ask(fake, channel, anna))
    fake.fail("POST", MESSAGES, status, applied=True)
    with pytest.raises(InDoubt):
        await courier.post(post)
    found = await courier.find(long_ago(post) if old else post)
    assert [number for number, _ in shown(fake, channel)] == [found]


async def test_a_post_that_was_cut_off_before_it_was_applied_is_posted_by_looking_for_it(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    post = post_of(await ask(fake, channel, anna))
    fake.fail("POST", MESSAGES, 0)
    with pytest.raises(InDoubt, match="could not be reached for #general"):
        await courier.post(post)
    assert fake.answers(channel) == []
    found = await courier.find(post)
    assert shown(fake, channel) == [(str(found), "hi")]


async def test_an_old_post_that_was_never_applied_is_not_found(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    post = long_ago(post_of(await ask(fake, channel, anna)))
    await ask(fake, channel, anna, "hi")
    assert await courier.find(post) is None
    assert fake.answers(channel) == []


async def test_an_error_of_the_server_is_sat_out_by_the_library_with_the_same_nonce(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    fake.fail("POST", MESSAGES, 502, applied=True)
    posted = await courier.post(post_of(await ask(fake, channel, anna)))
    assert shown(fake, channel) == [(posted, "hi")]


async def test_a_refusal_after_an_error_of_the_server_leaves_a_post_in_doubt(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    post = post_of(await ask(fake, channel, anna))
    fake.fail("POST", MESSAGES, 502, applied=True)
    fake.fail("POST", MESSAGES, 403, code=50013, message="Missing Permissions")
    with pytest.raises(InDoubt, match="I may not write in #general"):
        await courier.post(post)
    found = await courier.find(post)
    assert shown(fake, channel) == [(str(found), "hi")]


async def test_a_short_limit_is_sat_out_by_the_library_and_a_long_one_is_told(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    fake.fail("POST", MESSAGES, 429, retry_after=0.01)
    first = await courier.post(post_of(question))
    fake.fail("POST", MESSAGES, 429, times=5, retry_after=0.01)
    with pytest.raises(NotApplied, match="HTTP 429") as limited:
        await courier.post(replace(post_of(question, "more", 1, first), nonce="f" * 24))
    assert limited.value.retry_after == 0.01
    assert shown(fake, channel) == [(first, "hi")]


async def test_looking_for_a_post_never_says_that_it_is_surely_not_there_because_of_a_limit(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    post = post_of(await ask(fake, channel, anna))
    fake.fail("POST", MESSAGES, 429, times=5, retry_after=0.01)
    with pytest.raises(InDoubt):
        await courier.find(post)


@pytest.mark.parametrize(("permission", "code"), [("SEND_MESSAGES", 50013), ("READ_MESSAGE_HISTORY", 160002)])
async def test_a_missing_permission_is_refused_with_a_sentence(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User, permission: str, code: int
) -> None:
    channel.forbidden = {permission}
    with pytest.raises(Refused) as refused:
        await courier.post(post_of(await ask(fake, channel, anna)))
    assert str(refused.value) == (
        "I may not write in #general: my role needs View Channel, Send Messages (also in threads) "
        f"and Read Message History there (Discord's code {code})."
    )


async def test_a_deleted_channel_is_refused(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    await fake.delete_channel(channel)
    with pytest.raises(Refused, match="it is gone"):
        await courier.post(post_of(question))


async def test_a_connection_that_was_refused_took_no_post_with_it(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User, unused_tcp_port: int
) -> None:
    question = await ask(fake, channel, anna)
    use_addresses(f"http://127.0.0.1:{unused_tcp_port}", fake.gateway_url, fake.cdn_url)
    with pytest.raises(NotApplied, match="could not be reached"):
        await courier.post(post_of(question))


async def test_a_post_without_an_answer_in_time_is_in_doubt(
    fake: FakeDiscord,
    client: Client,
    channel: Channel,
    anna: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*args: object, **kwargs: object) -> None:
        await asyncio.Event().wait()

    question = await ask(fake, channel, anna)
    hasty = DiscordCourier(client, reads_threads=True, limiter=Limiter(), call_seconds=0.05)
    monkeypatch.setattr(fake.desk, "serve", never)
    with pytest.raises(InDoubt, match="TimeoutError"):
        await hasty.post(post_of(question))


async def test_a_client_that_was_closed_takes_nothing_with_it(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    await client.close()
    with pytest.raises(NotApplied, match="not connected"):
        await courier.post(post_of(question))


# Looking in the history.


async def test_a_first_part_is_known_by_its_question_whatever_it_says_by_now(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, other = await ask(fake, channel, anna), await ask(fake, channel, anna)
    add_answer(fake, channel, "to another", other.message_id)
    preview = add_answer(fake, channel, "Once upon", question.message_id)
    assert await courier.find(long_ago(post_of(question, "Once upon a time"))) == preview


async def test_a_later_part_is_what_follows_the_one_before(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    first = add_answer(fake, channel, "one", question.message_id)
    await fake.say(channel, anna, "two")
    second = add_answer(fake, channel, "tw")
    assert await courier.find(long_ago(post_of(question, "two", 1, first))) == second


async def test_a_part_of_the_next_answer_is_not_taken_for_one_that_is_missing(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, other = await ask(fake, channel, anna), await ask(fake, channel, anna)
    first = add_answer(fake, channel, "one", question.message_id)
    add_answer(fake, channel, "another", other.message_id)
    add_answer(fake, channel, "another's second part")
    assert await courier.find(long_ago(post_of(question, "two", 1, first))) is None


async def test_a_question_is_answered_by_a_reply_and_a_command_by_its_filled_response(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    asked, (given, _) = await ask(fake, channel, anna), await command(fake, client, channel, anna)
    assert [await courier.is_answered(question) for question in (asked, given)] == [False, False]
    for question in (asked, given):
        await courier.post(replace(post_of(question), nonce=question.message_id))
    assert [await courier.is_answered(question) for question in (asked, given)] == [True, True]


# Slash commands.


async def test_a_command_is_answered_in_its_response_and_by_follow_ups(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, given = await command(fake, client, channel, anna)
    first = await courier.post(post_of(question, f"@everyone {anna.mention}"))
    second = await courier.post(post_of(question, "two", 1, first))
    await courier.edit(question, first, "one", 0)
    await courier.edit(question, second, "two!", 1)
    assert shown(fake, channel) == [(first, "one"), (second, "two!")]
    assert [str(message.id) for message in given.messages] == [first, second]
    assert all(message.flags & SUPPRESS_EMBEDS for message in given.messages)
    assert fake.pings() == []
    await courier.delete(question, second)
    assert shown(fake, channel) == [(first, "one")]


@pytest.mark.parametrize("applied", [False, True])
async def test_a_response_in_doubt_is_filled_once_more(
    fake: FakeDiscord,
    client: Client,
    courier: DiscordCourier,
    channel: Channel,
    anna: User,
    applied: bool,
) -> None:
    question, _ = await command(fake, client, channel, anna)
    fake.fail("PATCH", "/webhooks/", 503, applied=applied)
    with pytest.raises(InDoubt):
        await courier.post(post_of(question))
    found = await courier.find(post_of(question))
    assert shown(fake, channel) == [(found, "hi")]


@pytest.mark.parametrize("status", [0, 500, 503])
async def test_a_follow_up_is_tried_once_and_looked_for_in_the_history(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User, status: int
) -> None:
    question, _ = await command(fake, client, channel, anna)
    first = await courier.post(post_of(question, "one"))
    post = post_of(question, "two", 1, first)
    fake.fail("POST", "/webhooks/", status)
    with pytest.raises(InDoubt):
        await courier.post(post)
    assert await courier.find(post) is None
    fake.fail("POST", "/webhooks/", status, applied=True)
    with pytest.raises(InDoubt):
        await courier.post(post)
    found = await courier.find(post)
    assert found is not None
    assert shown(fake, channel) == [(first, "one"), (found, "two")]


async def test_a_command_whose_token_is_gone_is_answered_in_its_channel(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, _ = await command(fake, client, channel, anna)
    first = await courier.post(post_of(question, "one"))
    fake.expire_commands()
    second = await courier.post(post_of(question, "two", 1, first))
    await courier.edit(question, first, "one!", 0)
    assert shown(fake, channel) == [(first, "one!"), (second, "two")]
    assert fake.answers(channel)[1].nonce == NONCE
    await courier.delete(question, second)
    assert shown(fake, channel) == [(first, "one!")]


async def test_an_old_command_is_answered_in_its_channel_without_asking_its_webhook(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, _ = await command(fake, client, channel, anna)
    old = replace(question, created_at=question.created_at - timedelta(minutes=15))
    posted = await courier.post(post_of(old))
    assert fake.answers(channel)[0].reply_to is None
    assert await courier.find(post_of(old)) == posted
    assert await courier.find(long_ago(post_of(old))) == posted
    assert not [request for request in fake.desk.requests if "/webhooks/" in request.path]


async def test_a_response_that_was_filled_is_found_when_its_token_is_gone(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, _ = await command(fake, client, channel, anna)
    await command(fake, client, channel, anna)
    post = long_ago(post_of(question, "one, and more"))
    fake.expire_commands()
    assert await courier.find(post) is None
    fake.state.interactions[question.token or ""].expired = False
    posted = await courier.post(post_of(question, "one"))
    fake.expire_commands()
    assert await courier.find(post) == posted


# Edits, removals, the sign.


async def test_an_edit_changes_the_text_and_pings_nobody(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    posted = await courier.post(post_of(question))
    await courier.edit(question, posted, "@everyone", 0)
    assert fake.answers(channel)[0].shown == ["hi", "@everyone"]
    assert fake.pings() == []


async def test_what_is_gone_counts_as_deleted_and_cannot_be_edited(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    posted = await courier.post(post_of(question))
    await courier.delete(question, posted)
    await courier.delete(question, posted)
    assert fake.answers(channel) == []
    with pytest.raises(Refused, match="was deleted before its end"):
        await courier.edit(question, posted, "more", 0)


async def test_a_previews_edit_is_left_out_where_discord_said_429(
    fake: FakeDiscord, courier: DiscordCourier, limiter: Limiter, channel: Channel, anna: User
) -> None:
    question = await ask(fake, channel, anna)
    posted = await courier.post(post_of(question))
    limiter.note_limit(str(channel.id), 60)
    assert courier.may_edit()
    with pytest.raises(NotApplied):
        await courier.edit(question, posted, "a preview", 0)
    await courier.edit(question, posted, "final", 0)
    assert fake.answers(channel)[0].shown == ["hi", "final"]


class Growing:
    """A `PreviewSink` without a database: an answer's only message."""

    limit, typing_seconds = 1900, 3600.0

    def __init__(self, courier: Courier, post: Post) -> None:
        self._courier, self._post = courier, post
        self.message = ""

    @property
    def begun(self) -> bool:
        return bool(self.message)

    async def show(self, pieces: Sequence[str]) -> bool:
        if not self.begun:
            self.message = await self._courier.post(replace(self._post, text=pieces[0]))
        elif self._courier.may_edit():
            await self.edit(pieces[0])
        return True

    async def edit(self, text: str) -> None:
        await self._courier.edit(self._post.question, self.message, text, 0)

    async def typing(self) -> None: ...


async def test_ten_answers_that_grow_in_one_channel_end_with_their_final_texts_and_without_a_429(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    fake.desk.limit, fake.desk.seconds = 5, 0.5
    question = await ask(fake, channel, anna)
    budget = EditBudget(0.12)
    sinks = [Growing(courier, replace(post_of(question), nonce=f"{number:024x}")) for number in range(10)]

    def shown_so_far() -> int:
        return sum(len(said.shown) for said in fake.answers(channel))

    async def answer(sink: Growing, name: str) -> None:
        preview = Preview(sink, budget)
        await preview.start()
        await preview.append(name)
        await fake.wait_for(lambda: len(fake.answers(channel)) == 10)
        for word in range(20):
            await preview.append(f" {word}")
            await fake.wait_for(lambda word=word: shown_so_far() >= 10 + word // 2)  # type: ignore[misc]
        (final,) = await preview.finish()
        await sink.edit(final)

    await asyncio.gather(*(answer(sink, f"answer {number}") for number, sink in enumerate(sinks)))
    wanted = {f"answer {number} {' '.join(map(str, range(20)))}" for number in range(10)}
    assert {said.content for said in fake.answers(channel)} == wanted
    assert shown_so_far() >= 10 + 9 + 10
    assert fake.desk.refused == 0


async def test_the_library_tells_of_the_limits_that_it_sits_out(
    fake: FakeDiscord,
    courier: DiscordCourier,
    limiter: Limiter,
    channel: Channel,
    anna: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question = await ask(fake, channel, anna)
    fake.fail("POST", MESSAGES, 429, retry_after=0.01)
    noted: list[str] = []
    monkeypatch.setattr(limiter, "note_limit", lambda place, seconds: noted.append(place))
    await courier.post(post_of(question))
    assert noted == [str(channel.id)]


async def test_the_sign_is_shown_but_where_a_command_thinks_already(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    question, _ = await command(fake, client, channel, anna)
    await courier.typing(question)
    assert channel.typing == 0
    await courier.typing(await ask(fake, channel, anna))
    assert channel.typing == 1


# What was said before.


async def test_a_history_is_read_page_by_page_without_what_was_answered(
    fake: FakeDiscord,
    courier: DiscordCourier,
    channel: Channel,
    anna: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discord_history, "PER_PAGE", 4)
    answered = await ask(fake, channel, anna, "answered")
    await courier.post(post_of(answered))
    missed = await ask(fake, channel, anna, "missed")
    await fake.say(channel, anna, "to nobody")
    last = await ask(fake, channel, anna, "the last")
    before = str(int(answered.message_id) - 1)
    page = await courier.read_history(place_of(channel), False, before)
    assert [message.message_id for message in page.messages] == [missed.message_id]
    assert page.more
    rest = await courier.read_history(place_of(channel), False, page.verified_upto)
    assert [message.text for message in rest.messages] == ["the last"]
    assert (rest.verified_upto, rest.more) == (last.message_id, False)
    empty = await courier.read_history(place_of(channel), False, last.message_id)
    assert (empty.messages, empty.verified_upto, empty.more) == ([], last.message_id, False)


async def test_what_a_history_tells_is_what_an_event_tells(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    thread = await fake.start_thread(channel, "a talk")
    for place in (channel, thread):
        asked = await ask(fake, place, anna)
        page = await courier.read_history(place_of(place), False, str(int(asked.message_id) - 1))
        assert [replace(asked, created_at=message.created_at) for message in page.messages] == page.messages
        assert page.messages[0].conversation == asked.conversation


async def test_a_direct_message_is_read_as_one_though_its_channel_was_never_seen(
    fake: FakeDiscord, courier: DiscordCourier, anna: User
) -> None:
    dm = fake.add_dm(anna)
    said = Message(fake.state.next_id(), dm, anna, "hello", shown=["hello"])
    dm.messages[said.id] = said
    page = await courier.read_history(place_of(dm), True, str(said.id - 1))
    [message] = page.messages
    assert (message.via, message.private, message.conversation) == ("dm", True, place_of(dm))


async def test_a_place_that_may_not_be_read_is_refused(
    fake: FakeDiscord, courier: DiscordCourier, channel: Channel
) -> None:
    channel.forbidden = {"VIEW_CHANNEL"}
    with pytest.raises(Refused):
        await courier.read_history(place_of(channel), False, "1")


async def test_a_channel_tells_whether_something_is_newer_and_a_direct_message_does_not(
    fake: FakeDiscord, client: Client, courier: DiscordCourier, channel: Channel, anna: User
) -> None:
    place = place_of(channel)
    assert await courier.is_newer(place, "1")
    heard = client.wait_for("message", timeout=10)  # it listens from now on
    asked = await ask(fake, channel, anna)
    await heard
    assert await courier.is_newer(place, str(int(asked.message_id) - 1))
    assert not await courier.is_newer(place, asked.message_id)
    assert await courier.is_newer(replace(place, workspace="dm", channel="77"), asked.message_id)


@pytest.mark.parametrize("new", [True, False])
async def test_every_channel_and_thread_that_can_be_read_is_listed_a_new_one_from_its_begin(
    fake: FakeDiscord, channel: Channel, anna: User, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    if not new:
        monkeypatch.setattr(discord_history, "NEW", timedelta(0))
    hidden = fake.add_channel(channel.guild, "hidden") if channel.guild else channel
    hidden.forbidden = {"VIEW_CHANNEL"}
    thread = await fake.start_thread(channel, "a talk")
    asked = await ask(fake, channel, anna)
    use_addresses(fake.api_url, fake.gateway_url, fake.cdn_url)
    async with Client(Limiter()) as client:
        running = asyncio.create_task(client.start(fake.token))
        await asyncio.wait_for(client.wait_until_ready(), 10)
        places = DiscordCourier(client, reads_threads=False, limiter=Limiter()).list_places()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert places == [
        (place_of(channel), False, str(channel.id) if new else asked.message_id),
        (place_of(thread), False, str(thread.id)),
    ]
