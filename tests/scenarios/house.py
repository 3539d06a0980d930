"""Parley as it is wired for people, with the platforms that the settings name and an engine of the test's choice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bot.app import build_core, build_platforms, run_platforms
from bot.late_engine import LateEngine
from bot.settings import Settings
from model.protocol import Engine
from storage.database import Database
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.slack_server import FakeSlack


@asynccontextmanager
async def parley(engine: Engine, database: Database, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Serves until the block ends; then everything is let go of, as at the end of `parley run`."""
    chosen = Settings(_env_file=None, edit_seconds=0, burst_seconds=0, seed=1, **settings)  # type: ignore[call-arg]
    core = await build_core(chosen, engine, database)
    late = LateEngine(_at_once(engine))
    serving = asyncio.create_task(run_platforms(build_platforms(chosen, core), core.use_cases.delivery, late))
    try:
        yield serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _at_once(engine: Engine) -> Engine:
    return engine


def on_discord(discord: FakeDiscord) -> dict[str, Any]:
    return {
        "discord_token": discord.token,
        "discord_api_url": discord.api_url,
        "discord_gateway_url": discord.gateway_url,
        "discord_cdn_url": discord.cdn_url,
    }


def on_slack(slack: FakeSlack) -> dict[str, Any]:
    return {
        "slack_bot_token": slack.bot_token,
        "slack_app_token": slack.app_token,
        "slack_api_url": slack.api_url,
    }
