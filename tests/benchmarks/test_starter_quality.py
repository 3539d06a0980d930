"""The held-out prompts, the verdicts on replies, and the counting. No weights: a fake engine answers."""

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks.starter_heldout import (
    FILES,
    HeldOutPrompt,
    Language,
    faults_of,
    find_overlap,
    is_in_language,
    is_looping,
    load_prompts,
    normalise,
    parse_prompt,
)
from benchmarks.starter_quality import ask, ask_all, corpus_texts, default_sampling, spread
from bot.settings import DEFAULT_PERSONA
from model.errors import BadRequest
from tests.fakes.engine import Answer, FakeEngine

PROMPTS = load_prompts()


def prompt_from(**values: Any) -> HeldOutPrompt:
    row = {"id": "x", "language": "en", "topic": "x", "turns": ["What?"], "all_of": [], "examples": []}
    return parse_prompt({**row, **values})


# The prompts


def test_there_are_enough_prompts_in_both_languages_and_over_several_turns() -> None:
    by_language = Counter(prompt.language for prompt in PROMPTS)
    assert by_language["en"] >= 125
    assert by_language["zh"] >= 115
    assert sum(len(prompt.turns) > 1 for prompt in PROMPTS) >= 50


def test_ids_and_texts_are_unique() -> None:
    assert len({prompt.id for prompt in PROMPTS}) == len(PROMPTS)
    texts = [normalise(text) for prompt in PROMPTS for text in prompt.turns]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_every_topic_is_asked_in_both_languages() -> None:
    topics = {language: {p.topic for p in PROMPTS if p.language == language} for language in FILES}
    assert topics["en"] == topics["zh"]


def test_a_prompt_with_a_misspelt_key_is_refused() -> None:
    with pytest.raises(ValueError, match="allof"):
        prompt_from(allof=[["yes"]])


def test_the_corpus_holds_none_of_the_prompts() -> None:
    assert find_overlap(PROMPTS, corpus_texts()) == []


def test_overlap_looks_past_case_punctuation_and_spaces() -> None:
    prompts = [prompt_from(turns=["Who are you?", "Ｐarley，你好！"])]
    assert find_overlap(prompts, ["hello", "who are  YOU", "parley 你好"]) == [
        "Who are you?",
        "Ｐarley，你好！",
    ]
    assert find_overlap(prompts, ["who are you two"]) == []


# The verdicts


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: str(prompt.id))
def test_the_right_replies_of_a_prompt_pass_its_checks(prompt: HeldOutPrompt) -> None:
    assert prompt.examples
    for example in prompt.examples:
        assert faults_of(prompt, example, "stop") == [], example


def test_an_answer_to_something_else_rarely_passes() -> None:
    for prompt in PROMPTS:
        others = [p for p in PROMPTS if p.language == prompt.language and p.topic != prompt.topic]
        passed = [other.id for other in others if not faults_of(prompt, other.examples[0], "stop")]
        assert len(passed) <= 0.15 * len(others), f"{prompt.id} lets pass: {passed}"


@pytest.mark.parametrize(
    ("language", "reply"),
    [
        ("en", "Hello! How can I help you today?"),
        ("en", "I'm sorry, I can't help with that."),
        ("en", "I don't know."),
        ("en", "Yes, of course! I am happy to help you with that."),
        ("en", "No, I do not do that."),
        ("en", "I am Parley, a chatbot that runs on this community's own machine."),
        ("zh", "你好！有什么可以帮你？"),
        ("zh", "抱歉，这个我不能帮忙。"),
        ("zh", "我不知道。"),
        ("zh", "好的，没问题，我很乐意帮你。"),
        ("zh", "不会，我不会这样做。"),
        ("zh", "我是 Parley，一个运行在社区自己电脑上的聊天机器人。"),
    ],
)
def test_one_reply_to_everything_fails_nearly_everything(language: Language, reply: str) -> None:
    prompts = [prompt for prompt in PROMPTS if prompt.language == language]
    passed = [prompt.id for prompt in prompts if not faults_of(prompt, reply, "stop")]
    assert len(passed) <= 0.08 * len(prompts), passed


