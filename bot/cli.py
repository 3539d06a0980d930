"""The `parley` command: thin, one use case a subcommand. Reads the settings; turns every error into a sentence."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from bot.cli_pretrain import pretrain
from bot.errors import BotError, PlatformRefused, SettingsError
from bot.logs import configure_logging
from bot.settings import Settings, load_settings
from model.errors import ModelError, ModelNotFound
from storage.errors import StorageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
Result = TypeVar("Result")

NOT_AGAIN = 78
"""The exit code for a setting or token that only a person can mend (sysexits' EX_CONFIG): starting again is no use."""


@app.callback()
def parley() -> None:
    """A chatbot that a community runs on its own machine."""
    # Before torch is imported, which reads it once: threads that wait for the next operation spin for some tens of
    # microseconds and then sleep. For longer, they would be in the way of everything else; at once, a step takes long.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # The same for numpy, which computes small models: their products are too short for a second thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@app.command()
def run(
    restored: Annotated[
        bool, typer.Option(help="after a backup was restored: look what was answered since it was made")
    ] = False,
) -> None:
    """Serve Discord and Slack when their tokens are set, else talk in this terminal."""
    from bot.app import serve  # takes its time to import: only the commands that need it pay

    settings = prepare()
    _say_what_is_missing(settings)
    run_to_end(serve(settings, console, restored=restored))


@app.command()
def chat() -> None:
    """Talk in this terminal, whatever tokens are set."""
    from bot.app import serve

    run_to_end(serve(prepare(quiet=True), console, terminal=True))


@app.command()
def migrate() -> None:
    """Bring the database to this version's tables."""
    from storage.database import migrate as migrate_database

    run_to_end(migrate_database(prepare().database_url.get_secret_value()))
    console.print("The database is up to date.")


@app.command()
def doctor() -> None:
    """Say what this machine has, which models fit, and what is set up."""
    from bot.doctor import diagnose

    if not run_to_end(diagnose(prepare(quiet=True), console)):
        raise typer.Exit(1)


@app.command()
def manifest() -> None:
    """Print the manifest from which a Slack app is made."""
    from bot.platforms.slack_manifest import write_manifest  # its library takes half a second to import

    print(write_manifest(), end="")


app.command()(pretrain)


def prepare(*, quiet: bool = False) -> Settings:
    """Settings and logging, as every command begins. A terminal chat is quiet: it shows the sentences, not the log."""
    try:
        settings = load_settings()
    except BotError as error:
        raise _exit_with(error) from None
    quiet = quiet or not (settings.discord_token or settings.slack_bot_token)
    level = "error" if quiet and settings.log_level == "info" else settings.log_level
    configure_logging(level, settings.secrets())
    return settings


def run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except (BotError, ModelError, StorageError) as error:
        raise _exit_with(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _exit_with(error: Exception) -> typer.Exit:
    Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, ModelNotFound):
        print(
            "To talk with the small model that comes with Parley meanwhile: PARLEY_MODEL=starter",
            file=sys.stderr,
        )
    return typer.Exit(NOT_AGAIN if isinstance(error, SettingsError | PlatformRefused) else 1)


def _say_what_is_missing(settings: Settings) -> None:
    if (settings.slack_bot_token is None) != (settings.slack_app_token is None):
        missing = "SLACK_APP_TOKEN" if settings.slack_app_token is None else "SLACK_BOT_TOKEN"
        console.print(
            f"Slack needs two tokens, and {missing} is not set: Slack is not served.", style="yellow"
        )
