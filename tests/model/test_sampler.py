"""What the sampler chooses is what transformers' processors would let it choose, whoever else is in the batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from model.constraints import compile_constraint
from model.engine.draw import Drawn, Knobs
from model.engine.draw import draw as draw_own
from model.engine.sampler import Choice, Sampler, _process
from model.engine.sampler import choose as choose_own
from model.engine.words import token_texts
from model.errors import BadRequest
from model.request import Constraint, SamplingParams
from tests.model.tiny_models import CHAT_TOKENS, make_tokenizer

CPU = torch.device("cpu")
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repetition_penalty=1.0, seed=0)
GREEDY = replace(PLAIN, temperature=0.0)
STOP = 0
PROMPT = [5, 6, 7, 5, 6, 9, 30, 5, 6]
CONTROLS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 500},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"min_p": 0.1},
    {"typical_p": 0.5},
    {"typical_p": 0.95},
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 3},
    {"logit_bias": ((3, 4.0), (60, -100.0))},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.3},
    {"temperature": 1.4, "top_k": 30, "top_p": 0.97, "min_p": 0.02, "typical_p": 0.8},
    {"top_p": 0.9, "min_p": 0.05, "typical_p": 0.7, "no_repeat_ngram_size": 2},
    {"min_p": 0.03, "typical_p": 0.9, "logit_bias": ((5, 3.0),), "repetition_penalty": 1.2},
]
WARPED = [
    values for values in CONTROLS if not values or {"top_k", "top_p", "min_p", "typical_p"} & set(values)
]
EVERYTHING = replace(
    PLAIN,
    temperature=0.9,
    top_k=40,
    top_p=0.9,
    min_p=0.01,
    typical_p=0.9,
    repetition_penalty=1.2,
    presence_penalty=0.5,
    frequency_penalty=0.3,
    no_repeat_ngram_size=3,
    logit_bias=((4, 1.0),),
    min_tokens=3,
)


LIBRARIES: dict[str, Callable[[torch.Tensor], Any]] = {"torch": lambda s: s, "numpy": lambda s: s.numpy()}
_library = LIBRARIES["torch"]


@pytest.fixture(autouse=True, scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> None:
    """Everything holds for scores of torch and of numpy."""
    global _library
    _library = LIBRARIES[request.param]


def choose(samplers: Sequence[Sampler], logits: torch.Tensor) -> list[Choice | BadRequest]:
    return choose_own(samplers, _library(logits))


def draw(logits: torch.Tensor, *values: Any) -> list[Drawn]:
    return draw_own(_library(logits), *values)


def sampler(
    sampling: SamplingParams, prompt: Sequence[int] = PROMPT, *, vocabulary: int = 64, **more: Any
) -> Sampler:
    return Sampler(sampling, prompt=prompt, vocabulary=vocabulary, stop_tokens=frozenset([STOP]), **more)


def scores(vocabulary: int, *, rows: int = 1, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def tokens(choices: Sequence[Choice | BadRequest]) -> list[int]:
    return [choice.token for choice in choices if isinstance(choice, Choice)]


def write(who: Sampler, length: int, *, seed: int = 1, vocabulary: int = 64) -> list[int]:
    """What one request writes alone, on scores that depend on the position."""
    written = []
    for position in range(length):
        [token] = tokens(choose([who], scores(vocabulary, seed=seed + position)))
        who.accept(token)
        written.append(token)
    return written


def transformers_distribution(
    sampling: SamplingParams, logits: torch.Tensor, before: list[int]
) -> torch.Tensor:
    """The obvious way: each processor over the whole vocabulary, in the order of `generate`."""
    chain = LogitsProcessorList()
    if sampling.logit_bias:
        chain.append(
            SequenceBiasLogitsProcessor({(token,): float(bias) for token, bias in sampling.logit_bias})
        )
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram_size:
        chain.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram_size))
    chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        chain.append(MinPLogitsWarper(sampling.min_p))
    if sampling.typical_p < 1:
        chain.append(TypicalLogitsWarper(sampling.typical_p))
    return chain(torch.tensor([before]), logits.clone()).double().softmax(-1)[0]  # type: ignore[no-any-return]


def chi_squared_share(observed: torch.Tensor, expected: torch.Tensor) -> float:
    """How often chance alone would differ from `expected` by more than `observed` does."""
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = max(len(expected) - 1, 1)
    return float(torch.special.gammaincc(torch.tensor(freedom / 2, dtype=torch.float64), statistic / 2))


# The distribution


@pytest.mark.parametrize("values", CONTROLS, ids=str)
def test_the_sampled_distribution_is_that_of_transformers(values: dict[str, Any]) -> None:
    draws = 3000
    logits = scores(64)
    sampling = replace(PLAIN, **values)
    batch = [sampler(replace(sampling, seed=seed)) for seed in range(draws)]
    chosen = tokens(choose(batch, logits.expand(draws, -1)))
    expected = transformers_distribution(sampling, logits, PROMPT)
    counts = torch.bincount(torch.tensor(chosen), minlength=64)
    assert not counts[expected == 0].any()
    often = expected * draws >= 5
    observed = torch.cat((counts[often], counts[~often].sum().view(1))).double()
    wanted = torch.cat((expected[often], expected[~often].sum().view(1))) * draws
    assert chi_squared_share(observed[wanted > 0], wanted[wanted > 0]) > 0.001


@pytest.mark.parametrize("vocabulary", [384, 20_032])
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("values", WARPED, ids=str)
def test_a_part_of_the_vocabulary_does_for_the_whole(
    values: dict[str, Any], spread: float, vocabulary: int
) -> None:
    """With evenly spaced numbers instead of random ones, each token comes as often as its probability says."""
    draws = 200 if vocabulary < 1000 else 50
    sampling = replace(PLAIN, **values)
    logits = scores(vocabulary, spread=spread).bfloat16().float()  # with many equal scores
    expected = transformers_distribution(
        replace(sampling, repetition_penalty=1, logit_bias=()), logits, PROMPT
    )
    knobs = Knobs(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.typical_p)
    numbers = [(place + 0.5) / draws for place in range(draws)]
    drawn = draw(logits.expand(draws, -1).contiguous(), [knobs] * draws, numbers, [0] * draws)
    found = torch.tensor([token for token, _ in drawn])
    if sampling.top_p == 1:
        assert (expected[found] > 0).all()
    else:  # of equal scores at the border, either may be left out
        assert logits[0, found].min() >= logits[0, expected > 0].min()
    # Numbers go through the tokens in order: by score where only the likeliest are looked at, else by id.
    by_score = sampling.top_k or sampling.top_p < 1
    key = -logits[0] if by_score else torch.arange(vocabulary)
    order = key.argsort()
    for share in (0.25, 0.5, 0.75):
        border = key[order[int((expected[order].cumsum(0) < share).sum())]]
        for before, chosen_before in (
            (key < border, key[found] < border),
            (key <= border, key[found] <= border),
        ):
            assert float(chosen_before.double().mean()) == pytest.approx(
                float(expected[before].sum()), abs=1.01 / draws
            )


@pytest.mark.parametrize("vocabulary", [384, 40_000])
@pytest.mark.parametrize(
    "values", [{"top_p": 0.9}, {"typical_p": 0.9}, {"top_p": 0.99, "min_p": 0.001}], ids=str
)
def test_where_the_search_begins_changes_nothing(values: dict[str, Any], vocabulary: int) -> None:
    logits = scores(vocabulary, rows=20).double().add(torch.arange(vocabulary) * 1e-5).float()
    logits *= torch.linspace(0.2, 2, 20).unsqueeze(-1)
    sampling = replace(PLAIN, **values)
    knobs = [Knobs(1.0, 0, sampling.top_p, sampling.min_p, sampling.typical_p)] * 20
    numbers = torch.rand(20, generator=torch.Generator().manual_seed(4)).tolist()
    hints = ([0] * 20, [200] * 20, [5000] * 20, [vocabulary] * 20, list(range(0, 10_000, 500)))
    texts = {tuple(token for token, _ in draw(logits, knobs, numbers, hint)) for hint in hints}
    assert len(texts) == 1


def test_presence_and_frequency_count_the_reply_and_not_the_prompt() -> None:
    logits = torch.zeros(1, 64)
    logits[0, [5, 20, 21]] = torch.tensor([1.0, 3.0, 1.5])
    sampling = replace(GREEDY, presence_penalty=0.5, frequency_penalty=0.4)
    who = sampler(sampling)
    # 20: 3.0, then 3.0 - 0.9, 3.0 - 1.3, then 1.4, which is below 21's 1.5, which is then at 0.6.
    chosen = []
    for _ in range(6):
        [token] = tokens(choose([who], logits))
        who.accept(token)
        chosen.append(token)
    assert chosen == [20, 20, 20, 21, 20, 5]


def test_a_bias_can_forbid_and_can_force() -> None:
    logits = scores(64)
    best = int(logits.argmax())
    assert tokens(choose([sampler(replace(GREEDY, logit_bias=((best, -100),)))], logits)) != [best]
    assert tokens(choose([sampler(replace(PLAIN, logit_bias=((42, 100),)))], logits)) == [42]


def test_a_bias_for_a_token_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadRequest, match="logit_bias names token 64, but the model knows 64 tokens"):
        sampler(replace(PLAIN, logit_bias=((64, 1.0),)))


def test_nothing_stops_before_min_tokens() -> None:
    logits = torch.zeros(1, 64)
    logits[0, STOP] = 50
    who = sampler(replace(PLAIN, min_tokens=3))
    chosen = []
    for _ in range(4):
        [token] = tokens(choose([who], logits))
        who.accept(token)
        chosen.append(token)
    assert STOP not in chosen[:3]
    assert chosen[3] == STOP


def test_greedy_is_the_first_of_the_best() -> None:
    logits = scores(100, rows=3)
    logits[1, [17, 90]] = 99
    expected = logits.argmax(-1).tolist()
    who = [sampler(GREEDY, vocabulary=100) for _ in range(3)]
    assert tokens(choose(who, logits)) == expected
    mixed = [*who[:2], sampler(replace(PLAIN, top_k=1), vocabulary=100)]
    assert tokens(choose(mixed, logits)) == expected


@pytest.mark.parametrize("temperature", [1e-30, 1e-9, 1e-4])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    logits = scores(64)
    for values in ({}, {"top_k": 5}, {"top_p": 0.9}, {"typical_p": 0.9}):
        who = sampler(replace(PLAIN, temperature=temperature, **values))
        assert tokens(choose([who], logits)) == [int(logits.argmax())]


def test_the_scores_of_the_caller_stay_as_they_are() -> None:
    for logits in (scores(64), scores(70)):
        before = logits.clone()
        choose([sampler(EVERYTHING, vocabulary=logits.shape[-1])], logits)
        assert torch.equal(logits, before)


# Seeds and neighbours


@pytest.mark.parametrize(
    "sampling",
    [
        EVERYTHING,
        PLAIN,
        GREEDY,
        replace(PLAIN, top_p=0.9),
        replace(PLAIN, typical_p=0.9),
        replace(PLAIN, min_p=0.1, frequency_penalty=1.0),
    ],
    ids=["everything", "plain", "greedy", "top_p", "typical_p", "min_p"],
)
def test_a_seed_gives_the_same_text_in_any_batch(sampling: SamplingParams) -> None:
    sampling = replace(sampling, seed=11)
    alone = write(sampler(sampling), 30)
    others = [replace(PLAIN, **values) for values in CONTROLS]
    for partners in (others[:1], others[:7], others):
        batch = [sampler(sampling), *(sampler(other) for other in partners)]
        written = []
        for position in range(30):
            rows = torch.cat(
                (scores(64, seed=1 + position), scores(64, rows=len(partners), seed=500 + position))
            )
            turn = position % len(batch)  # no place in the batch is special
            turned = batch[turn:] + batch[:turn]
            for who, choice in zip(turned, choose(turned, rows.roll(-turn, 0)), strict=True):
                if isinstance(choice, Choice):
                    who.accept(choice.token)
                    written += [choice.token] if who is batch[0] else []
        assert written == alone


def test_another_seed_gives_another_text() -> None:
    texts = {tuple(write(sampler(replace(PLAIN, seed=seed)), 8)) for seed in range(20)}
    assert len(texts) == 20


def test_the_numbers_of_one_seed_are_spread_evenly() -> None:
    logits = torch.zeros(1, 64)
    who = sampler(PLAIN)
    counts, pairs, last = torch.zeros(64), torch.zeros(64), 0
    for _ in range(3000):
        [token] = tokens(choose([who], logits))
        who.accept(token)
        counts[token] += 1
        pairs[last // 8 * 8 + token // 8] += 1
        last = token
    for observed in (counts, pairs):
        assert 0.001 < chi_squared_share(observed, torch.full((64,), 3000 / 64)) < 0.999


def test_without_a_seed_one_is_drawn_that_can_be_repeated() -> None:
    first = sampler(replace(PLAIN, seed=None))
    assert write(sampler(replace(PLAIN, seed=first.seed)), 20) == write(first, 20)


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    write(sampler(EVERYTHING), 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("vocabulary", [320, 322])
def test_scores_change_on_a_device_as_they_do_on_the_host(vocabulary: int) -> None:
    tokenizer = make_tokenizer(None)  # which has 320 tokens
    batch = [
        sampler(
            replace(PLAIN, banned_phrases=("a", "the"), **values),
            vocabulary=vocabulary,
            words=token_texts(tokenizer),
            constraint=compile_constraint(Constraint("regex", "[a-z ]+"), tokenizer)
            if place % 3 == 0
            else None,
        )
        for place, values in enumerate([*CONTROLS, {"presence_penalty": 1.0}, {"frequency_penalty": 0.5}])
    ]
    letters = [tokenizer.encode(letter)[0] for letter in "bth"]
    for step in range(4):
        logits = scores(vocabulary, rows=len(batch), seed=step)
        host, _ = _process(batch, logits, on_host=True)
        device, _ = _process(batch, logits, on_host=False)
        torch.testing.assert_close(host, device, rtol=0, atol=1e-6)
        assert (host == -torch.inf).any()
        for who in batch:
            who.accept(letters[step % 3])


# Rows that nothing can be chosen from


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, EVERYTHING, replace(PLAIN, top_p=0.9)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_fail_alone(sampling: SamplingParams, value: float) -> None:
    logits = scores(64, rows=3)
    logits[1] = value
    choices = choose([sampler(sampling), sampler(sampling), sampler(PLAIN)], logits)
    assert [type(choice) for choice in choices] == [Choice, BadRequest, Choice]
    assert f"After {len(PROMPT)} tokens the model's scores are no numbers any more" in str(choices[1])


def test_one_score_that_is_no_number_is_enough() -> None:
    logits = scores(64)
    logits[0, 33] = float("nan")
    for sampling in (GREEDY, PLAIN, EVERYTHING):
        assert isinstance(choose([sampler(sampling)], logits)[0], BadRequest)


def test_scores_of_minus_infinity_are_never_chosen() -> None:
    logits = torch.full((1, 64), -torch.inf)
    logits[0, 40] = 1.0
    for values in ({}, *CONTROLS):
        who = sampler(replace(PLAIN, **values), prompt=[1, 2])
        assert tokens(choose([who], logits)) == [40]


def test_a_request_that_forbids_every_token_hears_so() -> None:
    who = sampler(replace(PLAIN, no_repeat_ngram_size=1), prompt=range(64))
    [choice] = choose([who], scores(64))
    assert isinstance(choice, BadRequest)
    assert "no token is left" in str(choice)


# Log-probabilities


def test_logprobs_are_the_models_own() -> None:
    texts = token_texts(make_tokenizer())
    logits = scores(322, rows=3)
    batch = [
        sampler(replace(PLAIN, temperature=0.3, logprobs=4), vocabulary=322, words=texts),
        sampler(PLAIN, vocabulary=322),
        sampler(replace(PLAIN, logprobs=0), vocabulary=322, words=texts),
    ]
    first, second, third = choose(batch, logits)
    assert isinstance(first, Choice) and isinstance(second, Choice) and isinstance(third, Choice)
    assert second.logprobs is None
    assert third.logprobs is not None and third.logprobs.top == ()
    assert first.logprobs is not None
    expected = logits.log_softmax(-1)
    best = expected[0].topk(4)
    assert first.logprobs.logprob == pytest.approx(float(expected[0, first.token]))
    assert [token for token, _ in first.logprobs.top] == best.indices.tolist()
    assert [value for _, value in first.logprobs.top] == pytest.approx(best.values.tolist())
    assert first.logprobs.text == texts.text_of(first.token)


# Banned phrases

ALPHABET = "abn cé好"


@settings(max_examples=60, deadline=None)
@given(
    phrases=st.lists(st.text(ALPHABET, min_size=1, max_size=5), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_a_banned_phrase_never_appears(phrases: list[str], seed: int) -> None:
    """The model is made to want the phrases' letters, in tokens of one byte and of several."""
    tokenizer = make_tokenizer()
    texts = token_texts(tokenizer)
    wanted = {token for text in (*phrases, ALPHABET, "ba", "nan") for token in tokenizer.encode(text)}
    wanted |= {
        token for token in range(322) if texts.bytes_of(token) and texts.bytes_of(token) in ALPHABET.encode()
    }
    logits = torch.full((30, 322), -10.0)
    logits[:, sorted(wanted)] = scores(len(wanted), rows=30, seed=seed, spread=1)
    who = sampler(
        replace(PLAIN, banned_phrases=tuple(phrases), seed=seed), prompt=[], vocabulary=322, words=texts
    )
    written: list[int] = []
    for row in logits:
        [token] = tokens(choose([who], row.unsqueeze(0)))
        who.accept(token)
        written.append(token)
    reply = tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert not any(phrase in reply for phrase in phrases)


