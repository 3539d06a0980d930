"""What comes in is stored once, claimed by one process at a time, and in order, the same on both databases."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import tables
from storage.database import Database
from storage.errors import ClaimLost
from storage.inbox import (
    CLAIM_LOCK,
    Claim,
    Received,
    add_received,
    cancel_received,
    claim_next,
    claim_several,
    close_received,
    count_received,
    edit_received,
    guard,
    is_any_due,
    record_decision,
    release_all_claims,
    release_claim,
    renew_claim,
    wake_received,
)
from storage.outbox import add_preview, commit_answer
from tests.storage.test_conversations import say, talk

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = 60.0
DISCORD: tuple[tables.Platform, ...] = ("discord",)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def received(message_id: str = "1", *, second: float = 0, channel: str = "general") -> Received:
    return Received(
        platform="discord",
        workspace="club",
        channel=channel,
        thread="",
        message_id=message_id,
        author_id="7",
        author_name="Ann",
        text=f"question {message_id}",
        via="mention",
        created_at=later(second),
    )


async def add(database: Database, message: Received | None = None) -> bool:
    return await database.write(add_received, message or received(), NOON)


async def add_many(database: Database, *messages: Received) -> None:
    for message in messages:
        assert await add(database, message)


def claim_in(tx: Session, owner: str = "me", at: datetime = NOON) -> Claim | None:
    return claim_next(tx, owner=owner, platforms=DISCORD, now=at, lease_seconds=LEASE)


async def try_claim(database: Database, owner: str = "me", at: datetime = NOON) -> Claim | None:
    return await database.write(claim_in, owner, at)


async def claim(database: Database, owner: str = "me", at: datetime = NOON) -> Claim:
    claimed = await try_claim(database, owner, at)
    assert claimed is not None
    return claimed


async def release(
    database: Database, claimed: Claim, *, rest_until: datetime | None = None, error: str | None = None
) -> None:
    await database.write(release_claim, claimed, rest_until=rest_until, error=error)


async def close(database: Database, claimed: Claim) -> None:
    with database.transaction() as tx:
        record_decision(tx, claimed, "ignore")
        close_received(tx, claimed, "done")


async def commit(database: Database, claimed: Claim, *bodies: str) -> None:
    await database.write(commit_answer, claimed, bodies, decision="answer", answer_id=None, shown={})


async def edit(database: Database, message_id: str = "1", text: str = "changed") -> bool:
    return await database.write(edit_received, "discord", "club", "general", message_id, text)


async def cancel(database: Database, message_id: str = "1") -> bool:
    return await database.write(cancel_received, "discord", "club", "general", message_id)


async def rows(database: Database) -> list[tables.Inbox]:
    with database.reading() as session:
        return list(session.scalars(select(tables.Inbox).order_by(tables.Inbox.id)))


async def row(database: Database) -> tables.Inbox:
    (only,) = await rows(database)
    return only


async def test_a_message_comes_out_as_it_came_in(database: Database) -> None:
    message = replace(
        received(),
        private=True,
        author_is_bot=True,
        reply_to="0",
        client_msg_id="c",
        token="t",
        thread="x",
        category="top",
        author_roles=("friends", "loud"),
        author_manages=True,
        attachments=({"name": "a.txt", "size": 3},),
        action="show",
        target_id=3,
        candidate_id=4,
        reason="you pressed a button",
    )
    await add(database, message)
    claimed = await claim(database)
    assert claimed.received == message
    assert (claimed.decision, claimed.question_id, claimed.answered, claimed.attempts) == (
        None,
        None,
        False,
        1,
    )


async def test_a_message_that_arrives_many_times_at_once_is_stored_once(database: Database) -> None:
    added = await asyncio.gather(*(add(database) for _ in range(8)))
    assert sorted(added) == [False] * 7 + [True]
    assert len(await rows(database)) == 1


async def test_the_same_id_in_another_channel_is_another_message(database: Database) -> None:
    await add_many(database, received(), received(channel="random"))
    assert len(await rows(database)) == 2


async def test_twins_with_one_client_msg_id_are_one_message(database: Database) -> None:
    await add(database, replace(received("1"), client_msg_id="c"))
    assert not await add(database, replace(received("2"), client_msg_id="c"))
    assert await add(database, replace(received("3"), client_msg_id="c", workspace="elsewhere"))
    assert [kept.message_id for kept in await rows(database)] == ["1", "3"]


async def test_messages_without_a_client_msg_id_are_no_twins(database: Database) -> None:
    await add_many(database, received("1"), received("2"))


async def test_an_edit_changes_what_is_not_answered_yet(database: Database) -> None:
    await add(database)
    assert await edit(database)
    assert (await claim(database)).received.text == "changed"


async def test_a_deleted_message_is_not_answered_and_nothing_of_its_author_stays(database: Database) -> None:
    await add(database, replace(received(), token="t"))
    assert await cancel(database)
    assert await try_claim(database) is None
    kept = await row(database)
    assert kept.state == "cancelled"
    assert (kept.text, kept.token, kept.author_id, kept.author_name) == ("", None, "", "")
    assert not await add(database)


async def test_what_is_being_answered_is_neither_edited_nor_cancelled(database: Database) -> None:
    await add(database)
    claimed = await claim(database)
    assert not await edit(database)
    assert not await cancel(database)
    await commit(database, claimed, "An answer.")
    assert not await edit(database)
    assert not await cancel(database)
    assert (await row(database)).text == "question 1"


async def test_a_message_in_the_dialogue_is_neither_edited_nor_cancelled_between_two_tries(
    database: Database,
) -> None:
    await add(database)
    claimed = await claim(database)
    with database.transaction() as tx:
        question_id = say(tx, talk(tx), "question 1", "1")
        record_decision(tx, claimed, "answer", question_id)
        add_preview(tx, claimed, 0, "An ans", NOON)
    await release(database, claimed, error="The engine died.")
    assert not await edit(database)
    assert not await cancel(database)
    assert (await claim(database)).question_id == question_id


async def test_an_unknown_message_is_neither_edited_nor_cancelled(database: Database) -> None:
    assert not await edit(database)
    assert not await cancel(database)


async def test_a_message_rests_until_it_is_woken(database: Database) -> None:
    with database.transaction() as tx:
        add_received(tx, received(), NOON, rest_until=later(5))
    assert await try_claim(database) is None
    with database.transaction() as tx:
        assert wake_received(tx, "discord", "club", "general", "1")
    assert await try_claim(database) is not None


async def test_a_conversation_is_answered_in_the_order_in_which_it_was_spoken(database: Database) -> None:
    await add_many(database, received("3", second=2), received("1"), received("2", second=1))
    order = []
    while (claimed := await try_claim(database)) is not None:
        assert await try_claim(database) is None
        order.append(claimed.received.message_id)
        await close(database, claimed)
    assert order == ["1", "2", "3"]


async def test_messages_of_one_instant_are_answered_in_the_order_in_which_they_came(
    database: Database,
) -> None:
    await add_many(database, received("b"), received("a"))
    await close(database, first := await claim(database))
    assert (first.received.message_id, (await claim(database)).received.message_id) == ("b", "a")


async def test_conversations_are_answered_beside_each_other(database: Database) -> None:
    await add_many(
        database,
        received("1"),
        received("2", second=1),
        received("3", second=2, channel="random"),
        replace(received("4", second=3), thread="t"),
    )
    claims = [await claim(database) for _ in range(3)]
    assert [claimed.received.message_id for claimed in claims] == ["1", "3", "4"]
    assert await try_claim(database) is None


async def test_only_the_platforms_that_are_served_are_claimed(database: Database) -> None:
    await add(database, replace(received(), platform="slack"))
    assert await try_claim(database) is None
    with database.reading() as session:
        assert not is_any_due(session, DISCORD, NOON)
        assert is_any_due(session, ("discord", "slack"), NOON)


async def test_many_claimers_at_once_get_each_message_once(database: Database) -> None:
    await add_many(database, *(received(str(number), channel=f"c{number % 4}") for number in range(12)))
    claims = await asyncio.gather(*(try_claim(database, f"process {number}") for number in range(8)))
    got = [claimed for claimed in claims if claimed is not None]
    assert sorted(claimed.received.channel for claimed in got) == ["c0", "c1", "c2", "c3"]
    assert {claimed.received.message_id for claimed in got} == {"0", "1", "2", "3"}


async def test_several_are_claimed_at_once_but_none_behind_another(database: Database) -> None:
    await add_many(
        database, received("1"), received("2", second=1), received("3", second=2, channel="random")
    )

    async def several(most: int) -> list[str]:
        claims = await database.write(
            claim_several, most, owner="me", platforms=DISCORD, now=NOON, lease_seconds=LEASE
        )
        return [claimed.received.message_id for claimed in claims]

    assert await several(1) == ["1"]
    assert await several(8) == ["3"]
    assert await several(8) == []


async def test_claimers_and_closers_at_once_answer_everything_once_and_in_order(database: Database) -> None:
    await add_many(
        database,
        *(received(str(number), second=number, channel=f"c{number % 3}") for number in range(18)),
    )
    seen: list[str] = []
    at_work: set[str] = set()

    async def work(owner: str) -> None:
        while len(seen) < 18:
            claimed = await try_claim(database, owner)
            if claimed is None:
                continue
            assert claimed.received.channel not in at_work
            at_work.add(claimed.received.channel)
            seen.append(claimed.received.message_id)
            await asyncio.sleep(0)
            at_work.remove(claimed.received.channel)
            await close(database, claimed)

    await asyncio.gather(*(work(f"process {number}") for number in range(4)))
    for channel in range(3):
        order = [int(message_id) for message_id in seen if int(message_id) % 3 == channel]
        assert order == list(range(channel, 18, 3))


async def test_an_expired_lease_is_taken_over_and_the_old_holder_writes_nothing_more(
    database: Database,
) -> None:
    await add(database)
    old = await claim(database, "old")
    assert await try_claim(database, "new", later(LEASE - 1)) is None
    new = await claim(database, "new", later(LEASE))
    assert (new.inbox_id, new.attempts) == (old.inbox_id, 2)
    assert new.fence > old.fence

    writes: Sequence[Callable[[Session], object]] = (
        lambda tx: renew_claim(tx, old, later(600)),
        lambda tx: release_claim(tx, old),
        lambda tx: record_decision(tx, old, "answer"),
        lambda tx: close_received(tx, old, "done"),
        lambda tx: guard(tx, old),
        lambda tx: add_preview(tx, old, 0, "An ans", NOON),
        lambda tx: commit_answer(tx, old, ["No."], decision="answer", answer_id=None, shown={}),
    )
    for write in writes:
        with pytest.raises(ClaimLost, match="Message 1 is answered by another process now"):
            await database.write(write)
    kept = await row(database)
    assert (kept.state, kept.lease_owner, kept.decision) == ("claimed", "new", None)
    await commit(database, new, "Yes.")


async def test_a_renewed_lease_holds_for_longer(database: Database) -> None:
    await add(database)
    claimed = await claim(database)
    with database.transaction() as tx:
        renew_claim(tx, claimed, later(600))
    assert await try_claim(database, "other", later(LEASE)) is None
    assert await try_claim(database, "other", later(600)) is not None


async def test_a_claim_released_without_an_error_was_no_attempt(database: Database) -> None:
    await add(database)
    for _ in range(3):
        claimed = await claim(database)
        assert claimed.attempts == 1
        await release(database, claimed)
    assert (await row(database)).state == "new"


async def test_a_claim_released_with_an_error_was_one_and_rests(database: Database) -> None:
    await add(database)
    await release(database, await claim(database), rest_until=later(4), error="The engine died.")
    assert (await row(database)).last_error == "The engine died."
    assert await try_claim(database) is None
    assert (await claim(database, at=later(4))).attempts == 2


async def test_what_rests_holds_back_what_came_after_it(database: Database) -> None:
    await add_many(database, received("1"), received("2", second=1))
    await release(database, await claim(database), rest_until=later(4), error="The engine died.")
    assert await try_claim(database) is None
    with database.reading() as session:
        assert is_any_due(session, DISCORD, NOON)


async def test_whoever_has_released_a_claim_cannot_renew_it(database: Database) -> None:
    await add(database)
    claimed = await claim(database)
    await release(database, claimed)
    with pytest.raises(ClaimLost), database.transaction() as tx:
        renew_claim(tx, claimed, later(600))
    assert await try_claim(database) is not None


async def test_a_committed_answer_stays_committed_when_its_claim_is_released(database: Database) -> None:
    await add(database)
    claimed = await claim(database)
    await commit(database, claimed, "An answer.")
    await release(database, claimed, rest_until=later(1), error="Too many posts.")
    again = await claim(database, at=later(1))
    assert again.answered
    assert again.attempts == claimed.attempts
    await release(database, again)
    assert (await claim(database)).answered


async def test_the_only_process_takes_up_at_once_what_was_held_before_it(database: Database) -> None:
    await add_many(database, received("1"), received("2", channel="random"))
    await commit(database, await claim(database, "before"), "An answer.")
    await claim(database, "before")
    assert await try_claim(database) is None
    with database.transaction() as tx:
        release_all_claims(tx)
    assert (await claim(database)).answered
    assert not (await claim(database)).answered


async def test_a_closed_row_forgets_who_said_what_and_the_token(database: Database) -> None:
    await add(database, replace(received(), token="t"))
    claimed = await claim(database)
    await commit(database, claimed, "An answer.")
    with database.transaction() as tx:
        close_received(tx, claimed, "dead", "No.")
    kept = await row(database)
    assert (kept.state, kept.decision, kept.last_error) == ("dead", "answer", "No.")
    assert (kept.text, kept.token, kept.author_id, kept.author_name) == ("", None, "", "")
    assert (kept.lease_owner, kept.lease_until) == (None, None)
    with database.reading() as session:
        assert list(session.scalars(select(tables.Outbox.body))) == [""]
    with pytest.raises(ClaimLost):
        await close(database, claimed)
    assert not await add(database)


async def test_decisions_are_counted(database: Database) -> None:
    await add_many(database, received("1"), received("2", second=1), received("3", second=2))
    await close(database, await claim(database))
    await claim(database)
    with database.reading() as session:
        assert count_received(session) == {"ignore": 1, "undecided": 2}


async def test_an_earlier_message_that_is_found_late_waits_for_the_one_that_is_being_answered(
    database: Database,
) -> None:
    await add(database, received("2", second=1))
    newer = await claim(database, "one")
    await add(database, received("1"))
    assert await try_claim(database, "other") is None
    await close(database, newer)
    assert (await claim(database, "other")).received.message_id == "1"


async def test_an_answer_that_is_being_sent_is_finished_before_an_earlier_message_that_is_found_late(
    database: Database,
) -> None:
    await add(database, received("2", second=1))
    newer = await claim(database)
    await commit(database, newer, "One part.", "Another.")
    await release(database, newer, rest_until=later(5), error="Too many posts.")
    await add(database, received("1"))
    assert await try_claim(database) is None
    again = await claim(database, at=later(5))
    assert again.received.message_id == "2"
    await close(database, again)
    assert (await claim(database)).received.message_id == "1"


async def test_whoever_lets_a_lease_end_loses_it_to_an_earlier_message_that_was_found_late(
    database: Database,
) -> None:
    """Otherwise it could renew it, and two messages of a conversation would be answered at once."""
    await add(database, received("2", second=1))
    newer = await claim(database, "slow")
    await add(database, received("1"))
    earlier = await claim(database, "other", later(LEASE))
    assert earlier.received.message_id == "1"
    with pytest.raises(ClaimLost), database.transaction() as tx:
        renew_claim(tx, newer, later(600))
    await close(database, earlier)
    assert (await claim(database, "other", later(LEASE))).received.message_id == "2"


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
async def test_an_earlier_message_that_is_found_during_a_claim_waits_for_it(database: Database) -> None:
    """A transaction that claims sees neither the other's claim before its commit nor a message after its own look."""
    await add(database, received("2", second=1))
    with database.transaction() as one:
        newer = claim_in(one, "one")
        await add(database, received("1"))
        other = asyncio.create_task(try_claim(database, "other"))
        await wait_for_the_lock_of_claims(database, other)
    assert newer is not None
    assert newer.received.message_id == "2"
    assert await other is None
    await close(database, newer)
    assert (await claim(database, "other")).received.message_id == "1"


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
async def test_the_next_message_waits_for_the_commit_that_closes_the_one_before_it(
    database: Database,
) -> None:
    await add_many(database, received("1"), received("2", second=1))
    first = await claim(database)
    with database.transaction() as closing:
        close_received(closing, first, "done")
        assert await try_claim(database, "other") is None
        assert await try_claim(database, "other", later(LEASE)) is None
    assert (await claim(database, "other")).received.message_id == "2"


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
async def test_a_message_that_is_just_being_cancelled_is_passed_over(database: Database) -> None:
    await add_many(database, received("1"), received("2", second=1), received("3", channel="random"))
    with database.transaction() as cancelling:
        assert cancel_received(cancelling, "discord", "club", "general", "1")
        assert (await claim(database)).received.message_id == "3"
        assert await try_claim(database) is None
    assert (await claim(database)).received.message_id == "2"


async def wait_for_the_lock_of_claims(database: Database, claiming: asyncio.Task[Claim | None]) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = "
        f"{CLAIM_LOCK & 0xFFFFFFFF}"
    )
    with database.reading() as session:
        connection = session.connection()
        while (connection.exec_driver_sql(waiting)).scalar() == 0:
            assert not claiming.done()
            await asyncio.sleep(0)
