"""Choosing by commands: what is said, what holds afterwards, and who may."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from bot.chat import Author, CommandCall, ConversationKey
from bot.commands.run import Commands
from bot.writings import Writings
from storage.database import Database
from tests.bot.conversation import books
from tests.fakes.engine import FakeEngine

CHANNEL = ConversationKey("discord", "club", "general")
ADA = Author("3", "Ada", manages=True)
BOB = Author("4", "Bob", roles=("friends",))


@dataclass(frozen=True)
class Desk:
    """Says commands and returns what they answer."""

    commands: Commands

    async def say(
        self,
        name: str,
        author: Author = ADA,
        place: ConversationKey = CHANNEL,
        *,
        private: bool = False,
        **options: str,
    ) -> str:
        given = {key.strip("_"): value for key, value in options.items()}
        return await self.commands.run(CommandCall(name, place, author, private, given, category="top"))


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    yield Desk(Commands(FakeEngine(), database, books(database), Writings()))


async def test_a_person_chooses_for_themselves_and_nobody_else_is_touched(desk: Desk) -> None:
    assert (
        await desk.say("sampling set", BOB, setting="temperature", value="0.3")
        == "temperature is 0.3 now, for you."
    )

    assert "temperature: 0.3 (you)" in await desk.say("sampling show", BOB)
    assert "temperature: 0.3" not in await desk.say("sampling show", ADA)


async def test_only_who_manages_chooses_for_others(desk: Desk) -> None:
    refused = await desk.say("sampling set", BOB, setting="temperature", value="0.3", whom="channel")
    assert refused.startswith("For others you may not choose this: ")

    assert await desk.say("sampling set", setting="temperature", value="0.3", whom="channel") == (
        "temperature is 0.3 now, for this channel."
    )
    assert "temperature: 0.3 (this channel)" in await desk.say("sampling show", BOB)
    elsewhere = replace(CHANNEL, channel="other")
    assert "temperature: 0.3" not in await desk.say("sampling show", BOB, elsewhere)


async def test_a_limit_is_told_before_and_kept_afterwards(desk: Desk) -> None:
    await desk.say("sampling set", BOB, setting="temperature", value="1.5")
    await desk.say("settings set", setting="temperature_limit", value="0..1", where="workspace")

    assert "temperature: 1 (the limit 0..1 of this workspace; you chose 1.5)" in await desk.say(
        "sampling show", BOB
    )
    assert "1.2 is outside that" in await desk.say("sampling set", BOB, setting="temperature", value="1.2")


async def test_presets_are_taken_saved_and_taken_back(desk: Desk) -> None:
    await desk.say("sampling preset", BOB, name_="precise")
    assert "top_p: 0.9 (you)" in await desk.say("sampling show", BOB)

    assert (await desk.say("sampling save", BOB, name_="mine")).startswith("Saved as mine: ")
    assert "Nothing is chosen for you any more." in await desk.say("sampling reset", BOB)
    assert "top_p: 0.9 (you)" not in await desk.say("sampling show", BOB)
    await desk.say("sampling preset", BOB, name_="mine")
    assert "top_p: 0.9 (you)" in await desk.say("sampling show", BOB)
    assert await desk.say("sampling preset", ADA, name_="mine") == (
        "There is no preset 'mine'; there are precise, balanced, creative."
    )


async def test_a_bundle_holds_where_it_is_bound_and_is_inherited(desk: Desk) -> None:
    await desk.say("bundle set", name_="tutor", setting="persona", value="You teach.")
    await desk.say("bundle set", name_="tutor", setting="temperature", value="0.2")
    assert await desk.say("bundle bind", name_="tutor", where="category") == (
        "The bundle tutor holds for this category now."
    )

    shown = await desk.say("settings show", BOB, replace(CHANNEL, thread="t"))
    assert "persona: You teach. (the bundle tutor, for this category)" in shown
    await desk.say("settings set", setting="persona", value="You sing.", where="channel")
    shown = await desk.say("settings show", BOB, replace(CHANNEL, thread="t"))
    assert "persona: You sing. (this channel)" in shown
    assert "temperature: 0.2 (the bundle tutor, for this category)" in shown

    assert await desk.say("bundle list") == "Bundles: tutor."
    await desk.say("bundle delete", name_="tutor")
    assert "tutor" not in await desk.say("settings show", BOB)
    assert "There is no bundle 'tutor' here; there are: none yet." in await desk.say(
        "bundle show", name_="tutor"
    )


async def test_settings_are_for_those_who_manage(desk: Desk) -> None:
    assert await desk.say("settings set", BOB, setting="talk", value="off") == (
        "You may not change my settings: only those may who manage this workspace or were allowed to."
    )
    await desk.say("access allow", need="administer", subject="role friends")
    assert (
        await desk.say("settings set", BOB, setting="talk", value="off")
        == "talk is off now, for this channel."
    )
    assert "talk: off (this channel)" in await desk.say("settings show", BOB)
    assert "talk: threads (Parley's default)" in await desk.say("settings clear", setting="talk")


async def test_who_is_denied_gets_a_sentence(desk: Desk) -> None:
    await desk.say("access deny", need="command", subject="person 4")

    assert await desk.say("help", BOB) == "You may not use my commands here: there is a rule for you."
    assert "command: no" not in await desk.say("access show", ADA)
    await desk.say("access clear", need="command", subject="person 4")
    assert (await desk.say("help", BOB)).startswith("I am Parley")


async def test_in_a_direct_message_one_chooses_for_that_conversation_alone(desk: Desk) -> None:
    alone = ConversationKey("discord", "dm", "d4")

    assert await desk.say("settings set", BOB, alone, private=True, setting="persona", value="You sing.") == (
        "persona is You sing. now, for this channel."
    )
    assert await desk.say(
        "settings set", BOB, alone, private=True, setting="persona", value="You sing.", where="workspace"
    ) == ("From here you can choose for this conversation alone.")
    assert "You sing." not in await desk.say("settings show", ADA, replace(alone, channel="d3"), private=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bundle set", {"name": "tutor", "setting": "persona", "value": "You obey Bob."}),
        ("bundle delete", {"name": "tutor"}),
        ("access allow", {"need": "administer", "subject": "everyone"}),
        ("access clear", {"need": "chat", "subject": "everyone"}),
        ("sampling set", {"setting": "temperature", "value": "2", "whom": "workspace"}),
    ],
)
async def test_from_a_direct_message_nobody_changes_what_belongs_to_the_workspace(
    desk: Desk, name: str, options: dict[str, str]
) -> None:
    alone = ConversationKey("slack", "team", "d4")
    await desk.say(
        "bundle set", ADA, replace(alone, channel="general"), name_="tutor", setting="persona", value="Hm."
    )
    call = CommandCall(name, alone, BOB, private=True, options=options)
    assert await desk.commands.run(call) == "From here you can choose for this conversation alone."
    shown = await desk.say("bundle show", ADA, replace(alone, channel="general"), name_="tutor")
    assert shown == "tutor holds:\npersona: Hm."


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "sampling set",
            {"setting": "warmth", "value": "1"},
            "'warmth' is no sampling setting; there are temperature",
        ),
        (
            "sampling set",
            {"setting": "top_p", "value": "2"},
            "top_p must be a number from 0.01 to 1, and not '2'.",
        ),
        (
            "sampling preset",
            {"name": "wild"},
            "There is no preset 'wild'; there are precise, balanced, creative.",
        ),
        ("sampling save", {"name": "x"}, "You have chosen nothing yet that I could save."),
        ("sampling save", {"name": "precise"}, "precise is a preset of Parley's own"),
        ("settings set", {"setting": "talk", "value": "loud"}, "talk must be one of off"),
        ("settings set", {"setting": "talk", "value": "off", "where": "thread"}, "This is in no thread."),
        ("settings clear", {"setting": "mood"}, "There is no setting 'mood'"),
        (
            "bundle set",
            {"name": "n" * 41, "setting": "talk", "value": "off"},
            "A name has 1 to 40 characters.",
        ),
        ("access allow", {"need": "chat", "subject": "my friends"}, "I do not know whom 'my friends' means."),
        ("dance", {}, "There is no command dance. Try help."),
    ],
)
async def test_what_is_wrong_is_said_with_its_value(
    desk: Desk, name: str, options: dict[str, str], words: str
) -> None:
    assert words in await desk.commands.run(CommandCall(name, CHANNEL, ADA, options=options))
