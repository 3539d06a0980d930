"""A constrained reply is what it was meant to be, however wild the model's scores are."""

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from model.constraints import compile_constraint
from model.engine.sampler import Choice, Sampler, choose
from model.engine.words import token_texts
from model.errors import BadRequest
from model.request import Constraint, SamplingParams
from tests.model.tiny_models import make_tokenizer

CPU = torch.device("cpu")
WILD = SamplingParams(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
SUMS = """
start: product (" + " product)?
product: NUMBER (" * " NUMBER)?
NUMBER: /[0-9]{1,3}/
"""


@cache
def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    return {
        "chat": make_tokenizer(),
        "base": make_tokenizer(None),
        "starter": AutoTokenizer.from_pretrained("model/starter/weights"),
    }


def write(
    constraint: Constraint,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sampling: SamplingParams = WILD,
    seed: int = 0,
    most: int = 400,
) -> str:
    """The reply to random scores; it must come to its end by itself."""
    vocabulary = len(tokenizer) + 3  # as a model whose vocabulary was rounded up
    stops = frozenset([tokenizer.eos_token_id, vocabulary - 1])
    sampler = Sampler(
        replace(sampling, seed=seed),
        prompt=[],
        vocabulary=vocabulary,
        stop_tokens=stops,
        words=token_texts(tokenizer),
        constraint=compile_constraint(constraint, tokenizer),
    )
    generator = torch.Generator().manual_seed(seed)
    written: list[int] = []
    for _ in range(most):
        [choice] = choose([sampler], torch.randn(1, vocabulary, generator=generator) * 2)
        assert isinstance(choice, Choice), choice
        sampler.accept(choice.token)
        if choice.token in stops:
            text: str = tokenizer.decode(written, skip_special_tokens=True)
            return text
        written.append(choice.token)
    raise AssertionError(f"no end after {most} tokens: {tokenizer.decode(written)}")


LEAVES = st.sampled_from(
    [
        {"type": "integer", "minimum": -5, "maximum": 2000},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "string", "maxLength": 6},
        {"type": "string", "pattern": "^[a-f]{2,4}$"},
        {"enum": ["red", "绿色", 'a "quoted" one', 3]},
        {"const": {"x": [1]}},
    ]
)


def _grown(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, inner)
    objects = st.dictionaries(st.sampled_from(["name", "age", "är", "a b"]), inner, max_size=3).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[:1],
            "additionalProperties": False,
        }
    )
    return st.one_of(arrays, objects, st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner))


SCHEMAS = st.recursive(LEAVES, _grown, max_leaves=6)


def follows(schema: dict[str, Any], value: Any) -> bool:
    """What this test's schemas mean."""
    if "anyOf" in schema:
        return any(follows(one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return bool(value == schema["const"])
    match schema["type"]:
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "boolean":
            return type(value) is bool
        case "null":
            return value is None
        case "string" if "pattern" in schema:
            return isinstance(value, str) and re.search(schema["pattern"], value) is not None
        case "string":
            return isinstance(value, str) and len(value) <= schema["maxLength"]
        case "array" if isinstance(value, list):
            return len(value) <= schema["maxItems"] and all(follows(schema["items"], one) for one in value)
        case "object" if isinstance(value, dict):
            return set(schema["required"]) <= set(value) <= set(schema["properties"]) and all(
                follows(schema["properties"][name], one) for name, one in value.items()
            )
    return False


@settings(max_examples=80, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 10_000), name=st.sampled_from(["chat", "base", "starter"]))
def test_json_follows_its_schema(schema: dict[str, Any], seed: int, name: str) -> None:
    text = write(Constraint.from_mapping({"json_schema": schema}), tokenizers()[name], seed=seed)
    assert follows(schema, json.loads(text))


@pytest.mark.parametrize("name", ["chat", "base", "starter"])
@pytest.mark.parametrize(
    "pattern",
    ["(yes|no|maybe)", r"[A-Z][a-z]{2,9}, [0-9]{1,2}\.[0-9]{2} €", "你好{1,3}(世界)?[！!]", "(é|ü){3}"],
)
def test_a_reply_matches_its_regular_expression_as_a_whole(pattern: str, name: str) -> None:
    for seed in range(5):
        text = write(Constraint("regex", pattern), tokenizers()[name], seed=seed)
        assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("name", ["chat", "base", "starter"])
def test_a_reply_is_a_sentence_of_its_grammar(name: str) -> None:
    for seed in range(5):
        text = write(Constraint("grammar", SUMS), tokenizers()[name], seed=seed)
        assert re.fullmatch(r"\d{1,3}( \* \d{1,3})?( \+ \d{1,3}( \* \d{1,3})?)?", text)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"top_k": 1},
        {"top_k": 40, "top_p": 0.9},
        {"top_p": 0.5, "min_p": 0.1, "typical_p": 0.8},
        {"repetition_penalty": 2.0, "presence_penalty": 1.0},
        {"min_tokens": 200},  # a grammar that is complete must end: there is nothing else to say
        {"logit_bias": {"5": 100}},
    ],
)
def test_a_constraint_goes_with_every_other_control(values: dict[str, Any]) -> None:
    sampling = SamplingParams.from_mapping(values)
    text = write(Constraint("regex", "[a-d]{4}"), tokenizers()["chat"], sampling=sampling)
    assert re.fullmatch("[a-d]{4}", text)


