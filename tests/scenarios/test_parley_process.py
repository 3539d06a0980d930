"""`parley` as a process of its own: piped input, both platforms at once, a clean end, sentences for mistakes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage.database import Database
from tests.bot.conversation import stored_messages
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.slack_server import FakeSlack
from tests.model.tiny_models import save_tiny


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-chat", "llama")


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-gpt2", "gpt2")


@pytest.fixture
def environment(tmp_path: Path, tiny_chat_model: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "SLACK_"))}
    return kept | {
        "PARLEY_MODEL": str(tiny_chat_model),
        "PARLEY_DATABASE_URL": f"sqlite:///{tmp_path / 'parley.db'}",
        "PARLEY_MAX_TOKENS": "12",
        "PARLEY_SEED": "1",
        "PARLEY_EDIT_SECONDS": "0",
        "PARLEY_BURST_SECONDS": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@asynccontextmanager
async def parley(
    command: str, environment: Mapping[str, str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", command),
        cwd=folder,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(
    command: str, environment: Mapping[str, str], folder: Path, typed: str = ""
) -> tuple[int, str, str]:
    async with parley(command, environment, folder) as process:
        out, err = await process.communicate(typed.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def open_database(environment: Mapping[str, str]) -> Database:
    return await Database.open(environment["PARLEY_DATABASE_URL"])


async def test_piped_lines_are_answered_and_the_process_ends_well(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code, out, err = await run("run", environment, tmp_path, "hello\nwhat can you do?\n/help\n/quit\n")
    assert (code, err) == (0, "")
    assert out.count("parley> ") == 2
    assert "/reset - " in out
    database = await open_database(environment)
    stored = await stored_messages(database)
    await database.close()
    assert [said.text for said in stored if said.role == "user"] == ["hello", "what can you do?"]


async def test_a_base_model_without_a_chat_template_takes_chinese_on_the_same_path(
    environment: dict[str, str], tmp_path: Path, tiny_base_model: Path
) -> None:
    question = "我喜欢在晴朗的日子里骑自行车"
    code, out, err = await run(
        "chat", environment | {"PARLEY_MODEL": str(tiny_base_model)}, tmp_path, f"{question}\n"
    )
    assert (code, err) == (0, "")
    assert "parley> " in out
    database = await open_database(environment)
    stored = await stored_messages(database)
    await database.close()
    assert stored[0].text == question
    assert stored[1].text.split()[0] in out


async def test_one_process_serves_both_platforms_and_sigterm_ends_it_well(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with FakeDiscord() as discord, FakeSlack() as slack:
        channel = discord.add_channel(discord.add_guild("Home"), "general")
        anna, ada = discord.add_user("Anna"), slack.add_user("ada")
        dm = slack.open_dm(ada)
        tokens = {
            "DISCORD_TOKEN": discord.token,
            "DISCORD_API_URL": discord.api_url,
            "DISCORD_GATEWAY_URL": discord.gateway_url,
            "DISCORD_CDN_URL": discord.cdn_url,
            "SLACK_BOT_TOKEN": slack.bot_token,
            "SLACK_APP_TOKEN": slack.app_token,
            "SLACK_API_URL": slack.api_url,
        }
        async with parley("run", environment | tokens, tmp_path) as process:
            await discord.wait_for(lambda: discord.connected, seconds=60)
            await slack.wait_until_connected()
            await discord.say(channel, anna, f"{discord.bot.mention} hello")
            await slack.say(dm, ada, "hello")
            await discord.wait_for(lambda: discord.answers(channel))
            await slack.wait_for(lambda: bool(slack.answers(dm)))
            process.send_signal(signal.SIGTERM)
            out, err = await process.communicate()
    assert process.returncode == 0
    assert "Serving discord and slack." in out.decode()
    for secret in (discord.token, slack.bot_token, slack.app_token):
        assert secret not in out.decode() + err.decode()
    database = await open_database(environment)
    stored = await stored_messages(database)
    await database.close()
    # What was being written at the end is left for the next start.
    assert [said.role for said in stored if said.role == "user"] == ["user", "user"]


@pytest.mark.parametrize(
    ("changed", "sentence", "ends_with"),
    [
        (
            {"PARLEY_TEMPRATURE": "1"},
            "PARLEY_TEMPRATURE is no setting of Parley; did you mean PARLEY_TEMPERATURE?",
            78,
        ),
        ({"PARLEY_MODEL": "./no-such-folder"}, "There is no folder ./no-such-folder.", 1),
        ({"PARLEY_DATABASE_URL": "mysql://host/db"}, "SQLite or PostgreSQL, not in mysql", 1),
        ({"PARLEY_DEVICE": "cuda:9"}, "There is no device 'cuda:9' here; there is cpu.", 1),
    ],
)
async def test_a_mistake_in_the_settings_ends_with_a_sentence_and_no_traceback(
    environment: dict[str, str], tmp_path: Path, changed: dict[str, str], sentence: str, ends_with: int
) -> None:
    code, _, err = await run("run", environment | changed, tmp_path)
    assert code == ends_with
    assert sentence in err
    assert "Traceback" not in err


async def test_a_model_that_is_missing_is_never_swapped_but_the_starter_is_offered(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code, out, err = await run(
        "run", environment | {"PARLEY_MODEL": "nobody/nothing", "HF_HUB_OFFLINE": "1"}, tmp_path, "hello\n"
    )
    assert code == 1
    assert "nobody/nothing" in err
    assert "PARLEY_MODEL=starter" in err
    assert "parley>" not in out


async def test_the_doctor_finds_fault_with_a_model_that_is_not_there(
    environment: dict[str, str], tmp_path: Path
) -> None:
    healthy, found, _ = await run("doctor", environment, tmp_path)
    ill, missing, _ = await run("doctor", environment | {"PARLEY_MODEL": "/no/such/folder"}, tmp_path)
    assert (healthy, ill) == (0, 1)
    assert "tiny-chat" in found
    assert "There is no folder" in missing
