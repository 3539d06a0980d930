"""Every command of the table, used on Discord and on Slack: the same words come back, and only to who used it."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.commands.table import BY_NAME, COMMANDS
from storage.database import Database, migrate
from tests.bot.delivery.post_office import all_closed
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.engine import FakeEngine
from tests.fakes.slack_server import FakeSlack
from tests.scenarios.house import on_discord, on_slack, parley

BOB = "Bob, mentioned"
QUESTION, ANSWER = "how are you?", "I am fine."
USED: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("help", {}),
    ("why", {}),
    ("chat", {"message": QUESTION}),
    ("why", {}),
    ("context", {}),
    ("stop", {}),
    ("reset", {}),
    ("undo", {}),
    ("sampling show", {}),
    ("sampling set", {"setting": "temperature", "value": "0.5"}),
    ("sampling set", {"setting": "temperature", "value": "hot"}),
    ("sampling save", {"name": "mine"}),
    ("sampling preset", {"name": "precise"}),
    ("sampling show", {}),
    ("sampling reset", {}),
    ("settings set", {"setting": "wake", "value": "computer", "where": "channel"}),
    ("settings set", {"setting": "mood", "value": "good"}),
    ("settings show", {}),
    ("settings clear", {"setting": "wake", "where": "channel"}),
    ("bundle set", {"name": "tutor", "setting": "persona", "value": "You teach <biology> & more."}),
    ("bundle list", {}),
    ("bundle show", {"name": "tutor"}),
    ("bundle bind", {"name": "tutor", "where": "channel"}),
    ("bundle unbind", {"where": "channel"}),
    ("bundle delete", {"name": "tutor"}),
    ("access allow", {"need": "command", "subject": "everyone"}),
    ("access deny", {"need": "chat", "subject": BOB}),
    ("access show", {}),
    ("access clear", {"need": "chat", "subject": BOB}),
    ("access deny", {"need": "chat", "subject": "somebody"}),
)


@dataclass(frozen=True)
class Shown:
    """Who used a command and what only they saw, with ids made equal."""

    name: str
    text: str


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def database_of_slack(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'slack.db'}"
    await migrate(url)
    opened = await Database.open(url)
    yield opened
    await opened.close()


async def use_all_on_discord(discord: FakeDiscord, database: Database) -> list[Shown]:
    guild = discord.add_guild("Home")
    channel = discord.add_channel(guild, "general")
    role = discord.add_role(guild, "chiefs", permissions=["MANAGE_GUILD"])
    chief, bob = discord.join(guild, discord.add_user("Chief"), roles=[role]), discord.add_user("Bob")
    shown = []
    async with parley(FakeEngine(ANSWER), database, **on_discord(discord)):
        await discord.wait_for(lambda: discord.connected and discord.commands)
        for name, options in USED:
            given = {option: bob.mention if value == BOB else value for option, value in options.items()}
            used = await discord.use_command(channel, chief, name, **given)
            if BY_NAME[name].asks:
                await discord.wait_for(lambda: used.original and used.original.content == ANSWER)  # noqa: B023
                await all_closed(database)
                continue
            await discord.wait_for(lambda: any(said.content for said in used.messages))  # noqa: B023
            assert all(said.ephemeral for said in used.messages)
            text = "".join(said.content for said in used.messages)
            shown.append(Shown(name, without_ids(text, str(bob.id), str(channel.id))))
    return shown


async def use_all_on_slack(slack: FakeSlack, database: Database) -> list[Shown]:
    chief, bob = slack.add_user("chief", display_name="Chief", admin=True), slack.add_user("bob")
    channel = slack.add_channel("general")
    shown = []
    async with parley(FakeEngine(ANSWER), database, **on_slack(slack)):
        await slack.wait_until_connected()
        for name, options in USED:
            given = [options[option.name] for option in BY_NAME[name].options if option.name in options]
            typed = [f"<@{bob}|bob>" if value == BOB else escaped(value) for value in given]
            seen = len(slack.ephemerals)
            await slack.use_command("/parley", " ".join([name, *typed]), chief, channel)
            if BY_NAME[name].asks:
                await slack.wait_for(
                    lambda: any(said.text.endswith(ANSWER) for said in slack.answers(channel))
                )
                await all_closed(database)
                continue
            await slack.wait_for(lambda: len(slack.ephemerals) > seen)  # noqa: B023
            (ephemeral,) = slack.ephemerals[seen:]
            assert ephemeral.user == chief
            shown.append(Shown(name, without_ids(unescaped(ephemeral.text), bob, channel)))
    return shown


def without_ids(text: str, bob: str, channel: str) -> str:
    """And without what the clock says."""
    text = re.sub(r"It took .*", "It took a moment.", text)
    return text.replace(bob, "BOB").replace(channel, "CHANNEL")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_every_command_is_used() -> None:
    assert {name for name, _ in USED} == set(BY_NAME)


async def test_every_command_says_the_same_on_both_platforms(
    discord: FakeDiscord, slack: FakeSlack, database: Database, database_of_slack: Database
) -> None:
    on_the_one = await use_all_on_discord(discord, database)
    on_the_other = await use_all_on_slack(slack, database_of_slack)
    help_on_the_one, help_on_the_other = on_the_one.pop(0), on_the_other.pop(0)
    assert on_the_one == on_the_other
    for command in COMMANDS:
        described = f"{command.usage} - {command.about.lower()}"
        assert f"/{described}" in help_on_the_one.text
        assert f"/parley {described}" in help_on_the_other.text