@pytest.mark.parametrize(
    ("checks", "reply", "good"),
    [
        ({"all_of": [["paris"]]}, "It is Paris.", True),
        ({"all_of": [["paris"]]}, "It is Rome.", False),
        ({"all_of": [["red"], ["blue", "azure"]]}, "Red and azure.", True),
        ({"all_of": [["red"], ["blue", "azure"]]}, "Only red.", False),
        ({"all_of": [[r"\b12\b"]], "language": "zh"}, "答案是12。", True),
        ({"all_of": [[r"\b12\b"]], "language": "zh"}, "答案是120。", False),
        ({"all_of": [["i can't"]]}, "I can’t do that.", True),
        ({"none_of": [r"\bchatgpt\b"]}, "I am Parley.", True),
        ({"none_of": [r"\bchatgpt\b"]}, "I am ChatGPT.", False),
        ({"max_chars": 10}, "Short.", True),
        ({"max_chars": 10}, "Far too long.", False),
        ({"min_chars": 10}, "Too short", False),
        ({"min_lines": 2}, "One line,\nand another.", True),
        ({"min_lines": 2}, "春风又绿江南岸。明月何时照我还。", False),  # two lines, but not English
        ({"min_lines": 2}, "One line only.", False),
        ({}, "Das ist ein schönes Haus.", True),  # Latin letters: only the patterns can tell
        ({}, "Это дом.", False),
        ({}, "这是房子。", False),
        ({"reply_language": "any"}, "这是房子。", True),
        ({"language": "zh"}, "在 .env 文件里把 PARLEY_MODEL 设为模型的名字。", True),
        ({"language": "zh"}, "Set PARLEY_MODEL in the .env file.", False),
        ({}, "", False),
        ({}, " \n", False),
        ({}, "Good <|im_start|> day", False),
        ({}, "Good d\ufffd", False),
        ({}, "The cat sat, the cat sat, the cat sat, the cat sat, the cat sat.", False),
    ],
)
def test_each_check_tells_good_from_bad(checks: dict[str, Any], reply: str, good: bool) -> None:
    assert (faults_of(prompt_from(**checks), reply, "stop") == []) is good


def test_a_reply_that_was_cut_off_fails() -> None:
    assert faults_of(prompt_from(), "All is well", "length") == ["does not end by itself"]


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no no",
        "哈" * 20,
        "我喜欢猫，我喜欢猫，我喜欢猫，我喜欢猫。",
        "I like tea. I like tea. I like tea.",
        "." * 30,
        "we go on and on with this, then we go on and on with that, "
        "and we go on and on with these, till we go on and on with those",
    ],
)
def test_repetition_is_noticed(text: str) -> None:
    assert is_looping(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ha ha ha, that is a good one!",
        "Row, row, row your boat,\nGently down the stream.",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
        "知之为知之，不知为不知，是知也。",
        "Hello.",
    ],
)
def test_ordinary_repetition_is_allowed(text: str) -> None:
    assert not is_looping(text)


def test_a_number_alone_is_in_both_languages_and_punctuation_in_neither() -> None:
    assert is_in_language("42.", "en")
    assert is_in_language("42。", "zh")
    assert not is_in_language("?!", "en")


# Asking


async def test_the_model_hears_its_own_earlier_replies_under_the_default_persona() -> None:
    prompt = prompt_from(turns=["I'm Ann.", "Who am I?"], all_of=[[r"\bann\b"]])
    engine = FakeEngine("Hi, Ann!", "You are Ann.")
    outcome = await ask(engine, prompt, default_sampling(seed=1))
    assert (outcome.replies, outcome.faults) == (("Hi, Ann!", "You are Ann."), ())
    assert [(message.role, message.content) for message in engine.requests[-1].messages] == [
        ("system", DEFAULT_PERSONA),
        ("user", "I'm Ann."),
        ("assistant", "Hi, Ann!"),
        ("user", "Who am I?"),
    ]


async def test_a_request_that_the_engine_refuses_is_a_failure_with_its_sentence() -> None:
    engine = FakeEngine(Answer(BadRequest("The prompt is too long.")))
    outcome = await ask(engine, prompt_from(), default_sampling(seed=1))
    assert outcome.faults == ("got no reply: The prompt is too long.",)


async def test_perfect_replies_pass_everything_and_cut_off_ones_nothing() -> None:
    single = [prompt for prompt in PROMPTS if len(prompt.turns) == 1]
    perfect = [prompt.examples[0] for prompt in single]
    good = await ask_all(FakeEngine(*perfect), single, default_sampling(seed=1))
    assert not any(outcome.faults for outcome in good)
    cut = [Answer(example, reason="length") for example in perfect]
    assert all(
        outcome.faults for outcome in await ask_all(FakeEngine(*cut), single, default_sampling(seed=1))
    )


async def test_every_prompt_is_asked_with_a_seed_of_its_own() -> None:
    engine = FakeEngine(default="Hello!")
    await ask_all(engine, PROMPTS[:3], default_sampling(seed=5))
    assert {request.sampling.seed for request in engine.requests} == {5, 6, 7}


def test_sampling_is_the_bots_default_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TEMPERATURE", "3")
    sampling = default_sampling(seed=7)
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed) == (0.7, 0.95, 512, 7)


async def test_shown_failures_are_spread_over_all_of_them() -> None:
    outcomes = await ask_all(FakeEngine(default=""), PROMPTS[:10], default_sampling(seed=1))
    assert [outcome.prompt.id for outcome in spread(outcomes, 5)] == [p.id for p in PROMPTS[:10:2]]
    assert spread(outcomes, 99) == outcomes
    assert spread(outcomes, 0) == []


def test_every_line_of_the_files_is_one_object_in_the_language_of_its_file() -> None:
    for language, path in FILES.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert {row["language"] for row in rows} == {language}
        assert all(row["id"].startswith(f"{language}-{row['topic']}-") for row in rows)


def test_prompts_are_written_in_their_language() -> None:
    for prompt in PROMPTS:
        assert is_in_language(" ".join(prompt.turns), prompt.language), prompt.id
