"""Wires everything together: settings to database, engine, core and platforms. Imported by the commands alone."""

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from rich.console import Console

from bot.actions import Actions
from bot.answer import Answerer
from bot.attachments.reader import AttachmentReader
from bot.chat import Fetch, Platform, PlatformName
from bot.choices.book import Books
from bot.commands.run import Commands
from bot.delivery.answering import Answering
from bot.delivery.desk import Delivery
from bot.delivery.worker import Worker
from bot.late_engine import LateEngine, say_what_serves
from bot.listening import Listener
from bot.platforms.terminal import TerminalPlatform, read_terminal_line
from bot.pointing import Pointing
from bot.respond import Responder
from bot.settings import Settings
from bot.summary import Summariser
from bot.use_cases import UseCases
from bot.writings import Writings
from model.protocol import Engine
from storage.database import Database, migrate
from storage.inbox import release_all_claims

OpenEngine = Callable[[Settings, Console], Awaitable[Engine]]


@dataclass(frozen=True, slots=True)
class Core:
    """What serves all platforms, and the terminal's way to answer at once."""

    use_cases: UseCases
    responder: Responder
    database: Database
    holder: str
    """What this process is called in leases."""


async def serve(
    settings: Settings,
    console: Console,
    *,
    terminal: bool = False,
    restored: bool = False,
    open_engine: OpenEngine | None = None,
) -> None:
    """Talk on every platform that has a token, or in the terminal when none has or `terminal` asks for it.

    `restored`: the database comes from a backup, so look at the platforms before answering what it holds as open.
    """
    gc.disable()  # what the start makes stays: to look for garbage in it takes a quarter of the time
    try:
        async with open_core(settings, console, open_engine or load_engine, restored=restored) as (
            core,
            engine,
        ):
            platforms = [] if terminal else build_platforms(settings, core)
            if not platforms:
                await engine.loaded()
                platforms = [build_terminal(console, core)]
            gc.freeze()
            gc.enable()
            console.print(f"[dim]{_greeting(platforms)}[/]")
            await run_platforms(platforms, core.use_cases.delivery, engine)
    finally:
        gc.enable()


@asynccontextmanager
async def open_core(
    settings: Settings, console: Console, open_engine: OpenEngine, *, restored: bool = False
) -> AsyncIterator[tuple[Core, LateEngine]]:
    """Database, engine (still loading) and use cases; closed in the opposite order."""
    url = settings.database_url.get_secret_value()
    await migrate(url)
    database = await Database.open(url)
    try:
        engine = LateEngine(open_engine(settings, console))
        try:
            yield await build_core(settings, engine, database, restored=restored), engine
        finally:
            await engine.close()
    finally:
        await database.close()


async def build_core(
    settings: Settings, engine: Engine, database: Database, *, restored: bool = False
) -> Core:
    books = Books(database, settings)
    answerer = Answerer(
        engine,
        database,
        books,
        reply_seconds=settings.reply_seconds,
        attachments=AttachmentReader(fetches_of(settings)),
        summariser=Summariser(engine, database, settings.summaries),
    )
    writings = Writings()
    commands = Commands(engine, database, books, writings)
    answering = Answering(
        database,
        answerer,
        commands.run,
        books,
        writings,
        edit_seconds=settings.edit_seconds,
        answer_window=timedelta(seconds=settings.answer_window_seconds),
        burst_seconds=settings.burst_seconds,
    )
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    delivery = await build_delivery(settings, answering, database, holder, restored=restored)
    actions = Actions(database, books, writings, delivery)
    use_cases = UseCases(
        delivery=delivery,
        run_command=commands.run,
        complete=commands.complete,
        actions=actions,
        pointing=Pointing(database, books, actions),
        listen=Listener(database, books).hear,
        prepare=answerer.prepare,
        status=partial(say_what_serves, engine),
    )
    return Core(use_cases, Responder(answerer, database), database, holder)


async def build_delivery(
    settings: Settings, answering: Answering, database: Database, holder: str, *, restored: bool
) -> Delivery:
    if database.exclusive:
        await database.write(release_all_claims)  # of a process that ended without a word
    worker = Worker(
        database,
        answering,
        owner=holder,
        lease_seconds=settings.lease_seconds,
        parallel=settings.parallel_replies + settings.queue_length,
        restored=restored,
    )
    return Delivery(
        database, worker, scan_seconds=settings.scan_seconds, burst_seconds=settings.burst_seconds
    )


