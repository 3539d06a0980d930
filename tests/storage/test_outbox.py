"""What goes out is written down before it is sent, and an answer's text is fixed by its commit."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Literal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import tables
from storage.database import Database
from storage.errors import ClaimLost
from storage.inbox import Claim, record_decision
from storage.outbox import (
    Part,
    add_preview,
    commit_answer,
    conclude_answer,
    list_parts,
    mark_failed,
    mark_not_posted,
    mark_pending,
    mark_posted,
    mark_sending,
    mark_sent,
)
from storage.tables import PartOp, PartState
from tests.storage.test_conversations import answer, say, talk
from tests.storage.test_inbox import (
    LEASE,
    NOON,
    add,
    claim,
    commit,
    later,
    received,
    row,
)

Early = Literal["none", "not applied", "in doubt", "posted", "refused"]
"""What became of a part that was posted while the answer was being written."""


async def parts(database: Database, claimed: Claim) -> list[Part]:
    return await database.read(list_parts, claimed)


async def started(database: Database, channel: str = "general") -> Claim:
    await add(database, received(channel=channel))
    return await claim(database)


async def preview(database: Database, claimed: Claim, number: int, came_to: Early, body: str = "An") -> None:
    if came_to == "none":
        return
    with database.transaction() as tx:
        part = add_preview(tx, claimed, number, body, NOON)
    with database.transaction() as tx:
        if came_to == "posted":
            mark_sent(tx, claimed, part, f"early {number}")
        elif came_to == "not applied":
            mark_pending(tx, claimed, part, "Too many posts.")
        elif came_to == "refused":
            mark_failed(tx, claimed, part, "I may not.")


async def commit_shown(
    database: Database, claimed: Claim, *bodies: str, shown: Mapping[int, str] | None = None
) -> None:
    await database.write(commit_answer, claimed, bodies, decision="answer", answer_id=None, shown=shown or {})


async def outcome(database: Database, claimed: Claim) -> list[tuple[PartOp, PartState, str]]:
    return [(part.op, part.state, part.body) for part in await parts(database, claimed)]


async def test_a_committed_answer_waits_part_by_part_to_be_posted(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.", "Two.")
    first, second = await parts(database, claimed)
    assert (first.part, first.op, first.state, first.body) == (0, "post", "pending", "One.")
    assert (second.part, second.op, second.state, second.body) == (1, "post", "pending", "Two.")
    assert (first.external_id, first.first_try_at, first.attempts) == (None, None, 0)
    assert (await row(database)).state == "answered"


async def test_every_part_has_a_marker_of_its_own_of_24_digits(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.", "Two.")
    markers = {part.nonce for part in await parts(database, claimed)}
    assert len(markers) == 2
    assert all(len(marker) == 24 and int(marker, 16) >= 0 for marker in markers)


async def test_a_preview_counts_as_being_sent_from_the_start(database: Database) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, "in doubt")
    (part,) = await parts(database, claimed)
    assert (part.op, part.state, part.body) == ("post", "sending", "An")
    assert (part.first_try_at, part.attempts, part.external_id) == (NOON, 1, None)


WITHIN: dict[Early, tuple[PartOp, PartState]] = {
    "none": ("post", "pending"),
    "not applied": ("post", "pending"),
    "refused": ("post", "pending"),
    "in doubt": ("edit", "sending"),
    "posted": ("edit", "pending"),
}
SURPLUS: dict[Early, tuple[PartOp, PartState] | None] = {
    "none": None,
    "not applied": None,
    "refused": None,
    "in doubt": ("delete", "sending"),
    "posted": ("delete", "pending"),
}
EARLY: tuple[Early, ...] = ("none", "not applied", "refused", "in doubt", "posted")


@pytest.mark.parametrize("length", [0, 1, 2, 3])
async def test_a_commit_makes_of_early_parts_what_the_final_text_needs(
    database: Database, length: int
) -> None:
    for first, second in product(EARLY, EARLY):
        claimed = await started(database, channel=f"{first} {second}")
        await preview(database, claimed, 0, first)
        await preview(database, claimed, 1, second)
        await commit(database, claimed, *[f"Final {number}." for number in range(length)])
        wanted: list[tuple[PartOp, PartState, str]] = []
        for number, early in enumerate((first, second, "none")):
            if number < length:
                wanted.append((*WITHIN[early], f"Final {number}."))
            elif (surplus := SURPLUS[early]) is not None:
                wanted.append((*surplus, "An"))
        assert await outcome(database, claimed) == wanted, (first, second)


@pytest.mark.parametrize(
    ("early", "marked", "state"),
    [
        ("none", True, "sending"),
        ("not applied", True, "sending"),
        ("in doubt", False, "sending"),
        ("posted", False, "pending"),
    ],
)
async def test_a_commit_marks_what_is_sent_next_if_that_is_a_post_that_was_not_begun(
    database: Database, early: Early, marked: bool, state: PartState
) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, early)
    with database.transaction() as tx:
        committed = commit_answer(
            tx, claimed, ["One.", "Two."], decision="answer", answer_id=None, shown={}, now=later(1)
        )
    first, second = await parts(database, claimed)
    assert committed.parts == [first, second]
    assert committed.marked == (first if marked else None)
    assert (first.state, second.state) == (state, "pending")
    assert first.first_try_at == (later(1) if early == "none" else NOON)


async def test_the_marker_of_an_early_part_stays(database: Database) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, "in doubt")
    (before,) = await parts(database, claimed)
    await commit(database, claimed, "Final.")
    (after,) = await parts(database, claimed)
    assert after.nonce == before.nonce
    assert after.first_try_at == NOON


async def test_a_preview_that_shows_the_final_text_needs_no_edit(database: Database) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, "posted", "Final.")
    await preview(database, claimed, 1, "posted", "Fin")
    await commit_shown(database, claimed, "Final.", "Final too.", shown={0: "Final.", 1: "Fin"})
    assert await outcome(database, claimed) == [("edit", "sent", "Final."), ("edit", "pending", "Final too.")]


async def test_a_preview_in_doubt_needs_its_edit_whatever_it_seemed_to_show(database: Database) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, "in doubt", "Final.")
    await commit_shown(database, claimed, "Final.", shown={0: "Final."})
    assert await outcome(database, claimed) == [("edit", "sending", "Final.")]


async def test_a_part_is_posted(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.")
    (part,) = await parts(database, claimed)
    with database.transaction() as tx:
        mark_sending(tx, claimed, part, later(1))
    (part,) = await parts(database, claimed)
    assert (part.state, part.first_try_at, part.attempts) == ("sending", later(1), 1)
    with database.transaction() as tx:
        mark_sent(tx, claimed, part, "42")
    (part,) = await parts(database, claimed)
    assert (part.state, part.external_id) == ("sent", "42")


async def test_every_try_is_counted_from_the_first_on(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.")
    for second in (1, 2):
        (part,) = await parts(database, claimed)
        with database.transaction() as tx:
            mark_sending(tx, claimed, part, later(second))
        with database.transaction() as tx:
            mark_pending(tx, claimed, part, "Too many posts.")
    (part,) = await parts(database, claimed)
    assert (part.state, part.first_try_at, part.attempts) == ("pending", later(1), 2)


async def test_a_post_in_doubt_that_stands_there_is_sent(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.")
    await in_doubt(database, claimed)
    (part,) = await parts(database, claimed)
    with database.transaction() as tx:
        mark_posted(tx, claimed, part, "42")
    (part,) = await parts(database, claimed)
    assert (part.op, part.state, part.external_id) == ("post", "sent", "42")


async def test_a_post_in_doubt_that_does_not_stand_there_is_posted_again(database: Database) -> None:
    claimed = await started(database)
    await commit(database, claimed, "One.")
    await in_doubt(database, claimed)
    (part,) = await parts(database, claimed)
    with database.transaction() as tx:
        mark_not_posted(tx, claimed, part)
    assert await outcome(database, claimed) == [("post", "pending", "One.")]


@pytest.mark.parametrize(
    ("bodies", "stands", "wanted"),
    [
        (["Final."], True, ("edit", "pending", "Final.")),
        (["Final."], False, ("post", "pending", "Final.")),
        ([], True, ("delete", "pending", "An")),
        ([], False, ("delete", "sent", "An")),
    ],
)
async def test_a_preview_in_doubt_is_resolved_after_the_commit(
    database: Database, bodies: list[str], stands: bool, wanted: tuple[str, str, str]
) -> None:
    claimed = await started(database)
    await preview(database, claimed, 0, "in doubt")
    await commit(database, claimed, *bodies)
    (part,) = await parts(database, claimed)
    with database.transaction() as tx:
        if stands:
            mark_posted(tx, claimed, part, "42")
        else:
            mark_not_posted(tx, claimed, part)
    assert await outcome(database, claimed) == [wanted]


async def test_a_new_commit_after_a_crash_takes_over_the_early_parts_of_the_try_before(
    database: Database,
) -> None:
    await add(database)
    await preview(database, await claim(database, "old"), 0, "posted")
    new = await claim(database, "new", later(LEASE))
    await commit(database, new, "Another answer.")
    (part,) = await parts(database, new)
    assert (part.op, part.state, part.external_id) == ("edit", "pending", "early 0")


async def test_whoever_lost_the_claim_changes_no_part(database: Database) -> None:
    await add(database)
    old = await claim(database, "old")
    await commit(database, old, "One.")
    new = await claim(database, "new", later(LEASE))
    (part,) = await parts(database, new)
    writes: Sequence[Callable[[Session], object]] = (
        lambda tx: mark_sending(tx, old, part, NOON),
        lambda tx: mark_sent(tx, old, part, "42"),
        lambda tx: mark_posted(tx, old, part, "42"),
        lambda tx: mark_pending(tx, old, part, "No."),
        lambda tx: mark_not_posted(tx, old, part),
        lambda tx: mark_failed(tx, old, part, "No."),
        lambda tx: conclude_answer(tx, old),
    )
    for write in writes:
        with pytest.raises(ClaimLost), database.transaction() as tx:
            write(tx)
    assert await parts(database, new) == [part]


async def test_a_concluded_answer_is_closed_and_the_dialogue_knows_where_it_stands(
    database: Database,
) -> None:
    claimed = await started(database)
    with database.transaction() as tx:
        conversation = talk(tx)
        question_id = say(tx, conversation, "question 1", "1")
        answer_id = answer(tx, conversation, question_id, "One. Two. Three.")
        record_decision(tx, claimed, "answer", question_id)
        commit_answer(
            tx, claimed, ["One.", "Two.", "Three."], decision="answer", answer_id=answer_id, shown={}
        )
    for part in await parts(database, claimed):
        with database.transaction() as tx:
            if part.part == 1:
                mark_failed(tx, claimed, part, "It is too long.")
            else:
                mark_sent(tx, claimed, part, f"post {part.part}")
    with database.transaction() as tx:
        conclude_answer(tx, claimed)
    closed = await row(database)
    assert (closed.state, closed.decision, closed.last_error) == ("done", "answer", "It is too long.")
    assert (closed.text, closed.author_name) == ("", "")
    with database.reading() as session:
        shown = session.scalars(select(tables.MessagePart.external_id).order_by(tables.MessagePart.part))
        assert list(shown) == ["post 0", "post 2"]


async def test_an_answer_that_gave_up_is_concluded_as_dead(database: Database) -> None:
    claimed = await started(database)
    with database.transaction() as tx:
        commit_answer(tx, claimed, ["Sorry."], decision="dead", answer_id=None, shown={})
    with database.transaction() as tx:
        conclude_answer(tx, claimed)
    assert ((await row(database)).state, (await row(database)).decision) == ("dead", "dead")


async def test_the_next_message_is_claimed_once_the_answer_before_it_is_concluded(database: Database) -> None:
    claimed = await started(database)
    await add(database, received("2", second=1))
    await commit(database, claimed, "One.")
    with database.transaction() as tx:
        conclude_answer(tx, claimed)
    assert (await claim(database)).received.message_id == "2"


async def in_doubt(database: Database, claimed: Claim, now: datetime = NOON) -> None:
    for part in await parts(database, claimed):
        with database.transaction() as tx:
            mark_sending(tx, claimed, part, now)
