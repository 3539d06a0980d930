"""The judge of the delivery benchmark: it must find what it is there to find, and nothing else."""

from collections.abc import Mapping

from benchmarks.delivery_check import Said, Shown, Stored, Verdict, check, normalise
from benchmarks.delivery_echo import compose, number_in
from bot.splitting import split_text

ONE, TWO, THREE = (Said(number, f"m{number}", "here", addressed=True) for number in (1, 2, 3))
LONG = Said(6, "m6", "here", addressed=True)


def stored(*answers: tuple[Said, str], decisions: Mapping[str, str] | None = None) -> Stored:
    texts = {said.message_id: text for said, text in answers}
    return Stored(dict.fromkeys(texts, "answer") | dict(decisions or {}), texts)


def answered(*answers: tuple[Said, str]) -> tuple[list[Said], list[Shown], Stored]:
    shown = [Shown(said.conversation, text) for said, text in answers]
    return [said for said, _ in answers], shown, stored(*answers)


def counts(verdict: Verdict) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for kind, finding in verdict.findings:
        found.setdefault(kind, []).append(finding.number)
    return found


def test_when_each_is_answered_once_and_in_order_nothing_is_found() -> None:
    verdict = check(*answered((ONE, compose(1, "aaaaaa")), (TWO, compose(2, "bbbbbb"))))
    assert counts(verdict) == {}
    assert (verdict.messages, verdict.pairs, verdict.decisions) == (2, 1, {"answer": 2})


def test_a_message_without_an_answer_is_lost_unless_its_decision_says_why() -> None:
    said, shown, known = answered((ONE, compose(1, "aaaaaa")))
    decisions = {"m2": "expired", "m3": "answer"}
    verdict = check(
        [*said, TWO, THREE, LONG], shown, stored((ONE, compose(1, "aaaaaa")), decisions=decisions)
    )
    assert counts(verdict) == {"lost": [3, 6]}
    assert counts(check([*said, TWO], shown, None)) == {"lost": [2]}
    assert known.answers == {"m1": compose(1, "aaaaaa")}


def test_a_message_that_was_called_but_ignored_is_lost() -> None:
    assert counts(check([ONE], [], Stored({"m1": "ignore"}, {}))) == {"lost": [1]}


def test_the_same_generation_shown_twice_is_found() -> None:
    said, shown, known = answered((ONE, compose(1, "aaaaaa")))
    assert counts(check(said, shown * 2, known)) == {"twice": [1]}


def test_two_generations_side_by_side_are_found_even_if_one_is_cut_short() -> None:
    said, shown, known = answered((ONE, compose(1, "aaaaaa")))
    preview = Shown("here", compose(1, "bbbbbb").splitlines()[0])
    assert counts(check(said, [preview, *shown], known)) == {"twice": [1]}


def test_a_long_answer_in_several_messages_is_one_and_a_repeated_part_is_found() -> None:
    text = compose(6, "aaaaaa")
    parts = [Shown("here", part.strip()) for part in split_text(text, 2000)]
    assert len(parts) > 2
    assert counts(check([LONG], parts, stored((LONG, text)))) == {}
    assert counts(check([LONG], [*parts, parts[1]], stored((LONG, text)))) == {"twice": [6]}


def test_a_missing_part_and_a_text_that_is_not_the_stored_one_are_found() -> None:
    text = compose(6, "aaaaaa")
    parts = [Shown("here", part) for part in split_text(text, 2000)]
    assert counts(check([LONG], parts[:-1], stored((LONG, text)))) == {"text_differs": [6]}
    assert counts(check([LONG], parts, stored((LONG, compose(6, "bbbbbb"))))) == {"text_differs": [6]}
    assert counts(check([LONG], parts, Stored({"m6": "answer"}, {}))) == {"text_differs": [6]}
    assert counts(check([LONG], parts[:-1], None)) == {"text_differs": [6]}


def test_answers_in_the_opposite_order_are_found_unless_an_event_was_disturbed() -> None:
    said, shown, known = answered((ONE, compose(1, "aaaaaa")), (TWO, compose(2, "bbbbbb")))
    assert counts(check(said, shown[::-1], known)) == {"out_of_order": [2]}
    assert counts(check(said, shown[::-1], known, disturbed={"m1"})) == {}


def test_the_order_in_different_conversations_is_free() -> None:
    there = Said(2, "m2", "there", addressed=True)
    said, shown, known = answered((ONE, compose(1, "aaaaaa")), (there, compose(2, "bbbbbb")))
    assert counts(check(said, shown[::-1], known)) == {}


def test_an_answer_in_another_conversation_answers_nobody() -> None:
    said, _, known = answered((ONE, compose(1, "aaaaaa")))
    assert counts(check(said, [Shown("there", compose(1, "aaaaaa"))], known)) == {"lost": [1]}


def test_an_answer_to_what_was_said_to_nobody_is_found() -> None:
    aside = Said(4, "m4", "here", addressed=False)
    assert counts(check([aside], [Shown("here", compose(4, "aaaaaa"))], None)) == {"unasked": [4]}
    assert counts(check([aside], [], None)) == {}


def test_escapes_of_slack_and_trimmed_spaces_make_no_difference() -> None:
    assert normalise("tea &amp; &lt;b&gt; \n") == normalise("tea & <b>")


def test_a_question_is_known_by_its_number() -> None:
    assert (number_in("Anna: what is q17?"), number_in("hello")) == (17, None)