async def load_engine(settings: Settings, console: Console) -> Engine:
    with console.status(f"Loading {settings.model} ..."):
        engine = await asyncio.to_thread(_load_engine, settings)
    health = await engine.health()
    console.print(
        f"[dim]{health.model} with {health.parameters / 1e6:,.0f}M parameters on {health.device} "
        f"({health.dtype}), {health.context_tokens:,} tokens of context[/]"
    )
    return engine


def _load_engine(settings: Settings) -> Engine:
    """Blocking. What the model needs is imported here: for one in torch that takes seconds."""
    from model.opening import open_engine

    return open_engine(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        revision=settings.model_revision,
        context_tokens=settings.context_tokens,
        max_running=settings.parallel_replies,
        max_waiting=settings.queue_length,
    )


def build_platforms(settings: Settings, core: Core) -> list[Platform]:
    """The platforms that have their tokens. Their libraries take half a second to import: only their users pay."""
    platforms: list[Platform] = []
    if settings.discord_token is not None:
        from bot.platforms.discord_client import DiscordPlatform

        discord = DiscordPlatform(
            token=settings.discord_token.get_secret_value(),
            use_cases=core.use_cases,
            database=core.database,
            holder=core.holder,
            lease_seconds=settings.lease_seconds,
            api_url=settings.discord_api_url,
            gateway_url=settings.discord_gateway_url,
            cdn_url=settings.discord_cdn_url,
            message_content=settings.discord_message_content,
            commands_guild=settings.discord_commands_guild,
        )
        platforms.append(discord)
    if settings.slack_bot_token is not None and settings.slack_app_token is not None:
        from bot.platforms.slack_app import SlackPlatform

        slack = SlackPlatform(
            bot_token=settings.slack_bot_token.get_secret_value(),
            app_token=settings.slack_app_token.get_secret_value(),
            use_cases=core.use_cases,
            api_url=settings.slack_api_url,
        )
        platforms.append(slack)
    return platforms


def fetches_of(settings: Settings) -> dict[PlatformName, Fetch]:
    """How the files of each platform are got."""
    fetches: dict[PlatformName, Fetch] = {}
    if settings.discord_token is not None:
        from bot.platforms.discord_files import fetch_from_discord

        fetches["discord"] = fetch_from_discord(settings.discord_cdn_url)
    if settings.slack_bot_token is not None:
        from bot.platforms.slack_files import fetch_from_slack

        token = settings.slack_bot_token.get_secret_value()
        fetches["slack"] = fetch_from_slack(token, settings.slack_api_url)
    return fetches


def build_terminal(console: Console, core: Core) -> TerminalPlatform:
    return TerminalPlatform(
        respond=core.responder.respond,
        run_command=core.use_cases.run_command,
        console=console,
        read_line=read_terminal_line,
    )


async def run_platforms(platforms: Sequence[Platform], delivery: Delivery, engine: LateEngine) -> None:
    """Serve all of them until each has ended, one fails, or SIGTERM or SIGINT asks for an end.

    Delivery ends first: what is being sent needs its platform.
    """
    delivering = asyncio.create_task(delivery.run(), name="delivery")
    loading = asyncio.create_task(engine.loaded(), name="loading")
    serving = [asyncio.create_task(platform.run(), name=platform.name) for platform in platforms]
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError):  # Windows, or outside the main thread
            loop.add_signal_handler(number, asked.set)
    asking = asyncio.create_task(asked.wait())
    try:
        await _first_end(serving, loading, delivering, asking)
    finally:
        asking.cancel()
        await _end(delivering)
        for task in serving:
            task.cancel()
        outcomes = await asyncio.gather(*serving, return_exceptions=True)
    for outcome in (*outcomes, *await asyncio.gather(*_failed(loading, delivering), return_exceptions=True)):
        if isinstance(outcome, Exception):
            raise outcome


async def _first_end(
    serving: Sequence[asyncio.Task[None]],
    loading: asyncio.Task[Engine],
    delivering: asyncio.Task[None],
    asking: asyncio.Task[bool],
) -> None:
    """Until every platform has ended, something has failed, or somebody asks for an end."""
    failing: set[asyncio.Task[Any]] = {*serving, loading, delivering}
    while not asking.done() and not all(task.done() for task in serving):
        done, _ = await asyncio.wait({asking, *failing}, return_when=asyncio.FIRST_COMPLETED)
        if any(not task.cancelled() and task.exception() for task in done & failing):
            return
        failing -= done


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _failed(*tasks: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
    return [task for task in tasks if task.done() and not task.cancelled() and task.exception()]


def _greeting(platforms: Sequence[Platform]) -> str:
    names = [platform.name for platform in platforms]
    if names == ["terminal"]:
        return "Talk with Parley here. /help shows the commands, /quit leaves."
    return f"Serving {' and '.join(names)}. Ctrl-C stops."
