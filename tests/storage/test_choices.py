"""What is chosen in the chat, as it is stored, on both databases."""

from storage.choices import (
    ChosenValue,
    StoredBundle,
    StoredRule,
    WorkspaceChoices,
    clear_choices,
    clear_rule,
    delete_bundle,
    find_or_add_workspace,
    read_choices,
    save_bundle,
    set_choice,
    set_rule,
)
from storage.database import Database, Session
from storage.tables import Account
from tests.storage.test_conversations import person


def workspace(tx: Session) -> int:
    return find_or_add_workspace(tx, "discord", "club")


def read(session: Session) -> WorkspaceChoices:
    return read_choices(session, "discord", "club")


async def test_an_unknown_workspace_has_chosen_nothing(database: Database) -> None:
    assert await database.read(read) == WorkspaceChoices()


async def test_the_newest_choice_holds_and_can_be_taken_back(database: Database) -> None:
    with database.transaction() as tx:
        here = workspace(tx)
        set_choice(tx, here, ("channel", "general"), "talk", "off", set_by=None)
        set_choice(tx, here, ("channel", "general"), "talk", "lively", set_by=None)
        set_choice(tx, here, ("channel", "other"), "talk", "off", set_by=None)
        assert workspace(tx) == here
    assert (await database.read(read)).choices == [
        ChosenValue("channel", "general", "talk", "lively"),
        ChosenValue("channel", "other", "talk", "off"),
    ]
    with database.transaction() as tx:
        assert clear_choices(tx, here, ("channel", "general"), ["talk", "wake"]) == 1
        assert clear_choices(tx, here, ("channel", "general"), ["talk"]) == 0
    assert [choice.scope_id for choice in (await database.read(read)).choices] == ["other"]


async def test_what_a_person_chose_goes_with_the_person(database: Database) -> None:
    with database.transaction() as tx:
        here, account = workspace(tx), person(tx)
        set_choice(tx, here, ("person", "7"), "seed", "1", set_by=account)
        set_choice(tx, here, ("workspace", ""), "seed", "2", set_by=account)
        save_bundle(tx, here, "mine", {"seed": "1"}, owner="7", account_id=account)
        tx.delete(tx.get_one(Account, account))
    left = await database.read(read)
    assert (left.choices, left.bundles) == ([ChosenValue("workspace", "", "seed", "2")], [])


async def test_a_bundle_that_is_deleted_is_bound_nowhere(database: Database) -> None:
    with database.transaction() as tx:
        here = workspace(tx)
        save_bundle(tx, here, "tutor", {"persona": "You teach."})
        save_bundle(tx, here, "tutor", {"persona": "You sing."})
        set_choice(tx, here, ("channel", "general"), "bundle", "tutor", set_by=None)
    assert (await database.read(read)).bundles == [StoredBundle("", "tutor", {"persona": "You sing."})]
    with database.transaction() as tx:
        assert delete_bundle(tx, here, "tutor")
        assert not delete_bundle(tx, here, "tutor")
    assert await database.read(read) == WorkspaceChoices([], [], [])


async def test_a_rule_replaces_the_one_before_for_the_same_subject(database: Database) -> None:
    with database.transaction() as tx:
        here = workspace(tx)
        set_rule(tx, here, StoredRule("chat", "role", "5", True), set_by=None)
        set_rule(tx, here, StoredRule("chat", "role", "5", False), set_by=None)
        set_rule(tx, here, StoredRule("chat", "everyone", "", True), set_by=None)
    assert (await database.read(read)).rules == [
        StoredRule("chat", "role", "5", False),
        StoredRule("chat", "everyone", "", True),
    ]
    with database.transaction() as tx:
        assert clear_rule(tx, here, "chat", "role", "5")
        assert not clear_rule(tx, here, "chat", "role", "5")
