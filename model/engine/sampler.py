"""From scores to the next token of every request in the batch. Knows no model and no cache.

The order is that of transformers' logits processors: logit_bias, repetition_penalty, presence and frequency
penalty (which transformers does not have), no_repeat_ngram_size, banned phrases, min_tokens, the constraint; then
`draw`. Only what some request of the batch asks for is computed.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.constraints import Matcher
from model.engine.draw import NO_TOKEN, Knobs, draw, pad_width
from model.engine.runner import Scores
from model.engine.words import PhraseTable, TokenTexts
from model.errors import BadRequest
from model.request import SamplingParams, TokenLogprobs

Ids = npt.NDArray[np.int64]
_NONE: Ids = np.empty(0, dtype=np.int64)
_64_BITS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Choice:
    token: int
    logprobs: TokenLogprobs | None = None
    """Where the request asked for them."""


class Sampler:
    """One request's way of choosing, with its state. Batch neighbours never change what it chooses.

    Every choice is followed by `accept` before the next one. The random number of a choice depends on the seed and
    on how many tokens were accepted, and on nothing else.
    """

    def __init__(
        self,
        sampling: SamplingParams,
        *,
        prompt: Sequence[int],
        vocabulary: int,
        stop_tokens: frozenset[int],
        words: TokenTexts | None = None,
        constraint: Matcher | None = None,
    ) -> None:
        """`vocabulary` is how many scores the model gives; `words` are needed for banned phrases and log-probabilities.

        Raises `BadRequest` where `logit_bias` names a token that the model does not have.
        """
        self.seed = random.getrandbits(63) if sampling.seed is None else sampling.seed
        self._sampling = sampling
        self._stops = np.array(sorted(token for token in stop_tokens if token < vocabulary), dtype=np.int64)
        self._stop_tokens = stop_tokens
        self._words = words
        self._constraint = constraint
        self._prompt_tokens = len(prompt)
        self._position = 0
        self._knobs = Knobs(
            sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.typical_p
        )
        self._width = 0
        self._biased, self._biases = _biases(sampling, vocabulary)
        self._seen = _Counts(token for token in prompt if token < vocabulary) if self._penalises_all else None
        self._written = _Counts() if sampling.presence_penalty or sampling.frequency_penalty else None
        self._ngrams = (
            _Ngrams(sampling.no_repeat_ngram_size, prompt) if sampling.no_repeat_ngram_size else None
        )
        self._phrases = [_Phrase(self._table(phrase)) for phrase in sampling.banned_phrases]
        self._always_banned = self._without_stops([phrase.table.always for phrase in self._phrases])

    @property
    def wants_logprobs(self) -> bool:
        return self._sampling.logprobs is not None

    def accept(self, token: int) -> None:
        """Tell each token that became part of the reply, in order."""
        self._position += 1
        if self._seen is not None:
            self._seen.add(token)
        if self._written is not None:
            self._written.add(token)
        if self._ngrams is not None:
            self._ngrams.add(token)
        for phrase in self._phrases:
            phrase.state = phrase.table.advance(phrase.state, token)
        if self._constraint is not None and token not in self._stop_tokens:
            self._constraint.accept(token)

    @property
    def _penalises_all(self) -> bool:
        return self._sampling.repetition_penalty != 1

    @property
    def _bans(self) -> bool:
        """Whether some token may be out of the question, the constraint aside."""
        return bool(self._ngrams or self._phrases or self._position < self._sampling.min_tokens)

    def _banned(self) -> list[Ids]:
        banned = []
        if self._ngrams is not None:
            banned.append(self._ngrams.banned())
        if self._phrases:
            banned.append(self._always_banned)
            completing = [phrase.table.completing(phrase.state) for phrase in self._phrases if phrase.state]
            banned.append(self._without_stops(completing))
        if self._position < self._sampling.min_tokens and not (
            self._constraint and self._constraint.complete
        ):
            banned.append(self._stops)
        return banned

    def _number(self) -> float:
        """In [0, 1): SplitMix64 of the seed and the position."""
        mixed = _mix(_mix(self.seed) + self._position * 0x9E3779B97F4A7C15)
        return (mixed >> 11) / 2**53

    def _table(self, phrase: str) -> PhraseTable:
        assert self._words is not None, "banned phrases need the texts of the tokens"
        return self._words.phrase(phrase)

    def _without_stops(self, ids: list[Ids]) -> Ids:
        """The text of a stop token never shows."""
        return np.setdiff1d(np.concatenate(ids), self._stops) if ids else _NONE

    def _fault(self, logits: Scores) -> BadRequest:
        """Why nothing could be chosen from one row of scores."""
        if math.isfinite(float(logits.max())):
            return BadRequest(
                f"After {self._position:,} tokens of the reply no token is left that the constraint, banned_phrases, "
                "no_repeat_ngram_size and min_tokens all allow."
            )
        return BadRequest(
            f"After {self._prompt_tokens + self._position:,} tokens the model's scores are no numbers any more. "
            "In float16 they can overflow: the dtype bfloat16 or float32 helps."
        )


def choose(samplers: Sequence[Sampler], logits: Scores) -> list[Choice | BadRequest]:
    """The next token of each request, from `logits` (requests x vocabulary), in one vectorised pass.

    A row that nothing can be chosen from gives a `BadRequest`, alone. `logits` stay as they are.
    """
    on_host = isinstance(logits, np.ndarray) or logits.device.type == "cpu"
    scores, faults = _process(samplers, logits, on_host=on_host)
    drawn = draw(
        scores,
        [sampler._knobs for sampler in samplers],
        [sampler._number() for sampler in samplers],
        [sampler._width for sampler in samplers],
    )
    choices: list[Choice | BadRequest] = []
    for row, (sampler, (token, width)) in enumerate(zip(samplers, drawn, strict=True)):
        sampler._width = width
        if row in faults:
            choices.append(faults[row])
        elif token == NO_TOKEN:
            choices.append(sampler._fault(logits[row]))
        else:
            choices.append(Choice(token))
    if any(sampler.wants_logprobs for sampler in samplers):
        _add_logprobs(choices, samplers, logits)
    return choices


def _process(
    samplers: Sequence[Sampler], logits: Scores, *, on_host: bool
) -> tuple[Scores, dict[int, BadRequest]]:
    """Scores that may be drawn from, and the rows whose constraint failed."""
    biased = [sampler for sampler in samplers if sampler._biased.size]
    penalised = [sampler for sampler in samplers if sampler._seen is not None]
    counted = [sampler for sampler in samplers if sampler._written is not None]
    banning = [sampler for sampler in samplers if sampler._bans]
    constrained = [sampler for sampler in samplers if sampler._constraint is not None]
    changes = biased or penalised or counted or banning or constrained
    untouched = not changes and all(sampler._knobs.temperature == 0 for sampler in samplers)
    scores = _drawable(logits, copy=bool(changes), whole_blocks=not untouched)
    if untouched:
        return scores, {}
    edit = _Edit(samplers, scores, on_host=on_host)
    if biased:
        edit.bias()
    if penalised:
        edit.penalise_repetition()
    if counted:
        edit.penalise_presence_and_frequency()
    if banning:
        edit.ban()
    return scores, edit.constrain(logits.shape[-1]) if constrained else {}


def _drawable(logits: Scores, *, copy: bool, whole_blocks: bool) -> Scores:
    """In float32, as `draw` takes them. With `copy`, `logits` stay as they are when the scores are changed."""
    if isinstance(logits, np.ndarray):
        make = np.array if copy else np.asarray
        return make(logits, dtype=np.float32, order="C")
    import torch

    scores = logits.detach().to(torch.float32, copy=copy)
    missing = pad_width(logits.shape[-1]) if whole_blocks else 0
    return torch.nn.functional.pad(scores, (0, missing), value=-torch.inf) if missing else scores.contiguous()


class _Edit:
    """Changes to single scores, in place. Places are collected on the host and moved at once.

    numpy's indexing and torch's read alike; on the processor numpy's takes a third of the time.
    """

    def __init__(self, samplers: Sequence[Sampler], scores: Scores, *, on_host: bool) -> None:
        self._samplers = samplers
        self._width = scores.shape[-1]
        self._scores = np.asarray(scores) if on_host else scores
        self._flat: Any = self._scores.reshape(-1)

    def bias(self) -> None:
        rows = [(row, sampler._biased) for row, sampler in enumerate(self._samplers) if sampler._biased.size]
        values = np.concatenate([self._samplers[row]._biases for row, _ in rows])
        self._flat[self._places(rows)] += self._moved(values)

    def penalise_repetition(self) -> None:
        rows = [(row, s._seen.tokens) for row, s in enumerate(self._samplers) if s._seen is not None]
        penalties = [self._samplers[row]._sampling.repetition_penalty for row, _ in rows]
        places = self._places(rows)
        penalty: Any = penalties[0]
        if len(set(penalties)) > 1:
            penalty = self._moved(np.repeat(_float32(penalties), [len(tokens) for _, tokens in rows]))
        found = self._flat[places]
        self._flat[places] = self._where(found < 0, found * penalty, found / penalty)

    def penalise_presence_and_frequency(self) -> None:
        rows: list[tuple[int, Ids]] = []
        values = []
        for row, sampler in enumerate(self._samplers):
            if sampler._written is not None:
                sampling, counts = sampler._sampling, sampler._written.counts
                rows.append((row, sampler._written.tokens))
                values.append(sampling.presence_penalty + sampling.frequency_penalty * counts)
        self._flat[self._places(rows)] -= self._moved(_float32(np.concatenate(values)))

    def ban(self) -> None:
        rows = [(row, ids) for row, sampler in enumerate(self._samplers) for ids in sampler._banned()]
        if rows:
            self._flat[self._places(rows)] = -np.inf

    def constrain(self, vocabulary: int) -> dict[int, BadRequest]:
        """Leave to each row what its constraint allows; a stop token is allowed where the constraint is satisfied."""
        faults: dict[int, BadRequest] = {}
        for row, sampler in enumerate(self._samplers):
            if sampler._constraint is not None:
                try:
                    forbidden = ~sampler._constraint.mask(vocabulary)
                except BadRequest as fault:
                    faults[row] = fault
                    continue
                forbidden[sampler._stops] = not sampler._constraint.satisfied
                self._scores[row, :vocabulary][self._moved(forbidden)] = -np.inf
        return faults

    def _places(self, rows: list[tuple[int, Ids]]) -> Any:
        """Tokens of rows, as places in all scores."""
        return self._moved(np.concatenate([tokens + row * self._width for row, tokens in rows]))

    def _where(self, condition: Any, yes: Any, no: Any) -> Any:
        if isinstance(condition, np.ndarray):
            return np.where(condition, yes, no)
        import torch

        return torch.where(condition, yes, no)

    def _moved(self, values: npt.NDArray[Any]) -> Any:
        if isinstance(self._scores, np.ndarray):
            return values
        import torch

        return torch.from_numpy(values).to(self._scores.device, non_blocking=True)


def _float32(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _add_logprobs(choices: list[Choice | BadRequest], samplers: Sequence[Sampler], logits: Scores) -> None:
    """Of what the model itself said: penalties, temperature and bans do not show."""
    for row, (sampler, choice) in enumerate(zip(samplers, choices, strict=True)):
        if sampler.wants_logprobs and isinstance(choice, Choice):
            choices[row] = _with_logprobs(choice, sampler, logits[row])


def _with_logprobs(choice: Choice, sampler: Sampler, logits: Scores) -> Choice:
    own = np.asarray(logits if isinstance(logits, np.ndarray) else logits.float().cpu(), np.float32)
    count = min(sampler._sampling.logprobs or 0, len(own))
    best = float(own.max())
    total = best + math.log(float(np.exp(own - best, dtype=np.float64).sum()))
    likeliest = np.argpartition(own, -count)[-count:] if count else _NONE
    likeliest = likeliest[np.argsort(-own[likeliest], kind="stable")]
    top = tuple((int(token), float(own[token]) - total) for token in likeliest)
    text = sampler._words.text_of(choice.token) if sampler._words is not None else ""
    logprob = float(own[choice.token]) - total
    return Choice(choice.token, TokenLogprobs(choice.token, text, logprob, top))


class _Counts:
    """Tokens and how often each was added, as arrays that grow."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        found, counts = np.unique(np.fromiter(tokens, dtype=np.int64), return_counts=True)
        self._places = {token: place for place, token in enumerate(found.tolist())}
        room = max(64, 2 * len(found))
        self._tokens = np.zeros(room, dtype=np.int64)
        self._counts = np.zeros(room, dtype=np.int64)
        self._tokens[: len(found)] = found
        self._counts[: len(found)] = counts

    @property
    def tokens(self) -> Ids:
        return self._tokens[: len(self._places)]

    @property
    def counts(self) -> Ids:
        return self._counts[: len(self._places)]

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.zeros_like(self._tokens)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        self._tokens[place] = token
        self._counts[place] += 1


class _Ngrams:
    """What followed each sequence of `size` - 1 tokens, in the prompt and in the reply."""

    def __init__(self, size: int, prompt: Sequence[int]) -> None:
        self._before = size - 1
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._tail: tuple[int, ...] = ()
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        if len(self._tail) == self._before:
            self._followers.setdefault(self._tail, set()).add(token)
        self._tail = (*self._tail, token)[-self._before :] if self._before else ()

    def banned(self) -> Ids:
        return np.fromiter(self._followers.get(self._tail, ()), dtype=np.int64)


@dataclass(slots=True)
class _Phrase:
    table: PhraseTable
    state: int = 0


def _biases(sampling: SamplingParams, vocabulary: int) -> tuple[Ids, npt.NDArray[np.float32]]:
    for token, _ in sampling.logit_bias:
        if token >= vocabulary:
            raise BadRequest(f"logit_bias names token {token}, but the model knows {vocabulary:,} tokens.")
    tokens = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
    return tokens, np.array([bias for _, bias in sampling.logit_bias], dtype=np.float32)


def _mix(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): a bijection that scatters 64 bits."""
    value = (value + 0x9E3779B97F4A7C15) & _64_BITS
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return value ^ (value >> 31)
