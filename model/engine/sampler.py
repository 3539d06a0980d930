"""From scores to the next token, by transformers' own logits processors. Knows no model and no text."""

import random

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.errors import BadRequest
from model.request import SamplingParams


class Sampler:
    """One request's way of choosing. Its own generator makes a seed give the same text whatever else runs."""

    def __init__(self, sampling: SamplingParams, device: torch.device) -> None:
        self.seed = random.getrandbits(63) if sampling.seed is None else sampling.seed
        self._greedy = sampling.temperature == 0
        self._processors = _build_processors(sampling)
        self._generator = torch.Generator(device=device).manual_seed(self.seed)

    def choose(self, tokens: torch.Tensor, logits: torch.Tensor) -> int:
        """The next token after `tokens` (1 x length), from `logits` (1 x vocabulary).

        Raises `BadRequest` where the logits are no numbers.
        """
        scores = self._processors(tokens, logits.to(torch.float32, copy=True))
        if self._greedy:
            best, choice = scores.max(dim=-1)
            _check_is_number(best, tokens)
            return int(choice)
        probabilities = scores.softmax(dim=-1)
        _check_is_number(probabilities.sum(), tokens)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _build_processors(sampling: SamplingParams) -> LogitsProcessorList:
    """In transformers' order; what is switched off is left out."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.temperature not in (0, 1):
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.temperature and sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.temperature and sampling.top_p < 1:
        processors.append(TopPLogitsWarper(float(sampling.top_p)))
    if sampling.temperature and sampling.min_p:
        processors.append(MinPLogitsWarper(float(sampling.min_p)))
    return processors


def _check_is_number(value: torch.Tensor, tokens: torch.Tensor) -> None:
    if not torch.isfinite(value):
        raise BadRequest(
            f"After {tokens.shape[-1]:,} tokens the model's scores are no numbers any more. "
            "In float16 they can overflow: the dtype bfloat16 or float32 helps."
        )
