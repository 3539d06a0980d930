"""The starter's corpus: enough of it, well formed, in both languages, and true where truth can be computed."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest

from model.starter.corpus import COUNT, Dialogue, dialogues
from model.starter.corpus.arithmetic import Arithmetic
from model.starter.corpus.memory import Memory
from model.starter.corpus.names import INVENTED
from model.starter.corpus.numerals import in_words
from model.starter.corpus.scenes import Stage, read_all_blocks, usable_rows
from model.starter.corpus.templates import TemplateError, expand, parse_template, read_blocks, slots_of
from model.starter.corpus.words import FOLDER, Language, read_plan, read_table, read_words

LANGUAGES: tuple[Language, ...] = ("en", "zh")
FORBIDDEN = re.compile(
    r"\b(?:fuck|shit|bitch|nigger|faggot|cunt|whore|retard)\w*|傻逼|操你|他妈的",
    re.IGNORECASE,
)
SUM = re.compile(r"(?:(\d+) \+ )?(\d+) ([-+×÷]) (\d+) = (-?\d+)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
TABLES = sorted(path.stem for path in (FOLDER / "tables").glob("*.tsv"))


@pytest.fixture(scope="module")
def corpus() -> list[Dialogue]:
    return list(dialogues())


def replies(corpus: list[Dialogue]) -> Iterator[str]:
    for dialogue in corpus:
        yield from (message.content for message in dialogue.messages if message.role == "assistant")


def test_there_are_at_least_20000_distinct_dialogues(corpus: list[Dialogue]) -> None:
    assert len({dialogue.messages for dialogue in corpus}) == len(corpus) == COUNT >= 20_000


def test_each_language_has_at_least_two_fifths(corpus: list[Dialogue]) -> None:
    languages = Counter(dialogue.language for dialogue in corpus)
    assert min(languages["en"], languages["zh"]) >= 0.4 * len(corpus)
    for dialogue in corpus:
        if dialogue.language == "en" and dialogue.topic not in ("greeting", "parley", "translate"):
            assert len(CHINESE.findall(dialogue.messages[1].content)) < 40


def test_user_and_model_alternate_for_2_to_8_turns(corpus: list[Dialogue]) -> None:
    for dialogue in corpus:
        roles = [message.role for message in dialogue.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert 2 <= len(roles) // 2 <= 8


def test_no_text_is_empty_or_long_or_carries_a_sign_of_the_notation(corpus: list[Dialogue]) -> None:
    for dialogue in corpus:
        for message in dialogue.messages:
            assert message.content.strip() == message.content != ""
            assert len(message.content) <= 600
            assert not re.search("[\ue000-\uf8ff]|a\\(n\\)", message.content), message.content


def test_no_slot_or_choice_is_left_in_a_reply(corpus: list[Dialogue]) -> None:
    left = re.compile(r"<[a-z_]+(\.\d)?>|\{[^\"}]*\}")
    assert [reply for reply in replies(corpus) if left.search(reply)] == []


def test_no_forbidden_word_stands_in_the_corpus(corpus: list[Dialogue]) -> None:
    for dialogue in corpus:
        for message in dialogue.messages:
            assert not FORBIDDEN.search(message.content), message.content


def test_every_sum_is_right(corpus: list[Dialogue]) -> None:
    found = Counter[str]()
    for reply in replies(corpus):
        for before, a, sign, b, result in SUM.findall(reply):
            found[sign] += 1
            worked_out = {"+": int(before or 0) + int(a) + int(b), "-": int(a) - int(b), "×": int(a) * int(b)}
            right = int(a) == int(b) * int(result) if sign == "÷" else worked_out[sign] == int(result)
            assert right, reply
    assert min(found[sign] for sign in "+-×÷") > 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sum_that_goes_on_begins_with_the_result_before(language: Language) -> None:
    random = Random(8)
    arithmetic = Arithmetic(Stage(random), random)
    went_on = 0
    for _ in range(600):
        scene = arithmetic.play(language, 4)
        for (_, before), (_, after) in pairwise(scene):
            assert re.findall(r"-?\d+", before)[-1] == re.findall(r"-?\d+", after)[0], (before, after)
            went_on += 1
    assert went_on > 50


def test_the_same_seed_gives_the_same_dialogues_and_another_seed_others() -> None:
    first, again, other = (list(dialogues(seed, 300)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_shorter_corpus_is_the_beginning_of_a_longer_one(corpus: list[Dialogue]) -> None:
    assert list(dialogues(count=200)) == list(islice(corpus, 200))


def test_the_same_dialogues_come_in_another_process(tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl"
    command = [sys.executable, "-m", "model.starter.corpus", str(out), "--count", "50"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "50 dialogues" in told
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for line, dialogue in zip(lines, dialogues(count=50), strict=True):
        assert (line["topic"], line["language"]) == (dialogue.topic, dialogue.language)
        contents = [
            (message["role"], message["content"], message.get("name")) for message in line["messages"]
        ]
        assert contents == [(message.role, message.content, message.name) for message in dialogue.messages]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_recalled_value_is_the_one_that_was_told(language: Language) -> None:
    random = Random(5)
    stage = Stage(random)
    for _ in range(400):
        memory = Memory(language, stage, random)
        told = memory.tell()[0]
        kind, values = next(iter(memory.told.items()))
        answer = memory.ask(kind)[1]
        recalled = [value for value in values.values() if value.lower() in answer.lower()]
        assert recalled, (told, answer)
        assert all(value.lower() in told.lower() for value in recalled), (told, answer)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_facts_are_told_that_one_question_would_ask_for(language: Language) -> None:
    random = Random(9)
    stage = Stage(random)
    for _ in range(300):
        memory = Memory(language, stage, random)
        for _ in range(5):
            memory.tell()
        told = set(memory.told)
        assert len(told) == 5
        assert len(told & {"city", "land", "two"}) <= 1 and len(told & {"name", "two"}) <= 1
        assert len(told & {"number", "code"}) <= 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_after_a_correction_the_new_name_is_recalled(language: Language) -> None:
    random = Random(6)
    stage = Stage(random)
    for _ in range(200):
        memory = Memory(language, stage, random)
        memory.tell("name")
        corrected = memory.correct()[0]
        new = memory.told["name"]["name"]
        assert new in corrected
        assert new in memory.ask("name")[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_about_what_was_never_told_does_not_claim_that_it_was(language: Language) -> None:
    random = Random(7)
    stage = Stage(random)
    for _ in range(300):
        question, answer = Memory(language, stage, random).ask_untold()
        assert re.search("haven't|don't know|还没|没说过|不知道", answer), (question, answer)
        assert not re.search("I told you|刚才说|告诉过你", question), question


def test_names_are_many_so_that_copying_is_learnt(corpus: list[Dialogue]) -> None:
    told = re.compile(r"Nice to meet you, ([^!.]+)!|很高兴认识你，([^！。]+)！")
    names = {match[0] or match[1] for reply in replies(corpus) for match in told.findall(reply)}
    assert len(names) > 2_000


def test_both_languages_have_the_same_topics_and_all_are_planned() -> None:
    topics = {
        language: {block.topic for block in read_all_blocks(language).values()} for language in LANGUAGES
    }
    assert topics["en"] == topics["zh"]
    assert topics["en"] - {"memory", "speakers"} == set(read_plan()["topics"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_said_again_in_the_other_language_exists_there_and_needs_no_word_list(
    language: Language,
) -> None:
    other = read_all_blocks("zh" if language == "en" else "en")
    for block in read_all_blocks(language).values():
        if not block.translated:
            continue
        assert other[block.id].translated, block.id
        assert other[block.id].table == block.table, block.id
        columns = set(read_table(block.table).rows[0]) if block.table else set()
        slots = {slot for answer in block.turns[0].answers for slot in slots_of(answer)}
        for slot in slots:
            assert {slot, f"{slot}_{language}"} & columns, (
                f"{block.id} speaks of {slot}, which no table holds."
            )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slot_has_a_table_a_list_or_a_giver(language: Language) -> None:
    given = {"memory", "speakers", "arithmetic"}
    for block in read_all_blocks(language).values():
        columns = set(read_table(block.table).rows[0]) if block.table else set()
        lists = {*read_words(language), *INVENTED}
        for turn in block.turns:
            for template in (*turn.questions, *turn.answers):
                for slot in slots_of(template):
                    name = slot.partition(".")[0]
                    known = {name, f"{name}_{language}"} & columns or name in lists or block.topic in given
                    assert known, f"{block.id}: <{slot}>"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_block_of_a_table_can_use_at_least_some_rows(language: Language) -> None:
    for block in read_all_blocks(language).values():
        if block.table:
            assert len(usable_rows(read_table(block.table), block, language)) >= 4, block.id


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_no_row_twice_and_no_padded_cell(name: str) -> None:
    rows = read_table(name).rows
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    assert all(cell == cell.strip() for row in rows for cell in row.values())
    for column in rows[0]:
        if column.endswith("_zh"):
            assert all(row[column] == "" or not row[column].isspace() for row in rows)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("countries", "country_en", "capital_en"),
        ("countries", "country_zh", "capital_zh"),
        ("opposites", "word_en", "opposite_en"),
        ("opposites", "word_zh", "opposite_zh"),
        ("definitions", "word_en", "meaning_en"),
        ("dictionary", "word", "meaning"),
        ("phrases", "phrase", "meaning"),
        ("works", "work_en", "maker_en"),
        ("animals", "animal_en", "class_en"),
        ("planets", "place_en", "planet_en"),
        ("calendar", "month_en", "days_en"),
    ],
)
def test_a_table_of_facts_gives_one_answer_to_one_question(name: str, key: str, value: str) -> None:
    answers: dict[str, set[str]] = {}
    for row in read_table(name).rows:
        answers.setdefault(row[key], set()).add(row[value])
    assert {word: given for word, given in answers.items() if len(given) > 1} == {}


def test_the_calendar_agrees_with_itself() -> None:
    for name, key in (("calendar", "month_en"), ("weekdays", "day_en"), ("seasons", "season_en")):
        rows = read_table(name).rows
        for before, row in zip((rows[-1], *rows), rows, strict=False):
            assert row["before_en"] == before[key]
            assert before["next_en"] == row[key]


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [
        (0, "zero", "零"),
        (10, "ten", "十"),
        (15, "fifteen", "十五"),
        (42, "forty-two", "四十二"),
        (105, "one hundred and five", "一百零五"),
        (110, "one hundred and ten", "一百一十"),
        (144, "one hundred and forty-four", "一百四十四"),
        (-3, "minus three", "负三"),
    ],
)
def test_a_number_is_worded_as_it_is_spoken(number: int, english: str, chinese: str) -> None:
    assert (in_words(number, "en"), in_words(number, "zh")) == (english, chinese)


def test_a_template_chooses_fills_slots_and_fits_the_article() -> None:
    template = parse_template("{hi|hi}, a(n) <animal> \\{x\\}")
    assert expand(template, Random(0), lambda _: "owl") == "hi, an \ue000owl\ue001 {x}"


def test_an_open_brace_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.txt"
    path.write_text("== one\n? hello {there\n! hi\n", encoding="utf-8")
    with pytest.raises(TemplateError, match=r"broken\.txt, line 2: .*never closed"):
        read_blocks(path)
