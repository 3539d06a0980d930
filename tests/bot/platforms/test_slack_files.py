"""Attachments on Slack: what an event says of them, and how they are fetched with the token and no farther."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bot.chat import Attachment
from bot.errors import DeliveryFailed
from bot.platforms.slack_files import fetch_from_slack
from bot.platforms.slack_incoming import how_addressed, read_event
from bot.platforms.slack_login import Workspace
from tests.fakes.files import File
from tests.fakes.slack_server import FakeSlack
from tests.fakes.slack_state import Json

LIMIT = 2**20


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


async def events_of(slack: FakeSlack, text: str, *files: File) -> list[Json]:
    await slack.say(slack.add_channel("general"), slack.add_user("ada"), text, files=files)
    return [envelope.payload["event"] for envelope in slack.socket.envelopes]


def read(slack: FakeSlack, event: Json) -> tuple[Attachment, ...]:
    workspace = Workspace(slack.team, slack.bot_user, "B1")
    via = how_addressed(event, workspace)
    assert via is not None
    return read_event(event, via, workspace).attachments


async def attached(slack: FakeSlack, *files: File) -> tuple[Attachment, ...]:
    [event, _] = await events_of(slack, f"<@{slack.bot_user}> look", *files)
    return read(slack, event)


async def refused(slack: FakeSlack, attachment: Attachment, limit: int = LIMIT) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        await fetch_from_slack(slack.bot_token, slack.api_url)(attachment, limit)
    return str(caught.value)


async def test_both_events_of_a_mention_tell_of_its_files(slack: FakeSlack) -> None:
    events = await events_of(slack, f"<@{slack.bot_user}> look", File("笔记.md", b"# hi", "text/markdown"))
    assert [event["type"] for event in events] == ["message", "app_mention"]
    for event in events:
        [file] = read(slack, event)
        assert (file.name, file.media_type, file.size) == ("笔记.md", "text/markdown", 4)


async def test_a_file_that_was_deleted_or_is_not_shown_has_no_address_and_is_named(slack: FakeSlack) -> None:
    [event, _] = await events_of(slack, f"<@{slack.bot_user}> look")
    gone = read(slack, event | {"files": [{"id": "F1", "mode": "tombstone"}]})
    hidden = read(slack, event | {"files": [{"id": "F1", "name": None, "title": "Plan", "size": None}]})
    assert gone == (Attachment("file", "", 0, ""),)
    assert await refused(slack, hidden[0]) == "Plan was deleted, or Slack does not show it to apps."


async def test_a_file_is_fetched_with_the_token(slack: FakeSlack) -> None:
    [file] = await attached(slack, File("a.txt", b"words"))
    assert await fetch_from_slack(slack.bot_token, slack.api_url)(file, LIMIT) == b"words"
    assert slack.shelf.asked[0]["Authorization"] == f"Bearer {slack.bot_token}"


async def test_the_login_page_that_comes_without_the_right_scope_is_not_taken_for_the_file(
    slack: FakeSlack,
) -> None:
    [file] = await attached(slack, File("a.txt", b"words"))
    slack.api.scopes.discard("files:read")
    assert await refused(slack, file) == (
        "a.txt could not be fetched from Slack: a web page came in its place."
    )


async def test_a_web_page_that_somebody_attached_is_fetched(slack: FakeSlack) -> None:
    [file] = await attached(slack, File("a.html", b"<p>words", "text/html"))
    assert await fetch_from_slack(slack.bot_token, slack.api_url)(file, LIMIT) == b"<p>words"


async def test_a_file_that_is_larger_than_allowed_is_not_read_to_its_end(slack: FakeSlack) -> None:
    [file] = await attached(slack, File("a.txt", b"x" * (LIMIT + 1)))
    assert await refused(slack, replace(file, size=1)) == "a.txt is larger than 1 MB."


async def test_the_token_goes_to_no_host_but_slacks(slack: FakeSlack) -> None:
    async with FakeSlack() as stranger:
        [file] = await attached(stranger, File("a.txt", b"words"))
        assert "is not kept by Slack" in await refused(slack, file)
        [moved] = await attached(slack, File("b.txt", b"words"))
        slack.shelf.moved = dict.fromkeys(slack.shelf.files, file.url)
        assert "Slack sends elsewhere for it" in await refused(slack, moved)
        assert stranger.shelf.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://docs.google.com/document/d/1",
        "https://files.slack.com.evil.example/a.txt",
        "https://files.slack.com@evil.example/a.txt",
        "http://files.slack.com/a.txt",
        "https://evil.slack.com/a.txt",
        "http://127.0.0.1/a.txt",
    ],
)
async def test_an_address_elsewhere_is_refused_before_anything_is_sent(url: str) -> None:
    fetch = fetch_from_slack("xoxb-secret", "https://slack.com/api/")
    with pytest.raises(DeliveryFailed, match=r"a\.txt is not kept by Slack"):
        await fetch(Attachment("a.txt", "", 1, url), LIMIT)
