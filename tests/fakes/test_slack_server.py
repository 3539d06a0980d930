"""The fake Slack, driven by the real client: Bolt's AsyncApp over Socket Mode, and slack_sdk's web client."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncRespond, AsyncSay
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack_server import FakeSlack
from tests.fakes.slack_state import Ephemeral, Json


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
def client(slack: FakeSlack) -> AsyncWebClient:
    return AsyncWebClient(slack.bot_token, base_url=slack.api_url, retry_handlers=[])


class Bot:
    """A Bolt app that writes down what it hears; every event has a listener."""

    def __init__(self, slack: FakeSlack) -> None:
        client = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
        self.app = AsyncApp(client=client)
        self.heard: list[Json] = []
        self.app.event(re.compile(".*"))(self._hear)

    async def _hear(self, event: Json) -> None:
        self.heard.append(event)

    @asynccontextmanager
    async def connected(self, slack: FakeSlack) -> AsyncIterator["Bot"]:
        handler = AsyncSocketModeHandler(self.app, slack.app_token, ping_interval=1)
        await handler.connect_async()  # type: ignore[no-untyped-call]
        await slack.wait_until_connected()
        try:
            yield self
        finally:
            await handler.close_async()  # type: ignore[no-untyped-call]


def error_of(answer: Any) -> str:
    return str(answer.value.response["error"])


async def test_a_mention_is_two_events_with_one_ts_and_both_are_acknowledged(slack: FakeSlack) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with Bot(slack).connected(slack) as bot:
        ts = await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.wait_for_acks()
        await slack.wait_for(lambda: len(bot.heard) == 2)
    assert [(event["type"], event["ts"]) for event in bot.heard] == [("message", ts), ("app_mention", ts)]
    assert len({envelope.payload["event_id"] for envelope in slack.socket.envelopes}) == 2


async def test_the_bots_own_post_comes_back_as_an_event(slack: FakeSlack, client: AsyncWebClient) -> None:
    channel = slack.add_channel("general")
    async with Bot(slack).connected(slack):
        await client.chat_postMessage(channel=channel, text="I am here")
        await slack.wait_for_acks()
    (event,) = [envelope.payload["event"] for envelope in slack.socket.envelopes]
    assert (event["type"], event["text"], event["user"]) == ("message", "I am here", slack.bot_user)
    assert event["bot_id"] == slack.state.bot.bot_id


async def test_a_slash_command_is_acknowledged_and_answered_by_response_url(slack: FakeSlack) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general", bot_inside=False)
    bot = Bot(slack)

    @bot.app.command("/parley")
    async def answer(ack: AsyncAck, respond: AsyncRespond, command: Json) -> None:
        await ack("one moment")
        await respond(f"you said {command['text']}")

    async with bot.connected(slack):
        envelope = await slack.use_command("/parley", "hello", ada, channel)
        await slack.wait_for(lambda: envelope.acked and len(slack.ephemerals) == 1)
    assert envelope.seconds_to_ack < 3
    assert envelope.ack == {"text": "one moment"}
    assert [(post.user, post.text) for post in slack.ephemerals] == [(ada, "you said hello")]


async def test_a_button_reaches_its_listener(slack: FakeSlack, client: AsyncWebClient) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    bot = Bot(slack)

    @bot.app.action("stop")
    async def stop(ack: AsyncAck, say: AsyncSay) -> None:
        await ack()
        await say("stopped")

    await client.chat_postMessage(channel=channel, text="working")
    async with bot.connected(slack):
        await slack.press_button(slack.messages(channel)[0], ada, "stop")
        await slack.wait_for(lambda: [m.text for m in slack.messages(channel)] == ["working", "stopped"])


async def post_with_button(client: AsyncWebClient, channel: str, label: str = "Stop") -> None:
    text = {"type": "plain_text", "text": label}
    section: Json = {"type": "section", "text": {"type": "mrkdwn", "text": "working"}}
    row = {"type": "actions", "elements": [{"type": "button", "action_id": "stop", "text": text}]}
    await client.chat_postMessage(channel=channel, text="working", blocks=[section, row])


async def test_a_button_is_pressed_by_its_label_and_answered_privately_in_its_thread(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    bot = Bot(slack)

    @bot.app.action("stop")
    async def stop(ack: AsyncAck, respond: AsyncRespond, body: Json) -> None:
        await ack()
        assert float(body["actions"][0]["action_ts"]) > 0
        await respond("only you see it", response_type="ephemeral", thread_ts="1.2")

    await post_with_button(client, channel)
    (message,) = slack.messages(channel)
    assert message.buttons == ["Stop"]
    async with bot.connected(slack):
        await slack.press(message, ada, "Stop")
        await slack.wait_for(lambda: slack.ephemerals != [])
    assert slack.ephemerals == [Ephemeral(channel, ada, "only you see it", "1.2")]


async def test_blocks_that_slack_would_not_take_are_refused(slack: FakeSlack, client: AsyncWebClient) -> None:
    channel = slack.add_channel("general")
    text = {"type": "plain_text", "text": "x"}
    button = {"type": "button", "action_id": "a", "text": text}
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "x"}}
    bad: list[list[Json]] = [
        [section] * 51,
        [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}],
        [{"type": "section", "text": {"type": "mrkdwn", "text": " "}}],
        [{"type": "actions", "elements": []}],
        [{"type": "actions", "elements": [button | {"action_id": str(n)} for n in range(26)]}],
        [{"type": "actions", "elements": [button]}, {"type": "actions", "elements": [button]}],
        [{"type": "actions", "elements": [button | {"text": text | {"text": "x" * 76}}]}],
        [section | {"block_id": "b"}, section | {"block_id": "b"}],
        [{"type": "unheard of"}],
    ]
    for blocks in bad:
        with pytest.raises(SlackApiError) as refused:
            await client.chat_postMessage(channel=channel, text="x", blocks=blocks)
        assert error_of(refused) == "invalid_blocks"
    assert slack.messages(channel) == []


async def test_blocks_stay_until_an_update_brings_others(slack: FakeSlack, client: AsyncWebClient) -> None:
    channel = slack.add_channel("general")
    await post_with_button(client, channel)
    (message,) = slack.messages(channel)
    await client.chat_update(channel=channel, ts=message.ts, text="done")
    assert message.buttons == ["Stop"]
    await client.chat_update(channel=channel, ts=message.ts, text="done", blocks=[])
    assert message.buttons == []
    assert message.shown == ["working", "done"]


async def test_a_form_opens_once_and_within_three_seconds_and_is_handed_in(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    ada = slack.add_user("ada")
    field = {"type": "plain_text_input", "action_id": "typed"}
    label = {"type": "plain_text", "text": "Why?"}
    view: Json = {"type": "modal", "callback_id": "why", "title": label, "submit": label, "close": label}
    view["blocks"] = [{"type": "input", "block_id": "reason", "label": label, "element": field}]
    bot, given = Bot(slack), list[Json]()

    @bot.app.view("why")
    async def take(ack: AsyncAck, body: Json) -> None:
        given.append(body)
        await ack()

    first, late = slack.state.new_trigger(ada), slack.state.new_trigger(ada)
    async with bot.connected(slack):
        await client.views_open(trigger_id=first, view=view)
        with pytest.raises(SlackApiError) as used:
            await client.views_open(trigger_id=first, view=view)
        slack.state.forward(4)
        with pytest.raises(SlackApiError) as expired:
            await client.views_open(trigger_id=late, view=view)
        (opened,) = slack.state.views
        submitted = await slack.submit(opened, reason="wrong")
        await slack.wait_for(lambda: submitted.acked)
    assert (error_of(used), error_of(expired)) == ("invalid_trigger_id", "expired_trigger_id")
    assert given[0]["user"]["id"] == ada
    assert given[0]["view"]["state"]["values"]["reason"]["typed"]["value"] == "wrong"


async def test_edits_deletions_and_reactions_are_told(slack: FakeSlack) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with Bot(slack).connected(slack) as bot:
        root, other = await slack.say(channel, ada, "helo"), await slack.say(channel, ada, "never mind")
        await slack.say(channel, ada, "a reply", thread=root)
        await slack.edit_message(channel, root, "hello")
        await slack.react(slack.messages(channel)[0], ada, "+1")
        await slack.delete_message(channel, other)
        await slack.delete_message(channel, root)
        await slack.wait_for(lambda: len(bot.heard) == 7)
    edited, reacted, deleted, buried = bot.heard[3:]
    assert (edited["subtype"], edited["message"]["text"]) == ("message_changed", "hello")
    assert edited["previous_message"]["text"] == "helo"
    assert (reacted["reaction"], reacted["item"]["ts"]) == ("+1", root)
    assert (deleted["subtype"], deleted["deleted_ts"]) == ("message_deleted", other)
    assert (buried["subtype"], buried["message"]["subtype"]) == ("message_changed", "tombstone")


async def test_an_event_without_an_acknowledgement_can_be_delivered_again(slack: FakeSlack) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with Bot(slack).connected(slack) as bot:
        await slack.say(channel, ada, "hello")
        await slack.wait_for(lambda: len(bot.heard) == 1)
        again = await slack.socket.redeliver(slack.socket.envelopes[0])
        await slack.wait_for(lambda: len(bot.heard) == 2)
    assert again.as_json()["retry_attempt"] == 1
    assert again.as_json()["retry_reason"] == "timeout"
    assert bot.heard[0] == bot.heard[1]


async def test_after_a_disconnect_envelope_the_client_comes_back_and_gets_what_it_missed(
    slack: FakeSlack,
) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    async with Bot(slack).connected(slack) as bot:
        await slack.socket.disconnect("refresh_requested")
        await slack.say(channel, ada, "are you there?")
        await slack.wait_for(lambda: len(bot.heard) == 1)
    assert slack.socket.connections == 2
    assert slack.socket.strange == []


async def test_a_thread_is_read_by_replies_and_not_by_history(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    root = await slack.say(channel, ada, "root")
    await client.chat_postMessage(channel=channel, text="answer", thread_ts=root, unfurl_links=False)
    last = await slack.say(channel, ada, "later")

    history = await client.conversations_history(channel=channel)
    replies = await client.conversations_replies(channel=channel, ts=root)
    newer = await client.conversations_history(channel=channel, oldest=root)
    first_page = await client.conversations_replies(channel=channel, ts=root, limit=1)
    second_page = await client.conversations_replies(
        channel=channel, ts=root, limit=1, cursor=first_page["response_metadata"]["next_cursor"]
    )

    assert [message["text"] for message in history["messages"]] == ["later", "root"]
    assert [message["text"] for message in replies["messages"]] == ["root", "answer"]
    assert [message["ts"] for message in newer["messages"]] == [last]
    assert [message["text"] for message in second_page["messages"]] == ["answer"]
    assert slack.answers(channel)[0].options == {"unfurl_links": False}


async def test_an_edited_message_remembers_what_was_shown(slack: FakeSlack, client: AsyncWebClient) -> None:
    channel = slack.add_channel("general")
    posted = await client.chat_postMessage(
        channel=channel, text="one", metadata={"event_type": "t", "event_payload": {}}
    )
    await client.chat_update(channel=channel, ts=posted["ts"], text="one two")
    (message,) = slack.messages(channel)
    assert message.shown == ["one", "one two"]
    assert message.options["metadata"] == {"event_type": "t", "event_payload": {}}
    await client.chat_delete(channel=channel, ts=posted["ts"])
    assert slack.messages(channel) == []


async def test_people_channels_and_reactions_can_be_asked_for(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    slack.api.scopes |= {"channels:read", "reactions:write", "im:write", "team:read"}
    ada, channel = slack.add_user("ada", display_name="Ada"), slack.add_channel("general")
    ts = await slack.say(channel, ada, "hello")

    await client.reactions_add(channel=channel, timestamp=ts, name="eyes")
    assert slack.messages(channel)[0].reactions == {"eyes": {slack.bot_user}}
    await client.reactions_remove(channel=channel, timestamp=ts, name="eyes")
    assert slack.messages(channel)[0].reactions == {"eyes": set()}
    assert (await client.users_info(user=ada))["user"]["profile"]["display_name"] == "Ada"
    assert len((await client.users_list())["members"]) == 2
    assert (await client.conversations_info(channel=channel))["channel"]["is_member"] is True
    assert set((await client.conversations_members(channel=channel))["members"]) == {ada, slack.bot_user}
    assert [c["id"] for c in (await client.conversations_list())["channels"]] == [channel]
    assert (await client.conversations_open(users=ada))["channel"]["id"] == slack.open_dm(ada)
    assert (await client.team_info())["team"]["id"] == slack.team
    assert (await client.bots_info(bot=slack.state.bot.bot_id))["bot"]["user_id"] == slack.bot_user
    link = await client.chat_getPermalink(channel=channel, message_ts=ts)
    assert link["permalink"].endswith(ts.replace(".", ""))
    await client.chat_postEphemeral(channel=channel, user=ada, text="only you")
    assert slack.ephemerals[0].text == "only you"
    await client.assistant_threads_setStatus(channel_id=channel, thread_ts=ts, status="is writing")
    assert slack.state.statuses[0].text == "is writing"


@pytest.mark.parametrize("token", ["", "xoxb-other", FakeSlack.app_token])
async def test_a_wrong_token_is_refused(slack: FakeSlack, token: str) -> None:
    client = AsyncWebClient(token, base_url=slack.api_url)
    with pytest.raises(SlackApiError) as caught:
        await client.auth_test()
    expected = {"": "not_authed", "xoxb-other": "invalid_auth"}
    assert error_of(caught) == expected.get(token, "not_allowed_token_type")


async def test_a_missing_scope_is_named(slack: FakeSlack, client: AsyncWebClient) -> None:
    with pytest.raises(SlackApiError) as caught:
        await client.team_info()
    assert error_of(caught) == "missing_scope"
    assert caught.value.response["needed"] == "team:read"


async def test_a_place_that_cannot_be_written_to_is_refused_as_slack_does(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    strange = slack.add_channel("strange", bot_inside=False)
    secret = slack.add_channel("secret", private=True, bot_inside=False)
    old = slack.add_channel("old")
    slack.state.channels[old].archived = True
    for channel, code in [(strange, "not_in_channel"), (secret, "channel_not_found"), (old, "is_archived")]:
        with pytest.raises(SlackApiError) as caught:
            await client.chat_postMessage(channel=channel, text="hello")
        assert error_of(caught) == code


async def test_texts_and_edits_are_checked(slack: FakeSlack, client: AsyncWebClient) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    ts = await slack.say(channel, ada, "hers")
    cases = [
        (client.api_call("chat.postMessage", json={"channel": channel, "text": " "}), "no_text"),
        (client.chat_postMessage(channel=channel, text="a" * 4001), "msg_too_long"),
        (client.chat_postMessage(channel=channel, text="a", thread_ts="1.1"), "cannot_reply_to_message"),
        (client.chat_update(channel=channel, ts="1.1", text="a"), "message_not_found"),
        (client.chat_update(channel=channel, ts=ts, text="a"), "cant_update_message"),
        (client.users_info(user="U404"), "user_not_found"),
        (client.api_call("no.such"), "unknown_method"),
    ]
    for call, code in cases:
        with pytest.raises(SlackApiError) as caught:
            await call
        assert error_of(caught) == code


async def test_a_call_is_understood_as_json_as_a_form_and_as_a_query(slack: FakeSlack) -> None:
    channel = slack.add_channel("general")
    url, bearer = f"{slack.api_url}chat.postMessage", {"Authorization": f"Bearer {slack.bot_token}"}
    metadata = {"event_type": "t", "event_payload": {}}
    async with aiohttp.ClientSession() as session:
        await session.post(
            url, json={"channel": channel, "text": "json", "metadata": metadata}, headers=bearer
        )
        form = {
            "token": slack.bot_token,
            "channel": channel,
            "text": "form",
            "metadata": '{"event_type": "t"}',
        }
        await session.post(url, data=form)
        await session.get(url, params={"channel": channel, "text": "query"}, headers=bearer)
        await session.post(url, params={"channel": channel}, data={"text": "both"}, headers=bearer)
    assert [message.text for message in slack.messages(channel)] == ["json", "form", "query", "both"]
    assert slack.messages(channel)[1].options == {"metadata": {"event_type": "t"}}


async def test_failures_are_scripted_in_order(slack: FakeSlack, client: AsyncWebClient) -> None:
    channel = slack.add_channel("general")
    slack.fail_next("chat.postMessage", "ratelimited", retry_after=7)
    slack.fail_next("chat.postMessage", "internal_error")
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=channel, text="first")
    assert (caught.value.response.status_code, caught.value.response.headers["Retry-After"]) == (429, "7")
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=channel, text="second")
    assert error_of(caught) == "internal_error"
    await client.chat_postMessage(channel=channel, text="third")
    assert [message.text for message in slack.messages(channel)] == ["third"]


async def test_a_dropped_connection_may_hide_that_the_call_took_effect(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    channel = slack.add_channel("general")
    for applied, texts in [(False, []), (True, ["hello"])]:
        slack.drop_next("chat.postMessage", applied=applied)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.chat_postMessage(channel=channel, text="hello")
        assert [message.text for message in slack.messages(channel)] == texts


async def test_a_response_url_is_good_for_five_uses_and_thirty_minutes(slack: FakeSlack) -> None:
    ada, channel = slack.add_user("ada"), slack.add_channel("general")
    used, late = [
        (await slack.use_command("/parley", "", ada, channel)).payload["response_url"] for _ in range(2)
    ]
    async with aiohttp.ClientSession() as session:

        async def post(url: str) -> int:
            body = {"text": "hello", "response_type": "in_channel"}
            async with session.post(url, json=body) as answer:
                return answer.status

        assert [await post(used) for _ in range(6)] == [200] * 5 + [404]
        slack.state.forward(30 * 60 + 1)
        assert await post(late) == 404
    assert len(slack.answers(channel)) == 5


async def test_a_ticket_opens_one_connection_only(slack: FakeSlack) -> None:
    client = AsyncWebClient(base_url=slack.api_url)
    url = (await client.apps_connections_open(app_token=slack.app_token))["url"]
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        assert (await socket.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)


async def test_what_nobody_subscribed_to_is_not_sent() -> None:
    async with FakeSlack(events=["app_mention"]) as slack:
        ada, channel = slack.add_user("ada"), slack.add_channel("general")
        await slack.say(channel, ada, f"<@{slack.bot_user}> hello")
        await slack.say(slack.open_dm(ada), ada, "hello")
    assert [envelope.payload["event"]["type"] for envelope in slack.socket.envelopes] == ["app_mention"]


async def test_waiting_for_what_never_happens_ends(slack: FakeSlack) -> None:
    with pytest.raises(TimeoutError):
        await slack.wait_for(lambda: False, timeout=0.01)
    await asyncio.wait_for(slack.wait_for(lambda: True), 1)
