"""What many bots do: answer an event when it comes, and remember nothing. The benchmark must find it at fault."""

import asyncio
import os
import sys
from typing import Any

import discord
import yarl
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp, AsyncSay
from slack_sdk.web.async_client import AsyncWebClient

from benchmarks.delivery_echo import SLOWEST, compose, new_generation, number_in


def answer_to(text: str, limit: int) -> list[str]:
    """As messages of whole lines, each within `limit`."""
    pieces = [""]
    for line in compose(number_in(text) or 0, new_generation()).splitlines(keepends=True):
        if len(pieces[-1]) + len(line) > limit:
            pieces.append("")
        pieces[-1] += line
    return pieces


class NaiveDiscord(discord.Client):
    async def on_message(self, message: discord.Message) -> None:
        called = message.guild is None or self.user in message.mentions
        if called and not message.author.bot:
            await asyncio.sleep(SLOWEST / 2)
            for piece in answer_to(message.content, 2000):
                await message.channel.send(piece)


def run_discord() -> None:
    discord.http.Route.BASE = os.environ["DISCORD_API_URL"]
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["DISCORD_GATEWAY_URL"])
    intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)
    NaiveDiscord(intents=intents).run(os.environ["DISCORD_TOKEN"])


async def run_slack() -> None:
    client = AsyncWebClient(os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API_URL"])
    app = AsyncApp(client=client)

    async def reply(event: dict[str, Any], say: AsyncSay) -> None:
        alone = event.get("channel_type") == "im"
        if event["type"] == "app_mention" or (alone and "bot_id" not in event):
            await asyncio.sleep(SLOWEST / 2)
            for piece in answer_to(event.get("text", ""), 3500):
                await say(piece, thread_ts=None if alone else event.get("thread_ts", event["ts"]))

    app.event("app_mention")(reply)
    app.event("message")(reply)
    await AsyncSocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start_async()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    if sys.argv[1] == "discord":
        run_discord()
    else:
        asyncio.run(run_slack())
