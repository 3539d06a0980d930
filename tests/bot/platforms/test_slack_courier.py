"""Slack's courier, with the real client library, against the fake Slack and against servers that answer nonsense."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from slack_sdk.web.async_client import AsyncWebClient

from bot.chat import Author, ConversationKey, IncomingMessage, Press
from bot.controls import Controls
from bot.delivery.courier import Courier, InDoubt, NotApplied, Post, Refused
from bot.errors import DeliveryFailed
from bot.platforms import slack_history
from bot.platforms.slack_api import Pace, SlackApi, open_api
from bot.platforms.slack_commands import read_command
from bot.platforms.slack_courier import SlackCourier, quote
from bot.platforms.slack_incoming import People
from bot.platforms.slack_login import Workspace, log_in
from bot.platforms.slack_private import CUT, PRIVATELY
from tests.fakes.slack_server import FakeSlack

NONCE = "0123456789abcdef01234567"


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def api(slack: FakeSlack) -> AsyncIterator[SlackApi]:
    async with aiohttp.ClientSession() as session:
        yield open_api(slack.bot_token, slack.api_url, session)


@pytest.fixture
async def open_courier(api: SlackApi) -> Callable[[], SlackCourier]:
    """Each one remembers nothing, as after a crash."""
    workspace = await log_in(api)
    return lambda: SlackCourier(api, workspace, People(api.calling, workspace.team), settle_seconds=0)


@pytest.fixture
def courier(open_courier: Callable[[], SlackCourier]) -> SlackCourier:
    return open_courier()


@pytest.fixture
def ada(slack: FakeSlack) -> str:
    return slack.add_user("ada", display_name="Ada L.")


@pytest.fixture
def channel(slack: FakeSlack, ada: str) -> str:
    return slack.add_channel("general")


async def ask(slack: FakeSlack, channel: str, user: str) -> IncomingMessage:
    """A mention at the top of a channel, which begins a thread."""
    ts = await slack.say(channel, user, f"<@{slack.bot_user}> hello")
    place = ConversationKey("slack", slack.team, channel, ts)
    return IncomingMessage(place, ts, Author(user, "Ada L."), "hello", datetime.now(UTC), "mention")


async def command(slack: FakeSlack, channel: str, user: str) -> IncomingMessage:
    envelope = await slack.use_command("/parley", "why?", user, channel)
    question = read_command(envelope.payload, Workspace(slack.team, slack.bot_user, "B0"))
    assert isinstance(question, IncomingMessage)
    return replace(question, author=Author(user, "Ada L."))


def post_of(question: IncomingMessage, text: str = "hi", part: int = 0, previous: str | None = None) -> Post:
    return Post(question, part, text, NONCE, datetime.now(UTC), previous)


def private_texts(slack: FakeSlack) -> list[str]:
    return [ephemeral.text for ephemeral in slack.ephemerals]


def test_it_is_a_courier(courier: SlackCourier) -> None:
    anyone: Courier = courier
    assert anyone.name == "slack"


async def test_a_part_is_posted_with_its_marker(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    question = await ask(slack, channel, ada)
    ts = await courier.post(post_of(question, "one **two**"))
    (answer,) = slack.answers(channel)
    assert (answer.ts, answer.thread, answer.text) == (ts, question.message_id, "one *two*")
    payload = {"nonce": NONCE, "part": 0, "question": question.message_id}
    assert answer.options == {
        "metadata": {"event_type": "parley_answer", "event_payload": payload},
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


@pytest.mark.parametrize("crashed", [False, True])
async def test_a_post_that_was_applied_and_cut_off_is_found(
    slack: FakeSlack,
    courier: SlackCourier,
    open_courier: Callable[[], SlackCourier],
    channel: str,
    ada: str,
    crashed: bool,
) -> None:
    post = post_of(await ask(slack, channel, ada))
    slack.drop_next("chat.postMessage", applied=True)
    with pytest.raises(InDoubt, match=r"could not be reached for chat\.postMessage"):
        await courier.post(post)
    found = await (open_courier() if crashed else courier).find(post)
    assert [answer.ts for answer in slack.answers(channel)] == [found]


async def test_a_post_that_was_cut_off_before_it_was_applied_is_not_found(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = post_of(await ask(slack, channel, ada))
    slack.drop_next("chat.postMessage", applied=False)
    with pytest.raises(InDoubt):
        await courier.post(post)
    assert await courier.find(post) is None
    assert slack.answers(channel) == []


async def test_a_post_is_looked_for_when_it_has_had_time_to_settle(
    slack: FakeSlack, api: SlackApi, channel: str, ada: str
) -> None:
    patient = SlackCourier(api, await log_in(api), People(api.calling, slack.team), settle_seconds=3600)
    post = post_of(await ask(slack, channel, ada))
    assert await patient.find(replace(post, first_try_at=post.first_try_at - timedelta(hours=2))) is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(patient.find(post), 0.05)
    assert [call.method for call in slack.calls].count("conversations.replies") == 1


async def test_a_marker_that_another_program_wrote_is_not_taken_for_the_bots(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = post_of(await ask(slack, channel, ada))
    metadata = {"event_type": "parley_answer", "event_payload": {"nonce": NONCE}}
    thread, other = post.question.message_id, slack.add_user("other", bot=True)
    slack.state.add_message(channel, other, "hi", thread=thread, options={"metadata": metadata})
    assert await courier.find(post) is None


async def test_an_answer_in_a_direct_message_is_found_on_whatever_page_it_stands(
    slack: FakeSlack, courier: SlackCourier, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slack_history, "PER_PAGE", 2)
    dm = slack.open_dm(ada)
    ts = await slack.say(dm, ada, "hello")
    place = ConversationKey("slack", slack.team, dm)
    post = post_of(IncomingMessage(place, ts, Author(ada, "Ada"), "hello", datetime.now(UTC), "dm", True))
    posted = await courier.post(post)
    for number in range(7):
        await slack.say(dm, ada, f"and {number}")
    assert await courier.find(post) == posted


async def test_a_limit_says_when_to_try_again(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    slack.fail_next("chat.postMessage", "ratelimited", retry_after=31)
    with pytest.raises(NotApplied, match="ratelimited") as limited:
        await courier.post(post_of(await ask(slack, channel, ada)))
    assert limited.value.retry_after == 31
    assert slack.answers(channel) == []


@pytest.mark.parametrize("code", ["internal_error", "fatal_error", "request_timeout", "service_unavailable"])
async def test_a_failure_inside_slack_leaves_a_post_in_doubt(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str, code: str
) -> None:
    slack.fail_next("chat.postMessage", code)
    with pytest.raises(InDoubt, match=code):
        await courier.post(post_of(await ask(slack, channel, ada)))


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        (500, "text/html", "<html>", InDoubt),
        (503, "text/plain", "upstream", InDoubt),
        (502, "application/json", "{", InDoubt),
        (200, "text/html", "<html>", InDoubt),
        (200, "text/plain", "ok", InDoubt),
        (200, "application/json", "{", InDoubt),
        (200, "application/json", "[]", InDoubt),
        (429, "text/plain", "slow down", NotApplied),
        (403, "text/html", "<html>", Refused),
    ],
)
async def test_an_answer_that_is_not_slacks_is_judged_by_its_status(
    status: int, kind: str, body: str, expected: type[DeliveryFailed]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, content_type=kind, text=body)

    with pytest.raises(expected):
        await post_to(answer)


async def test_a_post_without_an_answer_in_time_is_in_doubt() -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(InDoubt, match="TimeoutError"):
        await post_to(answer, timeout=1)


async def test_a_connection_that_was_refused_took_no_post_with_it(unused_tcp_port: int) -> None:
    courier = lonely_courier(f"http://127.0.0.1:{unused_tcp_port}/api/")
    with pytest.raises(NotApplied, match="could not be reached"):
        await courier.post(post_of(question_in("C1")))


async def test_what_the_channel_refuses_is_refused(slack: FakeSlack, courier: SlackCourier, ada: str) -> None:
    far = slack.add_channel("far", bot_inside=False)
    with pytest.raises(Refused, match="not_in_channel"):
        await courier.post(post_of(question_in(far)))


async def test_a_command_is_quoted_above_the_first_part_and_stays_there(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    question = await command(slack, channel, ada)
    heading = quote("Ada L.", "why?")
    first = await courier.post(post_of(question, "one"))
    second = await courier.post(replace(post_of(question, "two", 1, first), nonce="f" * 24))
    await courier.edit(question, first, "one!", 0)
    await courier.edit(question, second, "two!", 1)
    assert [answer.text for answer in slack.answers(channel)] == [f"{heading}one!", "two!"]
    assert courier.limit(question) == 3500 - len(heading)
    assert await courier.find(post_of(question)) == first


async def test_a_commands_answer_is_told_privately_where_the_channel_refuses_it(
    slack: FakeSlack, courier: SlackCourier, ada: str
) -> None:
    question = await command(slack, slack.add_channel("far", bot_inside=False), ada)
    first = await courier.post(post_of(question, "one"))
    second = await courier.post(post_of(question, "two", 1, first))
    await courier.edit(question, first, "changed", 0)
    await courier.delete(question, second)
    assert (first, second) == ("private-0", "private-1")
    assert private_texts(slack) == [f"{PRIVATELY}\n\none", "two"]


async def test_a_preview_is_never_told_privately(slack: FakeSlack, courier: SlackCourier, ada: str) -> None:
    question = await command(slack, slack.add_channel("far", bot_inside=False), ada)
    with pytest.raises(Refused, match="not_in_channel"):
        await courier.post(replace(post_of(question), final=False))
    assert private_texts(slack) == []


async def test_what_a_response_url_no_longer_takes_is_left_out_and_told(
    slack: FakeSlack, courier: SlackCourier, ada: str
) -> None:
    question = await command(slack, slack.add_channel("far", bot_inside=False), ada)
    previous = None
    for part in range(7):
        post = replace(post_of(question, "more", part, previous), last=part == 6)
        previous = await courier.post(post)
    assert private_texts(slack) == [f"{PRIVATELY}\n\nmore", "more", "more", "more", f"more\n\n{CUT}"]


async def test_a_private_answer_that_may_have_been_told_counts_as_told(
    slack: FakeSlack, open_courier: Callable[[], SlackCourier], ada: str
) -> None:
    question = await command(slack, slack.add_channel("far", bot_inside=False), ada)
    assert await open_courier().find(post_of(question)) == "private-0"
    assert await open_courier().find(post_of(question, part=1, previous="private-0")) == "private-1"


async def test_a_commands_preview_that_was_cut_off_before_a_refusal_is_posted_again(
    slack: FakeSlack, courier: SlackCourier, ada: str
) -> None:
    post = post_of(await command(slack, slack.add_channel("far", bot_inside=False), ada))
    slack.drop_next("chat.postMessage", applied=False)
    with pytest.raises(InDoubt):
        await courier.post(replace(post, final=False))
    assert await courier.find(post) is None
    assert await courier.post(post) == "private-0"


async def test_an_edit_keeps_the_marker(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = post_of(await ask(slack, channel, ada))
    ts = await courier.post(post)
    await courier.edit(post.question, ts, "hi there", 0)
    assert slack.answers(channel)[0].shown == ["hi", "hi there"]
    assert await courier.find(post) == ts


async def test_what_is_gone_counts_as_deleted(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = post_of(await ask(slack, channel, ada))
    ts = await courier.post(post)
    await courier.delete(post.question, ts)
    await courier.delete(post.question, ts)
    assert slack.answers(channel) == []
    with pytest.raises(Refused, match="message_not_found"):
        await courier.edit(post.question, ts, "hi", 0)


async def test_a_status_is_shown_until_the_first_post_of_its_answer(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    first = await ask(slack, channel, ada)
    await courier.typing(first)
    await courier.post(post_of(first))
    await courier.typing(first)
    second = await ask(slack, channel, ada)
    await courier.typing(second)
    await courier.typing(await command(slack, channel, ada))
    assert [status.thread for status in slack.state.statuses] == [first.message_id, second.message_id]


async def test_previews_leave_a_third_of_the_edits_to_final_texts(
    slack: FakeSlack, api: SlackApi, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = post_of(await ask(slack, channel, ada))
    ts = await courier.post(post)
    assert [courier.may_edit() for _ in range(10)].count(True) == 6
    for _ in range(6):
        await courier.edit(post.question, ts, "more", 0)
    assert [api.edits.reserve() for _ in range(4)] == [0, 0, 0, 0]


async def test_a_turn_is_taken_only_when_that_leaves_enough() -> None:
    pace = Pace(a_minute=6, at_once=10)
    assert [pace.take_if_free() for _ in range(8)] == [True] * 6 + [False] * 2
    assert [pace.take_if_free(keep=0.15) for _ in range(4)] == [True] * 2 + [False] * 2


async def test_a_question_gets_names_in_place_of_ids(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    bob = slack.add_user("bob", display_name="Bob")
    raw = replace(question_in(channel), author=Author(ada, ada), text=f"<@{slack.bot_user}> ask <@{bob}>")
    described = await courier.describe(raw)
    assert (described.author, described.text) == (Author(ada, "Ada L."), "ask @Bob")
    slack.fail_next("users.info", "internal_error")
    assert (await courier.describe(replace(raw, author=Author("U9", "U9")))).author == Author("U9", "U9")


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_history_of_many_pages_loses_nothing(
    slack: FakeSlack,
    courier: SlackCourier,
    channel: str,
    ada: str,
    monkeypatch: pytest.MonkeyPatch,
    in_thread: bool,
) -> None:
    monkeypatch.setattr(slack_history, "PER_PAGE", 4)
    monkeypatch.setattr(slack_history, "AT_ONCE", 10)
    root = slack.state.add_message(channel, ada, "root").ts
    thread = root if in_thread else None
    text = f"<@{slack.bot_user}> hello"
    asked = [slack.state.add_message(channel, ada, text, thread=thread).ts for _ in range(33)]
    place = ConversationKey("slack", slack.team, channel, thread or "")
    found, upto, more = [], root, True
    while more:
        page = await courier.read_history(place, False, upto)
        found += [message.message_id for message in page.messages]
        assert page.verified_upto == found[-1]
        upto, more = page.verified_upto, page.more
    assert found == asked
    empty = await courier.read_history(place, False, upto)
    assert (empty.messages, empty.verified_upto, empty.more) == ([], upto, False)


async def test_what_the_history_holds_is_read_as_the_socket_would_have_told_it(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    text = f"<@{slack.bot_user}> hello"
    await slack.say(channel, ada, "not for the bot")
    ts = await slack.say(channel, ada, text)
    (twin,) = {envelope.payload["event"].get("client_msg_id") for envelope in slack.socket.envelopes[-2:]}
    page = await courier.read_history(ConversationKey("slack", slack.team, channel), False, "0")
    assert page.messages == [
        IncomingMessage(
            conversation=ConversationKey("slack", slack.team, channel, ts),
            message_id=ts,
            author=Author(ada, ada),
            text=text,
            created_at=datetime.fromtimestamp(float(ts), UTC),
            via="mention",
            client_msg_id=twin,
        )
    ]


async def test_a_thread_is_read_with_what_was_said_unasked(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    question = await ask(slack, channel, ada)
    mention = f"and <@{slack.bot_user}>?"
    unasked = await slack.say(channel, ada, "really?", thread=question.message_id)
    asked = await slack.say(channel, ada, mention, thread=question.message_id)
    page = await courier.read_history(question.conversation, False, question.message_id)
    assert [(m.message_id, m.via) for m in page.messages] == [(unasked, "thread"), (asked, "mention")]
    assert {m.conversation for m in page.messages} == {question.conversation}


async def test_a_direct_message_is_private_whatever_the_caller_thinks(
    slack: FakeSlack, courier: SlackCourier, ada: str
) -> None:
    dm = slack.open_dm(ada)
    ts = await slack.say(dm, ada, f"<@{slack.bot_user}> hello")
    page = await courier.read_history(ConversationKey("slack", slack.team, dm), False, "0")
    assert [(m.message_id, m.via, m.private) for m in page.messages] == [(ts, "dm", True)]


async def test_questions_that_are_answered_are_left_out_of_a_history(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    answered, missed = await ask(slack, channel, ada), await ask(slack, channel, ada)
    await courier.post(post_of(answered))
    await slack.say(channel, ada, "discussed", thread=missed.message_id)
    in_channel = await courier.read_history(ConversationKey("slack", slack.team, channel), False, "0")
    in_thread = await courier.read_history(answered.conversation, False, "0")
    assert [m.message_id for m in in_channel.messages] == [missed.message_id]
    assert in_thread.messages == []


async def test_a_history_that_may_not_be_read_is_refused(
    slack: FakeSlack, courier: SlackCourier, ada: str
) -> None:
    far = slack.add_channel("far", bot_inside=False)
    with pytest.raises(Refused, match=r"conversations\.history in .*: not_in_channel"):
        await courier.read_history(ConversationKey("slack", slack.team, far), False, "0")


def question_in(channel: str) -> IncomingMessage:
    place = ConversationKey("slack", "T1", channel)
    return IncomingMessage(place, "1.000001", Author("U1", "Ada"), "hello", datetime.now(UTC), "mention")


def lonely_courier(url: str, timeout: int = 30) -> SlackCourier:
    """A courier for a place where there is no Slack."""
    client = AsyncWebClient("xoxb-token", url, timeout=timeout, retry_handlers=[])
    api = SlackApi(client, client)
    return SlackCourier(api, Workspace("T1", "U0", "B0"), People(client, "T1"), settle_seconds=0)


async def post_to(answer: Handler, timeout: int = 30) -> None:
    app = web.Application()
    app.router.add_post("/api/{method}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        await lonely_courier(f"http://{host}:{port}/api/", timeout).post(post_of(question_in("C1")))
    finally:
        await runner.cleanup()


async def test_buttons_come_and_go_with_edits_and_the_marker_stays(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    post = replace(post_of(await ask(slack, channel, ada)), controls=Controls(7, live=True))
    ts = await courier.post(post)
    (answer,) = slack.answers(channel)
    assert answer.buttons == ["Stop"]
    await courier.edit(post.question, ts, "hi there", 0, Controls(7, candidates=(1,), shown=1))
    assert answer.buttons[:2] == ["Again", "Continue"]
    assert answer.blocks[0]["text"]["text"] == answer.text == "hi there"
    await courier.edit(post.question, ts, "hi", 0)
    assert (answer.text, answer.blocks) == ("hi", [])
    assert await courier.find(post) == ts


async def test_no_status_is_shown_where_a_message_that_stands_there_is_changed(
    slack: FakeSlack, courier: SlackCourier, channel: str, ada: str
) -> None:
    question = await ask(slack, channel, ada)
    await courier.typing(replace(question, via="button", press=Press("regenerate", 7)))
    assert slack.state.statuses == []


async def test_who_administers_is_asked_again_after_a_while(slack: FakeSlack, api: SlackApi) -> None:
    chief = slack.add_user("chief", admin=True)
    remembering, forgetting = (
        People(api.calling, slack.team),
        People(api.calling, slack.team, known_seconds=0),
    )
    for people in (remembering, forgetting):
        assert await people.get(chief) == Author(chief, "chief", manages=True, moderates=True)
    slack.state.users[chief].admin = False
    assert (await remembering.get(chief)).manages
    assert not (await forgetting.get(chief)).manages


async def test_who_cannot_be_looked_up_again_keeps_the_name_and_no_rights(
    slack: FakeSlack, api: SlackApi
) -> None:
    chief = slack.add_user("chief", display_name="The Chief", admin=True)
    people = People(api.calling, slack.team, known_seconds=0)
    assert (await people.get(chief)).manages
    slack.fail_next("users.info", "internal_error")
    assert await people.get(chief) == Author(chief, "The Chief")


async def test_a_command_keeps_whom_it_names(slack: FakeSlack, api: SlackApi, channel: str, ada: str) -> None:
    workspace, people = await log_in(api), People(api.calling, slack.team)
    question = replace(
        await ask(slack, channel, ada), text=f"<@{slack.bot_user}> !access deny chat <@{ada}|ada>"
    )
    described = await people.describe(question, workspace)
    assert described.text == f"!access deny chat <@{ada}|ada>"
    asked = await people.describe(replace(question, text=f"<@{slack.bot_user}> !chat <@{ada}>"), workspace)
    assert asked.text == "!chat @Ada L."


async def test_who_administers_another_workspace_has_no_rights_in_this_one(
    slack: FakeSlack, api: SlackApi
) -> None:
    guest = slack.add_user("guest", admin=True)
    slack.state.users[guest].team = "T0OTHER"
    assert await People(api.calling, slack.team).get(guest) == Author(guest, "guest")
