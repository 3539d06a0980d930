"""Who may do what."""

import pytest

from bot.permissions import Need, Permission, Rule, Standing, permit, refusal

ADA = Standing(person="ada", channels=("general", "thread"), roles=("friends", "loud"))


def test_without_a_rule_everybody_may_chat_and_use_commands_and_nobody_else_administers() -> None:
    assert [permit(need, ADA, ()).allowed for need in ("chat", "command", "moderate", "administer")] == [
        True,
        True,
        False,
        False,
    ]


def test_whoever_manages_the_workspace_may_do_everything_whatever_the_rules_say() -> None:
    manager = Standing(person="ada", channels=(), manages=True)

    assert permit("administer", manager, [Rule("administer", "everyone", "", False)]).allowed
    assert permit("chat", manager, [Rule("chat", "person", "ada", False)]).allowed


@pytest.mark.parametrize("need", ["moderate", "chat"])
def test_whoever_moderates_may_moderate(need: Need) -> None:
    assert permit(need, Standing(person="ada", channels=(), moderates=True), ()).allowed


def test_the_narrowest_rule_decides() -> None:
    rules = [
        Rule("chat", "everyone", "", False),
        Rule("chat", "channel", "general", True),
        Rule("chat", "role", "loud", False),
    ]

    assert not permit("chat", ADA, rules).allowed
    assert permit("chat", ADA, [*rules, Rule("chat", "person", "ada", True)]).allowed
    assert permit("chat", ADA, rules[:2]).allowed
    assert not permit("chat", ADA, rules[:1]).allowed


def test_of_two_roles_the_denial_decides() -> None:
    rules = [Rule("chat", "role", "friends", True), Rule("chat", "role", "loud", False)]

    assert permit("chat", ADA, rules) == Permission(False, "there is a rule for a role")


def test_a_rule_for_others_changes_nothing() -> None:
    others = [
        Rule("chat", "person", "bob", False),
        Rule("chat", "role", "strangers", False),
        Rule("chat", "channel", "elsewhere", False),
        Rule("command", "everyone", "", False),
    ]

    assert permit("chat", ADA, others).allowed


def test_a_refusal_says_why() -> None:
    permission = permit("chat", ADA, [Rule("chat", "everyone", "", False)])

    assert refusal("chat", permission) == "You may not talk with me here: there is a rule for everyone."
