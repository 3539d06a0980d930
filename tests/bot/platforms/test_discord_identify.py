"""How often Parley logs in at Discord: as often as a person likes, never as often as a loop would."""

import pytest

from bot.platforms.discord_identify import LONGEST, seconds_before_identify

QUARTER, DAY = 900.0, 86_400.0


def test_a_start_does_not_wait() -> None:
    assert seconds_before_identify(recent=0, today=0) == 0
    assert seconds_before_identify(recent=0, today=499) == 0


@pytest.mark.parametrize("recent", [1, 2, 5])
def test_a_restart_by_hand_waits_as_long_as_discord_asks_of_everybody(recent: int) -> None:
    assert seconds_before_identify(recent, today=recent) == 5


def test_each_login_of_a_loop_waits_twice_as_long_up_to_a_quarter_of_an_hour() -> None:
    waits = [seconds_before_identify(recent, today=recent) for recent in (6, 7, 8, 13, 14, 400)]
    assert waits == [10, 20, 40, LONGEST, LONGEST, LONGEST]


def test_half_a_days_budget_leaves_a_login_per_quarter_of_an_hour() -> None:
    assert seconds_before_identify(recent=0, today=500) == LONGEST


@pytest.mark.parametrize("seconds_until_the_crash", [0.0, 30.0, 61.0, 120.0, 240.0])
def test_a_crash_loop_stays_far_below_a_days_thousand(seconds_until_the_crash: float) -> None:
    now, logins, most = 0.0, list[float](), 0
    while now < 4 * DAY:
        recent = sum(now - login <= QUARTER for login in logins)
        logins = [login for login in logins if now - login <= DAY]
        now += seconds_before_identify(recent, len(logins))
        logins.append(now)
        most = max(most, sum(now - login <= DAY for login in logins))
        now += seconds_until_the_crash
    assert most < 600
