"""Wires everything together: settings to database, engine, core and platforms. Imported by the commands alone."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from rich.console import Console

from bot.chat import Platform
from bot.commands import Commands
from bot.platforms.terminal import TerminalPlatform, read_terminal_line
from bot.respond import Responder
from bot.settings import Settings
from model.protocol import Engine
from model.request import SamplingParams
from storage.database import Database, migrate

SAMPLING_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Core:
    """The use cases that the platforms hand to."""

    responder: Responder
    commands: Commands


async def serve(settings: Settings, console: Console, *, terminal: bool = False) -> None:
    """Talk on every platform that has a token, or in the terminal when none has or `terminal` asks for it."""
    gc.disable()  # what the start makes stays: to look for garbage in it takes a quarter of the time
    try:
        async with open_core(settings, console) as core:
            platforms = [] if terminal else build_platforms(settings, core)
            platforms = platforms or [build_terminal(console, core)]
            gc.freeze()
            gc.enable()
            console.print(f"[dim]{_greeting(platforms)}[/]")
            await run_platforms(platforms)
    finally:
        gc.enable()


@asynccontextmanager
async def open_core(settings: Settings, console: Console) -> AsyncIterator[Core]:
    """Database, engine and use cases; closed in the opposite order."""
    url = settings.database_url.get_secret_value()
    await migrate(url)
    database = await Database.open(url)
    try:
        engine = await open_engine(settings, console)
        try:
            yield await build_core(settings, engine, database)
        finally:
            await engine.close()
    finally:
        await database.close()


async def build_core(settings: Settings, engine: Engine, database: Database) -> Core:
    health = await engine.health()
    commands = Commands(engine, database)
    responder = Responder(
        engine,
        database,
        persona=settings.persona,
        sampling=build_sampling(settings, dict(health.sampling_defaults)),
        reply_seconds=settings.reply_seconds,
        run_command=commands.run,
    )
    return Core(responder, commands)


async def open_engine(settings: Settings, console: Console) -> Engine:
    with console.status(f"Loading {settings.model} ..."):
        engine = await asyncio.to_thread(load_engine, settings)
    health = await engine.health()
    console.print(
        f"[dim]{health.model} with {health.parameters / 1e6:,.0f}M parameters on {health.device} "
        f"({health.dtype}), {health.context_tokens:,} tokens of context[/]"
    )
    return engine


def load_engine(settings: Settings) -> Engine:
    """Blocking. Torch takes seconds to import: a fault that is found before is told at once."""
    from model.engine.local import LocalEngine
    from model.loading import load_model

    loaded = load_model(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        revision=settings.model_revision,
    )
    return LocalEngine(
        loaded,
        context_tokens=settings.context_tokens,
        max_running=settings.parallel_replies,
        max_waiting=settings.queue_length,
    )


def build_sampling(settings: Settings, recommended: Mapping[str, float]) -> SamplingParams:
    """The settings, then what the model recommends, then the defaults of `SamplingParams`."""
    chosen = {name: getattr(settings, name) for name in SAMPLING_SETTINGS}
    given = {name: value for name, value in chosen.items() if value is not None}
    return SamplingParams.from_mapping({**recommended, **given})


def build_platforms(settings: Settings, core: Core) -> list[Platform]:
    """The platforms that have their tokens. Their libraries take half a second to import: only their users pay."""
    platforms: list[Platform] = []
    if settings.discord_token is not None:
        from bot.platforms.discord_client import DiscordPlatform

        discord = DiscordPlatform(
            token=settings.discord_token.get_secret_value(),
            respond=core.responder.respond,
            run_command=core.commands.run,
            prepare=core.responder.prepare,
            edit_seconds=settings.edit_seconds,
            api_url=settings.discord_api_url,
            gateway_url=settings.discord_gateway_url,
            cdn_url=settings.discord_cdn_url,
            message_content=settings.discord_message_content,
        )
        platforms.append(discord)
    if settings.slack_bot_token is not None and settings.slack_app_token is not None:
        from bot.platforms.slack_app import SlackPlatform

        slack = SlackPlatform(
            bot_token=settings.slack_bot_token.get_secret_value(),
            app_token=settings.slack_app_token.get_secret_value(),
            respond=core.responder.respond,
            run_command=core.commands.run,
            edit_seconds=settings.edit_seconds,
            api_url=settings.slack_api_url,
        )
        platforms.append(slack)
    return platforms


def build_terminal(console: Console, core: Core) -> TerminalPlatform:
    return TerminalPlatform(
        respond=core.responder.respond,
        run_command=core.commands.run,
        console=console,
        read_line=read_terminal_line,
    )


async def run_platforms(platforms: Sequence[Platform]) -> None:
    """Serve all of them until each has ended, one fails, or SIGTERM or SIGINT asks for an end."""
    serving = [asyncio.create_task(platform.run(), name=platform.name) for platform in platforms]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError):  # Windows, or outside the main thread
            loop.add_signal_handler(number, lambda: [task.cancel() for task in serving])
    try:
        await asyncio.wait(serving, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in serving:
            task.cancel()
        outcomes = await asyncio.gather(*serving, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def _greeting(platforms: Sequence[Platform]) -> str:
    names = [platform.name for platform in platforms]
    if names == ["terminal"]:
        return "Talk with Parley here. /help shows the commands, /quit leaves."
    return f"Serving {' and '.join(names)}. Ctrl-C stops."
