"""Connections that break in the middle, and a database that is away for a moment: answered once, if later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bot.delivery.ownership import sole_owner
from bot.platforms.slack_courier import SlackCourier
from storage.database import Database, migrate
from tests.fakes.database import LeavingDatabase
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.engine import FakeEngine
from tests.fakes.proxy import HOST, Proxy
from tests.fakes.slack_server import FakeSlack
from tests.scenarios.house import on_discord, on_slack, parley
from tests.storage.conftest import new_postgresql_database


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeSlack]:
    """One that shows a post at once, so that nobody waits for it to settle."""
    defaults = SlackCourier.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "settle_seconds", 0.0)
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def leaving(tmp_path: Path) -> AsyncIterator[LeavingDatabase]:
    url = f"sqlite:///{tmp_path / 'leaving.db'}"
    await migrate(url)
    opened = await LeavingDatabase.open(url)
    yield opened
    opened.away = False
    await opened.close()


def port_of(url: str) -> int:
    return make_url(url).port or 5432


async def test_a_post_on_discord_whose_answer_is_cut_in_the_middle_is_not_said_again(
    discord: FakeDiscord, database: Database
) -> None:
    anna = discord.add_user("Anna")
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    async with Proxy(port_of(discord.api_url)) as proxy:
        discord.address, discord.gateway.url = proxy.address, f"ws://{proxy.address}/gateway/"
        cut = proxy.cut_answer(b'"nonce"')
        async with parley(FakeEngine("Hello.", "Still here."), database, **on_discord(discord)):
            await discord.wait_for(lambda: discord.connected)
            for text in ("hi", "and now?"):
                await discord.say(channel, anna, f"{discord.bot.mention} {text}")
            await discord.wait_for(
                lambda: [m.content for m in discord.answers(channel)][1:] == ["Still here."]
            )
    assert cut.is_set()
    assert [said.content for said in discord.answers(channel)] == ["Hello.", "Still here."]


async def test_a_post_on_slack_whose_answer_is_cut_in_the_middle_is_not_said_again(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    async with Proxy(port_of(slack.api_url)) as proxy:
        cut = proxy.cut_answer(b"chat.postMessage")
        through = {"slack_api_url": f"http://{proxy.address}/api/"}
        async with parley(FakeEngine("Hello.", "Still here."), database, **on_slack(slack) | through):
            await slack.wait_until_connected()
            for text in ("hi", "and now?"):
                await slack.say(dm, ada, text)
            await slack.wait_for(lambda: [m.text for m in slack.answers(dm)][1:] == ["Still here."])
    assert cut.is_set()
    assert [said.text for said in slack.answers(dm)] == ["Hello.", "Still here."]


async def test_a_request_that_is_cut_in_the_middle_is_made_again(
    slack: FakeSlack, database: Database
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    async with Proxy(port_of(slack.api_url)) as proxy:
        cut = proxy.cut_request(b"chat.postMessage")
        through = {"slack_api_url": f"http://{proxy.address}/api/"}
        async with parley(FakeEngine("Hello."), database, **on_slack(slack) | through):
            await slack.wait_until_connected()
            await slack.say(dm, ada, "hi")
            await slack.wait_for(lambda: [m.text for m in slack.answers(dm)] == ["Hello."])
    assert cut.is_set()


async def test_what_comes_after_a_message_that_could_not_be_stored_is_answered_after_it(
    discord: FakeDiscord, leaving: LeavingDatabase
) -> None:
    anna = discord.add_user("Anna")
    dm = discord.add_dm(anna)  # nobody has told of it: what is said there first is in no history that is read
    async with parley(FakeEngine("One.", "Two."), leaving, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        leaving.away = True
        said = await discord.say(dm, anna, "first")
        await leaving.missed.wait()
        leaving.away = False
        while discord.state.next_id() >> 22 == said.id >> 22:  # of one instant, what is stored first is first
            pass
        await discord.say(dm, anna, "second")
        await discord.wait_for(lambda: len(discord.answers(dm)) == 2)
    first, second = discord.messages(dm)[:2]
    assert [(said.content, said.reply_to) for said in discord.answers(dm)] == [
        ("One.", first.id),
        ("Two.", second.id),
    ]


async def test_a_first_login_at_discord_that_waits_for_the_database_and_loses_its_connection_is_made_again(
    discord: FakeDiscord, leaving: LeavingDatabase
) -> None:
    async with Proxy(port_of(discord.api_url)) as proxy:
        discord.address, discord.gateway.url = proxy.address, f"ws://{proxy.address}/gateway/"
        async with parley(FakeEngine(), leaving, **on_discord(discord)) as serving:
            leaving.away = True
            await leaving.unread.wait()
            proxy.cut()
            leaving.away = False
            await discord.wait_for(lambda: discord.connected)
            assert not serving.done()


async def test_what_no_event_told_is_found_in_a_channel_in_which_nothing_more_is_said(
    discord: FakeDiscord, database: Database
) -> None:
    anna = discord.add_user("Anna")
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    async with parley(FakeEngine("One.", "Two."), database, scan_seconds=0.2, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected)
        await discord.say(channel, anna, f"{discord.bot.mention} first")
        await discord.wait_for(lambda: [m.content for m in discord.answers(channel)] == ["One."])
        sessions = dict(discord.gateway.sessions)
        discord.gateway.sessions.clear()
        await discord.say(channel, anna, f"{discord.bot.mention} this is told to nobody")
        discord.gateway.sessions.update(sessions)
        await discord.wait_for(lambda: [m.content for m in discord.answers(channel)][1:] == ["Two."])


async def test_whoever_waits_for_a_lease_goes_on_waiting_while_the_database_is_away(
    leaving: LeavingDatabase,
) -> None:
    leaving.away = True

    async def own() -> bool:
        async with sole_owner(leaving, "discord", "me", seconds=0.05) as lost:
            return not lost.is_set()

    waiting = asyncio.create_task(own())
    await leaving.missed.wait()
    assert not waiting.done()
    leaving.away = False
    assert await waiting


@asynccontextmanager
async def postgresql_through_a_proxy() -> AsyncIterator[tuple[Proxy, LeavingDatabase]]:
    with new_postgresql_database() as url:
        await migrate(url)
        async with Proxy(port_of(url)) as proxy:
            way = make_url(url).set(host=HOST, port=proxy.port).update_query_dict({"sslmode": "disable"})
            database = await LeavingDatabase.open(way.render_as_string(hide_password=False))
            try:
                yield proxy, database
            finally:
                await database.close()


async def test_slack_hears_no_yes_while_postgresql_refuses_connections_and_the_answer_comes_once(
    slack: FakeSlack,
) -> None:
    ada = slack.add_user("ada")
    dm = slack.open_dm(ada)
    engine = FakeEngine("Hello.", "Still here.")
    async with (
        postgresql_through_a_proxy() as (proxy, database),
        parley(engine, database, **on_slack(slack)),
    ):
        await slack.wait_until_connected()
        async with proxy.outage():
            await slack.say(dm, ada, "hi")
            await database.missed.wait()
            refused = slack.socket.envelopes[-1]
            assert not refused.acked
        await slack.wait_for(lambda: [m.text for m in slack.answers(dm)] == ["Hello."])
        again = await slack.socket.redeliver(refused)
        await slack.wait_for(lambda: again.acked)
        await slack.say(dm, ada, "and now?")
        await slack.wait_for(lambda: len(slack.answers(dm)) == 2)
    assert [said.text for said in slack.answers(dm)] == ["Hello.", "Still here."]


async def test_on_discord_what_is_said_while_postgresql_refuses_connections_is_answered_once(
    discord: FakeDiscord,
) -> None:
    anna = discord.add_user("Anna")
    channel = discord.add_channel(discord.add_guild("Home"), "general")
    engine = FakeEngine("Hello.", "Still here.")
    async with (
        postgresql_through_a_proxy() as (proxy, database),
        parley(engine, database, **on_discord(discord)),
    ):
        await discord.wait_for(lambda: discord.connected)
        async with proxy.outage():
            await discord.say(channel, anna, f"{discord.bot.mention} hi")
            await database.missed.wait()
        await discord.wait_for(lambda: [m.content for m in discord.answers(channel)] == ["Hello."])
        await discord.say(channel, anna, f"{discord.bot.mention} and now?")
        await discord.wait_for(lambda: len(discord.answers(channel)) == 2)
    assert [said.content for said in discord.answers(channel)] == ["Hello.", "Still here."]
