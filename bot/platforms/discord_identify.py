"""How long to wait before a login at Discord's gateway, which allows 1,000 a day and then resets the token."""

BETWEEN = 5.0
"""Seconds. Discord takes one login in that time."""
BY_HAND = 5
"""So many logins in a quarter of an hour are somebody who restarts the bot; more are a loop."""
MANY_A_DAY = 500
LONGEST = 900.0


def seconds_before_identify(recent: int, today: int) -> float:
    """`recent` logins began within the last 15 minutes, `today` within 24 hours.

    The first does not wait, the next few wait as long as Discord asks of everybody, and each one more waits twice as
    long as the one before. Half a day's budget leaves one login per quarter of an hour, so a loop stays below 600.
    """
    if today >= MANY_A_DAY:
        return LONGEST
    if recent == 0:
        return 0.0
    doublings = min(max(recent - BY_HAND, 0), 10)
    return min(BETWEEN * 2.0**doublings, LONGEST)
