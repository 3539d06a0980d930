"""Parley as `parley run` starts it, but with an engine that echoes. Started, and killed, by `benchmarks.delivery`.

Forty restarts in a minute would be slowed down, as a crash loop must be, so the wait before a login is left out.
"""

from benchmarks.delivery_echo import open_echo
from bot.app import serve
from bot.cli import console, prepare, run_to_end
from bot.platforms import discord_client

if __name__ == "__main__":
    setattr(discord_client, "seconds_before_identify", lambda recent, today: 0.0)  # noqa: B010
    run_to_end(serve(prepare(), console, open_engine=open_echo))
