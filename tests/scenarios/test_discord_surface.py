"""On Discord, through the real discord.py: menus of messages, reactions, welcome, presence, permissions, threads."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from bot.late_engine import LateEngine
from model.protocol import Engine
from storage import tables
from storage.database import Database, Session
from tests.bot.conversation import Stored, stored_messages
from tests.fakes.discord_platform import HastyClient
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import EPHEMERAL, Channel, Interaction, Message, User
from tests.fakes.engine import FakeEngine
from tests.scenarios.house import on_discord, parley


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord(message_content=True) as fake:
        yield fake


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.platforms.discord_client.Client", HastyClient)


@pytest.fixture
def channel(discord: FakeDiscord) -> Channel:
    return discord.add_channel(discord.add_guild("Home"), "general")


def reading_all(discord: FakeDiscord) -> dict[str, Any]:
    return on_discord(discord) | {"discord_message_content": True}


async def ready(discord: FakeDiscord) -> None:
    await discord.wait_for(lambda: discord.connected and discord.commands)


async def settled(discord: FakeDiscord) -> None:
    """discord.py has heard of all workspaces, so that one more is a new one."""
    discord.gateway.presence = None
    await discord.wait_for(lambda: "model fake" in str(discord.presence))


async def said(discord: FakeDiscord, interaction: Interaction) -> str:
    """What stands in the response, whoever reads it."""
    await discord.wait_for(lambda: interaction.original and interaction.original.content)
    assert interaction.original is not None
    return interaction.original.content


async def answer_to(discord: FakeDiscord, channel: Channel, user: User, text: str) -> Message:
    """The answer with its buttons: it is sent, and the dialogue knows where it stands."""
    before = len(discord.answers(channel))
    await discord.say(channel, user, f"{discord.bot.mention} {text}")
    await discord.wait_for(
        lambda: len(discord.answers(channel)) > before and _is_done(discord.answers(channel)[-1])
    )
    return discord.answers(channel)[-1]


def _is_done(message: Message) -> bool:
    return "Again" in [button["label"] for row in message.components for button in row["components"]]


async def concluded(database: Database, answer: Message) -> None:
    """Until the dialogue knows where the answer stands, which is written after it is shown."""
    part = tables.MessagePart.external_id
    await until(database, lambda session: str(answer.id) in list(session.scalars(select(part))))


async def closed(database: Database, count: int) -> None:
    """Until so many messages are seen to their end."""
    done = select(tables.Inbox.id).where(tables.Inbox.state == "done")
    await until(database, lambda session: len(list(session.scalars(done))) >= count)


async def rated(database: Database, count: int) -> None:
    await until(database, lambda session: len(list(session.scalars(select(tables.Feedback.id)))) >= count)


async def until(database: Database, happened: Callable[[Session], bool]) -> None:
    async with asyncio.timeout(10):
        while not await database.read(happened):
            pass


async def test_a_message_is_explained_from_its_menu_and_the_question_is_stored(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    engine = FakeEngine("It is a greeting in Latin.")
    async with parley(engine, database, **on_discord(discord)):
        await ready(discord)
        spoken = await discord.say(channel, bob, f"salve, {ada.mention}\nsalvete")
        given = await discord.use_menu(spoken, ada, "Explain")
        assert await said(discord, given) == "It is a greeting in Latin."
    question = "Please explain this message:\n> salve, @Ada\n> salvete"
    assert await stored_messages(database) == [
        Stored("user", question),
        Stored("assistant", "It is a greeting in Latin."),
    ]
    assert given.original is not None and not given.original.flags & EPHEMERAL


@pytest.mark.parametrize(
    ("locale", "request_"),
    [
        ("en-US", "Please translate this message into English:"),
        ("de", "Please translate this message into German:"),
        ("pt-BR", "Please translate this message into Portuguese:"),
        ("zh-CN", "请把这条消息翻译成简体中文："),
    ],
)
async def test_a_message_is_translated_into_the_language_of_who_asks(
    discord: FakeDiscord, database: Database, channel: Channel, locale: str, request_: str
) -> None:
    ada = discord.add_user("Ada", locale=locale)
    engine = FakeEngine("...")
    async with parley(engine, database, **on_discord(discord)):
        await ready(discord)
        given = await discord.use_menu(await discord.say(channel, ada, "salve"), ada, "Translate")
        await said(discord, given)
    assert engine.requests[0].messages[-1].content == f"{request_}\n> salve"


async def test_menus_are_called_by_their_chinese_names(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await ready(discord)
    names = {c["name"]: c["name_localizations"]["zh-CN"] for c in discord.commands if c["type"] == 3}
    assert names == {
        "Explain": "解释",
        "Translate": "翻译",
        "Summarise from here": "从这里开始总结",
        "Ask again": "再答一次",
        "Report": "举报",
    }


async def test_a_message_with_nothing_to_read_is_not_asked_about(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await ready(discord)
        given = await discord.use_menu(await discord.say(channel, ada, ""), ada, "Explain")
        assert await said(discord, given) == "There is nothing in this message that I could read."
    assert given.original is not None and given.original.ephemeral


async def test_what_was_said_from_a_message_on_is_summarised(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    engine = FakeEngine("They look for a day.")
    async with parley(engine, database, **reading_all(discord)):
        await ready(discord)
        await discord.say(channel, ada, "this is older")
        first = await discord.say(channel, ada, "shall we meet\nBob: no")
        for number in range(60):
            await discord.say(channel, bob, f"on day {number}?")
        given = await discord.use_menu(first, bob, "Summarise from here")
        assert await said(discord, given) == "They look for a day."
    asked = engine.requests[0].messages[-1].content.split("\n")
    assert asked[:3] == [
        "Please summarise these 50 messages:",
        "> Ada: shall we meet Bob: no",
        "> Bob: on day 0?",
    ]
    assert asked[-1] == "> Bob: on day 48?"


async def test_a_summary_that_would_be_too_long_says_how_much_it_covers(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    engine = FakeEngine("Much.")
    async with parley(engine, database, **reading_all(discord)):
        await ready(discord)
        first = await discord.say(channel, ada, "x" * 1900)
        for _ in range(5):
            await discord.say(channel, ada, "y" * 1900)
        await said(discord, await discord.use_menu(first, ada, "Summarise from here"))
    asked = engine.requests[0].messages[-1].content
    assert asked.startswith("Please summarise these messages, the first 3 of 6:\n")


async def test_without_message_content_nothing_is_summarised_and_it_says_why(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await ready(discord)
        spoken = await discord.say(channel, ada, "hello all")
        given = await discord.use_menu(spoken, ada, "Summarise from here")
        assert (await said(discord, given)).startswith("I cannot read what others say here")
    assert await stored_messages(database) == []


async def test_an_answer_and_its_question_can_be_asked_again_but_nothing_else(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    async with parley(FakeEngine("One.", "Two.", "Three."), database, **on_discord(discord)):
        await ready(discord)
        answer = await answer_to(discord, channel, ada, "count")
        await concluded(database, answer)
        refused = await discord.use_menu(answer, bob, "Ask again")
        assert await said(discord, refused) == "Only who asked, and moderators, may do that."
        given = await discord.use_menu(answer, ada, "Ask again")
        assert await said(discord, given) == "I am writing another answer to it."
        await discord.wait_for(lambda: answer.content == "Two." and _is_done(answer))
        question = discord.messages(channel)[0]
        await closed(database, 2)
        await said(discord, await discord.use_menu(question, ada, "Ask again"))
        await discord.wait_for(lambda: answer.content == "Three.")
        other = await discord.say(channel, bob, "good morning")
        given = await discord.use_menu(other, bob, "Ask again")
        assert await said(discord, given) == "I can answer again only what I have answered already."


async def test_a_report_is_kept_with_its_reason_and_only_of_what_is_stored(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    async with parley(FakeEngine("Something rude."), database, **on_discord(discord)):
        await ready(discord)
        answer = await answer_to(discord, channel, ada, "say something")
        await concluded(database, answer)
        opened = await discord.use_menu(answer, bob, "Report")
        await discord.wait_for(lambda: opened.modal)
        given = await discord.submit(discord.modal_of(opened), bob, reason="it is rude")
        assert await said(discord, given) == "Thank you: your report is kept for those who moderate here."
        other = await discord.say(channel, ada, "not for the bot")
        refused = await discord.use_menu(other, bob, "Report")
        assert (await said(discord, refused)).startswith(
            "Only messages of conversations with me can be reported"
        )
    with database.reading() as session:
        flag = session.scalars(select(tables.Flag)).one()
        message = session.get_one(tables.Message, flag.message_id)
        reporter = session.get_one(tables.Account, flag.reporter_id)
        kept = (message.text, reporter.name, flag.source, flag.category, flag.evidence, flag.version)
    assert kept == ("Something rude.", "Bob", "person", "reported", "it is rude", "fake@00000000")


async def test_thumbs_under_an_answer_are_ratings_and_all_else_is_none(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada, bob = discord.add_user("Ada"), discord.add_user("Bob")
    dm = discord.add_dm(ada)
    async with parley(FakeEngine("Hi.", "Psst."), database, **on_discord(discord)):
        await ready(discord)
        answer = await answer_to(discord, channel, ada, "hello")
        await concluded(database, answer)
        asked = discord.messages(channel)[0]
        for message, user, emoji in (
            (answer, ada, "👍"),
            (answer, bob, "👎🏽"),
            (answer, bob, "🎉"),
            (asked, bob, "👍"),
        ):
            await discord.react(message, user, emoji)
        private = await answer_to(discord, dm, ada, "psst")
        await concluded(database, private)
        await discord.react(private, ada, "👎")
        await rated(database, 3)
    with database.reading() as session:
        rows = session.execute(
            select(tables.Account.name, tables.Message.text, tables.Feedback.rating)
            .join(tables.Account, tables.Feedback.account_id == tables.Account.id)
            .join(tables.Message, tables.Feedback.message_id == tables.Message.id)
            .order_by(tables.Feedback.id)
        )
        assert [tuple(row) for row in rows] == [
            ("Ada", "Hi.", "up"),
            ("Bob", "Hi.", "down"),
            ("Ada", "Psst.", "down"),
        ]


@pytest.mark.parametrize(
    ("locale", "beginning"), [("en-US", "Hello, I am Parley"), ("zh-CN", "大家好，我是 Parley")]
)
async def test_a_workspace_that_adds_parley_is_welcomed_once_in_its_language(
    discord: FakeDiscord, database: Database, locale: str, beginning: str
) -> None:
    club = discord.add_guild("Club", joined=False)
    club.locale = locale
    first, system = discord.add_channel(club, "first"), discord.add_channel(club, "system")
    club.system_channel = system
    for _ in range(2):
        async with parley(FakeEngine(), database, **on_discord(discord)):
            await settled(discord)
            if not club.joined:
                await discord.join_guild(club)
                await discord.wait_for(lambda: discord.answers(system))
    (welcome,) = discord.answers(system)
    assert welcome.content.startswith(beginning)
    assert "/help" in welcome.content
    assert discord.answers(first) == []


async def test_a_workspace_that_was_joined_while_nobody_listened_is_welcomed_at_the_next_start_alone(
    discord: FakeDiscord, database: Database, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.platforms.discord_notices.JUST_JOINED", timedelta.max)
    ada = discord.add_user("Ada")
    for _ in range(2):
        async with parley(FakeEngine(default="Hi."), database, **on_discord(discord)):
            await settled(discord)
            await discord.wait_for(lambda: discord.answers(channel))
            await answer_to(discord, channel, ada, "hello")
    assert [answer.content[:12] for answer in discord.answers(channel)] == ["Hello, I am ", "Hi.", "Hi."]


async def test_a_welcome_goes_where_parley_may_write(discord: FakeDiscord, database: Database) -> None:
    club = discord.add_guild("Club", joined=False)
    club.system_channel = discord.add_channel(club, "system")
    club.system_channel.forbidden.add("SEND_MESSAGES")
    open_ = discord.add_channel(club, "open")
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await settled(discord)
        await discord.join_guild(club)
        await discord.wait_for(lambda: discord.answers(open_))


async def test_the_presence_says_that_the_model_is_loading_and_then_which_serves(
    discord: FakeDiscord, database: Database
) -> None:
    loading: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()

    def shown() -> str:
        return str((discord.presence or {}).get("activities"))

    async with parley(LateEngine(loading), database, **on_discord(discord)):
        await discord.wait_for(lambda: "loading the model" in shown())
        loading.set_result(FakeEngine())
        await discord.wait_for(lambda: "model fake" in shown())


async def test_missing_permissions_are_told_to_the_owner_once_and_answers_go_on_elsewhere(
    discord: FakeDiscord, database: Database
) -> None:
    owner, ada = discord.add_user("Olga"), discord.add_user("Ada")
    guild = discord.add_guild("Home", owner=owner)
    silent, open_ = discord.add_channel(guild, "silent"), discord.add_channel(guild, "open")
    silent.forbidden.add("SEND_MESSAGES")
    dm = discord.add_dm(owner)
    async with parley(FakeEngine(default="Hi."), database, **on_discord(discord)):
        await ready(discord)
        await discord.say(silent, ada, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(dm))
        await discord.say(silent, ada, f"{discord.bot.mention} hello?")
        await answer_to(discord, open_, ada, "hello")
        await closed(database, 3)
    (told,) = discord.answers(dm)
    assert told.content.startswith(
        f"Somebody asked me something in <#{silent.id}> of Home, and I may not write there"
    )


async def test_missing_permissions_are_told_in_the_system_channel_where_the_owner_cannot_be_reached(
    discord: FakeDiscord, database: Database
) -> None:
    guild, ada = discord.add_guild("Home"), discord.add_user("Ada")
    silent = discord.add_channel(guild, "silent")
    guild.system_channel = discord.add_channel(guild, "system")
    silent.forbidden.add("SEND_MESSAGES")
    async with parley(FakeEngine(default="Hi."), database, **on_discord(discord)):
        await ready(discord)
        await discord.say(silent, ada, f"{discord.bot.mention} hello")
        await discord.wait_for(lambda: discord.answers(guild.system_channel))  # type: ignore[arg-type]


async def test_a_thread_goes_on_from_the_last_answer_and_parley_takes_part_in_it(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    engine = FakeEngine("Plants eat light.", "At night they rest.", "Yes.")
    async with parley(engine, database, **reading_all(discord)):
        await ready(discord)
        answer = await answer_to(discord, channel, ada, "what do plants eat?")
        await concluded(database, answer)
        given = await discord.use_command(channel, ada, "thread", message="and at night?")
        assert await said(discord, given) == f"The thread is open: <#{answer.id}>"
        thread = answer.thread
        assert thread is not None and thread.name == "and at night?"
        await discord.wait_for(lambda: len(discord.answers(thread)) == 2)
        await discord.wait_for(lambda: _is_done(discord.answers(thread)[1]))
        await discord.say(thread, ada, "really?")
        await discord.wait_for(lambda: len(discord.answers(thread)) == 3)
    assert [m.content for m in discord.answers(thread)] == [
        "Ada: and at night?",
        "At night they rest.",
        "Yes.",
    ]
    assert "Plants eat light." in engine.requests[1].messages[-1].content
    assert given.original is not None and given.original.ephemeral


async def test_a_thread_with_a_name_stands_alone_and_one_needs_a_beginning(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Welcome to the club."), database, **reading_all(discord)):
        await ready(discord)
        refused = await discord.use_command(channel, ada, "thread")
        assert (await said(discord, refused)).startswith("I have answered nothing here yet")
        given = await discord.use_command(channel, ada, "thread", name="book club")
        await said(discord, given)
        thread = next(place for place in channel.guild.channels if place.name == "book club")  # type: ignore[union-attr]
        assert [m.content for m in discord.answers(thread)] == ["Let us go on here."]
        await discord.say(thread, ada, "hello")
        await discord.wait_for(lambda: discord.answers(thread)[-1].content == "Welcome to the club.")


async def test_a_second_thread_from_the_same_answer_goes_on_in_the_first(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Hi."), database, **on_discord(discord)):
        await ready(discord)
        answer = await answer_to(discord, channel, ada, "hello")
        await concluded(database, answer)
        for _ in range(2):
            given = await discord.use_command(channel, ada, "thread")
            assert await said(discord, given) == f"The thread is open: <#{answer.id}>"
    assert answer.thread is not None
    assert [m.content[:18] for m in discord.answers(answer.thread)] == ["Let us go on here."] * 2


async def test_a_thread_that_may_not_be_opened_is_refused_in_words(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    channel.forbidden.add("CREATE_PUBLIC_THREADS")
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await ready(discord)
        given = await discord.use_command(channel, ada, "thread", name="book club")
        assert (await said(discord, given)).startswith("I may not open threads in #general")


async def test_an_answer_in_a_thread_can_be_reported_and_rated_like_any_other(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine("Hi."), database, **on_discord(discord)):
        await ready(discord)
        thread = await discord.start_thread(channel, "talk")
        answer = await answer_to(discord, thread, ada, "hello")
        await concluded(database, answer)
        opened = await discord.use_menu(answer, ada, "Report")
        await discord.wait_for(lambda: opened.modal)
        await said(discord, await discord.submit(discord.modal_of(opened), ada, reason="why not"))
        await discord.react(answer, ada, "👍")
        await rated(database, 1)


async def test_who_may_use_no_commands_opens_no_threads(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    assert channel.guild is not None
    role = discord.add_role(channel.guild, "chiefs", permissions=["MANAGE_GUILD"])
    chief, bob = discord.join(channel.guild, discord.add_user("Chief"), roles=[role]), discord.add_user("Bob")
    async with parley(FakeEngine(), database, **on_discord(discord)):
        await ready(discord)
        denied = await discord.use_command(channel, chief, "access deny", need="command", subject=bob.mention)
        await said(discord, denied)
        given = await discord.use_command(channel, bob, "thread", name="mine")
        assert (await said(discord, given)).endswith("there is a rule for you.")
    assert [place.name for place in channel.guild.channels] == ["general"]


async def test_a_history_that_discord_does_not_show_is_no_summary(
    discord: FakeDiscord, database: Database, channel: Channel
) -> None:
    ada = discord.add_user("Ada")
    async with parley(FakeEngine(), database, **reading_all(discord)):
        await settled(discord)
        spoken = await discord.say(channel, ada, "hello all")
        discord.fail("GET", "/messages", 403, times=100, code=50001, message="Missing Access")
        given = await discord.use_menu(spoken, ada, "Summarise from here")
        assert "my role needs View Channel" in await said(discord, given)
    assert await stored_messages(database) == []