def test_a_banned_phrase_is_avoided_at_its_last_token_only() -> None:
    tokenizer = make_tokenizer()
    first, second, third = (token for letter in "xyz" for token in tokenizer.encode(letter))
    logits = torch.zeros(3, 322)
    logits[range(3), [first, second, third]] = 99
    who = sampler(
        replace(GREEDY, banned_phrases=("xyz",)), prompt=[], vocabulary=322, words=token_texts(tokenizer)
    )
    written = []
    for row in logits:
        [token] = tokens(choose([who], row.unsqueeze(0)))
        who.accept(token)
        written.append(token)
    assert written[:2] == [first, second]
    assert written[2] != third


def test_the_text_of_a_stop_token_is_not_banned() -> None:
    tokenizer = make_tokenizer()
    [stop] = tokenizer.encode("x")
    logits = torch.zeros(1, 322)
    logits[0, stop] = 99
    who = Sampler(
        replace(GREEDY, banned_phrases=("x",)),
        prompt=[],
        vocabulary=322,
        stop_tokens=frozenset([stop]),
        words=token_texts(tokenizer),
    )
    assert tokens(choose([who], logits)) == [stop]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 321), max_size=12))
def test_the_bytes_of_tokens_are_what_the_tokenizer_decodes(written: list[int]) -> None:
    for tokenizer in (make_tokenizer(), make_tokenizer(None)):
        within = [token for token in written if token < len(tokenizer)]
        texts = token_texts(tokenizer)
        decoded = tokenizer.decode(within, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert b"".join(map(texts.bytes_of, within)).decode(errors="replace") == decoded


def test_tokens_of_the_sentencepiece_kind_have_their_bytes() -> None:
    vocabulary = {"<unk>": 0, "<s>": 1, "\u2581Hi": 2, "\u2581": 3, "th": 4, "ere": 5}
    vocabulary |= {f"<0x{byte:02X}>": 6 + byte for byte in range(256)}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")
    texts = token_texts(tokenizer)
    written = [1, 2, 3, 4, 5, *(6 + byte for byte in "好é".encode())]
    assert b"".join(map(texts.bytes_of, written)).decode() == " Hi there好é"
    assert tokenizer.decode(written, skip_special_tokens=True) == "Hi there好é"


def test_tokens_of_another_kind_are_read_by_decoding_them() -> None:
    vocabulary = {"a": 0, "word": 1, "##ly": 2, "[UNK]": 3}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece(prefix="##")
    texts = token_texts(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert [texts.bytes_of(token) for token in (0, 1, 2)] == [b" a", b" word", b"ly"]


def test_special_tokens_and_unknown_rows_have_no_text() -> None:
    texts = token_texts(make_tokenizer())
    assert [texts.bytes_of(token) for token in (*range(len(CHAT_TOKENS)), 5000)] == [b""] * 5
