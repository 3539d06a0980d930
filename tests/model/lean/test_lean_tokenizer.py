"""The lean tokenizer is transformers' own in every answer, and refuses what it could not answer alike."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from model.chat_format import ChatFormat
from model.checkpoint import STARTER_FOLDER
from model.engine.words import token_texts
from model.errors import BadRequest
from model.lean.shape import NotLean
from model.lean.tokenizer import LeanTokenizer
from model.request import ChatMessage
from tests.model.tiny_models import TEMPLATES, make_tokenizer

TEXTS = [
    "",
    "Hello there! How are you today?",
    "<|im_start|>system\nI am not<|im_end|>",
    "我喜欢在晴朗的日子里骑自行车。",
    " leading\n\n\ttabs  and <s> <think> 🚲\u200d",
]
MESSAGES = [
    (ChatMessage("user", "hello"),),
    (ChatMessage("system", " Be kind. "), ChatMessage("user", "hi <|im_end|>", name="Ann: x")),
    (
        ChatMessage("user", "one"),
        ChatMessage("assistant", "two\n"),
        ChatMessage("user", "three", name="Ben"),
        ChatMessage("user", "四"),
    ),
]
STARTER = "the starter"


@pytest.fixture(scope="module", params=[STARTER, *TEMPLATES])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == STARTER:
        return STARTER_FOLDER
    path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(TEMPLATES[request.param]).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[LeanTokenizer, object]:
    return LeanTokenizer(folder), AutoTokenizer.from_pretrained(folder)


Pair = tuple[LeanTokenizer, AutoTokenizer]


def test_what_it_is_made_of(pair: Pair) -> None:
    lean, full = pair
    assert len(lean) == len(full)
    for name in ("chat_template", "name_or_path", "model_max_length", "bos_token_id", "eos_token_id"):
        assert getattr(lean, name) == getattr(full, name), name
    assert set(lean.all_special_ids) == set(full.all_special_ids)
    assert {token: (added.content, added.special) for token, added in lean.added_tokens_decoder.items()} == {
        token: (added.content, added.special) for token, added in full.added_tokens_decoder.items()
    }
    ids = list(range(len(lean)))
    assert lean.convert_ids_to_tokens(ids) == full.convert_ids_to_tokens(ids)
    assert [token_texts(lean).bytes_of(token) for token in ids] == [
        token_texts(full).bytes_of(token) for token in ids
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_the_same_tokens_and_tokens_the_same_texts(pair: Pair, text: str) -> None:
    lean, full = pair
    for special in (True, False):
        ids = lean.encode(text, add_special_tokens=special)
        assert ids == full.encode(text, add_special_tokens=special)
        for skip in (True, False):
            assert lean.decode(ids, skip_special_tokens=skip) == full.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )


@pytest.mark.parametrize("messages", MESSAGES)
def test_dialogues_become_the_same_prompts(pair: Pair, messages: tuple[ChatMessage, ...]) -> None:
    lean, full = (ChatFormat(tokenizer) for tokenizer in pair)
    assert lean.stop_token_ids == full.stop_token_ids
    assert lean.stop_strings(messages) == full.stop_strings(messages)
    assert lean.render(messages) == full.render(messages)


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=4), last=st.booleans())
def test_the_starters_template_writes_the_same_for_any_texts(texts: list[str], last: bool) -> None:
    lean, full = LeanTokenizer(STARTER_FOLDER), AutoTokenizer.from_pretrained(STARTER_FOLDER)
    turns = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": text}
        for place, text in enumerate(texts)
    ]
    options = {"chat_template": full.chat_template, "add_generation_prompt": last, "tokenize": False}
    assert lean.apply_chat_template(turns, **options) == full.apply_chat_template(turns, **options)


def test_words_of_templates_mean_the_same(tmp_path: Path) -> None:
    template = (
        "{%- for message in messages %}{% if loop.index > 3 %}{% break %}{% endif %}\n"
        "    {{- message | tojson }}\n{{ bos_token }}{{ eos_token }}{% if tools %}tools{% endif %}"
        "{{ message.content | trim }}{{ thinking }}{% endfor %}"
    )
    make_tokenizer(template).save_pretrained(tmp_path)
    turns = [{"role": "user", "content": f' <a href="{place}">é '} for place in range(5)]
    written = [
        tokenizer.apply_chat_template(
            turns, chat_template=template, add_generation_prompt=True, tokenize=False, thinking=False
        )
        for tokenizer in (LeanTokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path))
    ]
    assert written[0] == written[1]


def test_a_template_refuses_a_dialogue_as_it_does_in_transformers(tmp_path: Path) -> None:
    make_tokenizer(
        "{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}{{ messages[0].content }}"
    ).save_pretrained(tmp_path)
    form = ChatFormat(LeanTokenizer(tmp_path))
    with pytest.raises(BadRequest, match="one"):
        form.render((ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c")))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, "LlamaTokenizer"),
        ({"add_bos_token": True}, "add_bos_token"),
        ({"eos_token": "<|nowhere|>"}, "nowhere"),
        ({"eos_token": {"content": "<|im_end|>"}}, "im_end"),
        ({"extra_special_tokens": ["hello"]}, "hello"),
    ],
)
def test_what_transformers_would_change_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(NotLean, match=reason):
        LeanTokenizer(tmp_path)


@pytest.mark.parametrize(
    "template", ["{% generation %}x{% endgeneration %}", "{% set a = namespace(b=1) %}", "{{ dict(a=1) }}"]
)
def test_templates_with_unusual_words_are_refused(tmp_path: Path, template: str) -> None:
    make_tokenizer(template).save_pretrained(tmp_path)
    with pytest.raises(NotLean, match="unusual"):
        LeanTokenizer(tmp_path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotLean, match="cannot be read"):
        LeanTokenizer(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(NotLean, match="cannot be read"):
        LeanTokenizer(tmp_path)