def test_a_banned_phrase_is_avoided_within_the_constraint() -> None:
    sampling = replace(WILD, banned_phrases=("ab", "bcb", "cc"))
    for seed in range(5):
        text = write(Constraint("regex", "[a-c]{20}"), tokenizers()["chat"], sampling=sampling, seed=seed)
        assert re.fullmatch("[a-c]{20}", text)
        assert not any(phrase in text for phrase in sampling.banned_phrases)


def test_a_banned_phrase_that_the_constraint_demands_is_a_bad_request() -> None:
    sampling = SamplingParams(banned_phrases=("es",), temperature=0)
    with pytest.raises(AssertionError, match="no token is left that the constraint, banned_phrases"):
        write(Constraint("regex", "yes"), tokenizers()["chat"], sampling=sampling)


def test_json_is_written_without_free_white_space() -> None:
    """A model could go on with white space for ever."""
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": [2, 3]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    text = write(Constraint.from_mapping({"json_schema": schema}), tokenizers()["starter"])
    assert text == json.dumps({"a": 1, "b": [2, 3]})


def test_one_constraint_serves_many_replies_at_once() -> None:
    constraint = Constraint("regex", "(ab){3}")
    tokenizer = tokenizers()["chat"]
    first, second = compile_constraint(constraint, tokenizer), compile_constraint(constraint, tokenizer)
    before = second.mask(322).copy()
    first.accept(tokenizer.encode("a")[0])
    assert (second.mask(322) == before).all()
    assert not (first.mask(322) == before).all()


def test_a_neighbours_constraint_changes_nothing() -> None:
    tokenizer = tokenizers()["chat"]

    def free() -> Sampler:
        return Sampler(WILD_SEEDED, prompt=[], vocabulary=322, stop_tokens=frozenset([2]))

    bound = Sampler(
        WILD_SEEDED,
        prompt=[],
        vocabulary=322,
        stop_tokens=frozenset([2]),
        constraint=compile_constraint(Constraint("regex", "[0-9]+"), tokenizer),
    )
    logits = torch.randn(3, 322, generator=torch.Generator().manual_seed(3))
    alone = [choose([free()], logits[:1])[0], choose([free()], logits[2:])[0]]
    together = choose([free(), bound, free()], logits)
    assert [together[0], together[2]] == alone
    assert isinstance(together[1], Choice)
    assert re.fullmatch("[0-9]+", tokenizer.decode([together[1].token]))


WILD_SEEDED = SamplingParams(temperature=1.0, top_p=1.0, repetition_penalty=1.0, seed=5)


def test_a_token_outside_the_constraint_fails_that_row_alone() -> None:
    tokenizer = tokenizers()["chat"]
    batch = [
        Sampler(
            WILD,
            prompt=[],
            vocabulary=322,
            stop_tokens=frozenset([2]),
            constraint=compile_constraint(Constraint("regex", "[0-9]+"), tokenizer),
        )
        for _ in range(2)
    ]
    batch[0].accept(tokenizer.encode("x")[0])
    first, second = choose(batch, torch.zeros(2, 322))
    assert isinstance(first, BadRequest)
    assert "'[0-9]+'" in str(first)
    assert isinstance(second, Choice)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("regex", "[a-", "unclosed character class"),
        ("regex", "(?=a)b", "look-around"),
        ("json_schema", "{1", "key must be a string"),
        ("json_schema", "[]", "Expecting object schema"),
        ("json_schema", '{"type": "obj"}', "Invalid type: obj"),
        ("json_schema", '{"$ref": "#/nowhere"}', "nowhere"),
        ("json_schema", '{"type": "string", "minLength": 5, "maxLength": 2}', "Unsatisfiable"),
        ("grammar", "start: missing", 'unknown name: "missing"'),
        ("grammar", "begin: 'a'", "cannot be used"),
    ],
)
def test_a_constraint_that_cannot_be_compiled_is_refused_with_the_reason(
    kind: Any, text: str, reason: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        compile_constraint(Constraint(kind, text), tokenizers()["chat"])
    assert reason in str(refused.value)
    assert repr(text) in str(refused.value)


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    class Other:
        pass

    with pytest.raises(BadRequest, match="tokenizer cannot serve constraints: Only fast tokenizers"):
        compile_constraint(Constraint("regex", "a"), Other())  # type: ignore[arg-type]


def test_a_tokenizer_without_an_end_still_serves() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    matcher = compile_constraint(Constraint("regex", "ab"), tokenizer)
    for token in tokenizer.encode("ab"):
        matcher.accept(token)
    assert matcher.satisfied and matcher.complete
    assert matcher.mask(322).sum() <= 1
