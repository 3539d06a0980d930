"""The messages of a reply on Slack, post by post."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot.errors import DeliveryFailed
from bot.platforms.slack_api import Pace, SlackApi, open_api
from bot.platforms.slack_reply import ChannelSink, HeadedSink, quote
from tests.fakes.slack_server import FakeSlack


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def api(slack: FakeSlack) -> AsyncIterator[SlackApi]:
    async with aiohttp.ClientSession() as session:
        yield open_api(slack.bot_token, slack.api_url, session)


async def test_a_message_is_posted_edited_and_deleted(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("general")
    sink = ChannelSink(api, channel)
    ts = await sink.post("one")
    await sink.edit(ts, "one **two**")
    assert slack.answers(channel)[0].shown == ["one", "one *two*"]
    await sink.delete(ts)
    assert slack.answers(channel) == []


async def test_a_refusal_names_the_call_the_place_and_the_code(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("far", bot_inside=False)
    with pytest.raises(DeliveryFailed) as failed:
        await ChannelSink(api, channel).post("hello")
    assert str(failed.value) == f"Slack refused chat.postMessage in {channel}: not_in_channel."
    slack.api.scopes.clear()
    with pytest.raises(DeliveryFailed) as failed:
        await ChannelSink(api, channel).post("hello")
    assert str(failed.value).endswith("missing_scope, the app needs the scope chat:write.")


async def test_a_post_whose_answer_got_lost_is_not_said_twice(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("general")
    slack.drop_next("chat.postMessage", applied=True)
    with pytest.raises(DeliveryFailed, match=r"could not be reached for chat\.postMessage"):
        await ChannelSink(api, channel).post("hello")
    assert len(slack.answers(channel)) == 1


async def test_an_edit_whose_answer_got_lost_is_made_again(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("general")
    sink = ChannelSink(api, channel)
    ts = await sink.post("hello")
    slack.drop_next("chat.update", applied=False)
    await sink.edit(ts, "hello again")
    assert slack.answers(channel)[0].text == "hello again"


async def test_a_status_is_shown_in_threads_until_the_first_message(slack: FakeSlack, api: SlackApi) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    root = await slack.say(channel, ada, "hello")
    sink = ChannelSink(api, channel, root)
    await sink.typing()
    await sink.post("hello")
    await sink.typing()
    await ChannelSink(api, channel).typing()
    assert [status.text for status in slack.state.statuses] == ["is writing..."]


async def test_a_status_that_is_refused_is_a_failed_delivery(slack: FakeSlack, api: SlackApi) -> None:
    with pytest.raises(DeliveryFailed, match=r"assistant\.threads\.setStatus"):
        await ChannelSink(api, slack.add_channel("general"), "1.1").typing()


async def test_a_heading_stands_above_the_first_message_only(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("general")
    sink = HeadedSink(api, channel, "*Ada* asked:\n")
    await sink.open()
    first, second = await sink.post("one"), await sink.post("two")
    await sink.edit(first, "one!")
    await sink.edit(second, "two!")
    assert [answer.text for answer in slack.answers(channel)] == ["*Ada* asked:\none!", "two!"]
    assert sink.limit == 3500 - len("*Ada* asked:\n")


async def test_a_text_full_of_escapes_fits_under_its_heading(slack: FakeSlack, api: SlackApi) -> None:
    channel = slack.add_channel("general")
    sink = HeadedSink(api, channel, quote("&" * 80, "<" * 1000))
    await sink.open()
    await sink.post("<" * sink.limit)
    assert len(slack.answers(channel)[0].text) <= 4000


def test_a_long_question_is_quoted_in_part() -> None:
    assert quote("A<da", "why\n\nnot?") == "*A&lt;da* asked:\n&gt; why not?\n\n"
    assert quote("Ada", "a" * 400).endswith(f"{'a' * 300}...\n\n")


async def test_edits_go_at_once_until_there_are_too_many_in_a_minute() -> None:
    pace = Pace(a_minute=60, at_once=3)
    waits = [pace.reserve() for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0, 1, 2], abs=0.1)
