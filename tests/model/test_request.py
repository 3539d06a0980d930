"""The values that go into an engine: what they refuse, and in which words."""

import pytest

from model.errors import BadRequest
from model.request import Constraint, SamplingParams

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": NAN}, r"temperature must lie between 0\.0 and 5\.0, and is nan"),
        ({"temperature": -1}, r"temperature must lie .* and is -1"),
        ({"temperature": True}, r"temperature must lie .* and is True"),
        ({"temperature": "hot"}, r"temperature must lie .* and is 'hot'"),
        ({"top_k": 2.5}, r"top_k must be a whole number, and is 2\.5"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"typical_p": 0.0}, "typical_p must be above 0"),
        ({"typical_p": 1.5}, r"typical_p must lie between 0\.0 and 1\.0, and is 1\.5"),
        ({"presence_penalty": 3}, r"presence_penalty must lie between -2\.0 and 2\.0, and is 3"),
        ({"frequency_penalty": NAN}, "frequency_penalty must lie .* and is nan"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must lie between 0 and 1000000, and is -1"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, which is more than max_tokens 8"),
        ({"logprobs": 21}, "logprobs must lie between 0 and 20, and is 21"),
        ({"logprobs": 1.5}, r"logprobs must be a whole number, and is 1\.5"),
        ({"logit_bias": {5: NAN}}, "The logit_bias of token 5 must lie between -100 and 100, and is nan"),
        ({"logit_bias": {"five": 1}}, "logit_bias takes token ids, and 'five' is none"),
        ({"logit_bias": {-5: 1}}, "logit_bias takes token ids, and -5 is none"),
        ({"logit_bias": [[5, 1], [5, 2]]}, "logit_bias names a token twice"),
        ({"banned_phrases": ["fine", ""]}, "banned_phrases must be texts, and one is ''"),
        ({"banned_phrases": [7]}, "banned_phrases must be texts, and one is 7"),
        ({"banned_phrases": ["\ufffd"]}, "holds a character that stands for broken text"),
        ({"banned_phrases": ["\ud800"]}, "holds a character that stands for broken text"),
        ({"stop": [""]}, "stop holds an empty string"),
        ({"seed": -1}, "seed must lie between 0 and .* and is -1"),
        (
            {"constraint": {"regexp": "a"}},
            "constraint is one of json_schema, regex, grammar, and not 'regexp'",
        ),
        (
            {"constraint": {"regex": "a", "grammar": "b"}},
            "constraint names one of json_schema, regex, grammar",
        ),
        ({"constraint": "a+"}, r"constraint names one of .* and is 'a\+'"),
        ({"constraint": {"regex": " "}}, "The regex of the constraint must be text, and is ' '"),
        ({"constraint": {"grammar": None}}, "The grammar of the constraint must be text, and is None"),
        ({"temprature": 1}, "'temprature' is no sampling parameter; there are temperature, top_k"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_value(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        SamplingParams.from_mapping(values)


def test_values_from_json_become_frozen_ones() -> None:
    sampling = SamplingParams.from_mapping(
        {
            "stop": "END",
            "banned_phrases": ["a b", "c"],
            "logit_bias": {"7": -100, "5": 2.5},
            "constraint": {"json_schema": {"type": "integer"}},
        }
    )
    assert sampling == SamplingParams(
        stop=("END",),
        banned_phrases=("a b", "c"),
        logit_bias=((7, -100), (5, 2.5)),
        constraint=Constraint("json_schema", '{"type": "integer"}'),
    )
    assert hash(sampling) == hash(
        SamplingParams(**{name: getattr(sampling, name) for name in sampling.__slots__})
    )


def test_a_schema_may_be_given_as_its_text() -> None:
    assert Constraint.from_mapping({"json_schema": '{"type": "null"}'}).text == '{"type": "null"}'
