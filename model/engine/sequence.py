"""One request while it runs: its tokens, its KV cache, its text. Knows no other request and no thread."""

import time
from collections.abc import Callable

import torch
from transformers import DynamicCache

from model.engine.sampler import Sampler
from model.engine.text import ReplyText
from model.errors import EngineError
from model.loading import LoadedModel
from model.request import Completion, Delta, FinishReason, GenerationRequest

PREFILL_TOKENS = 512
"""Prompt tokens computed at once: a long prompt must not stop the other replies for long."""


class Sequence:
    """Lives on the engine's thread from its admission on."""

    def __init__(
        self,
        loaded: LoadedModel,
        request: GenerationRequest,
        prompt: list[int],
        *,
        context_tokens: int,
        called_at: float,
        deliver: Callable[[Delta | EngineError], None],
    ) -> None:
        """`prompt` is shorter than `context_tokens`; `called_at` is a time of `time.monotonic`."""
        self.deliver = deliver
        self.cancelled = False
        self.started_at: float | None = None
        self._model = loaded.model
        self._sampling = request.sampling
        self._stop_tokens = loaded.stop_token_ids
        stops = (*request.sampling.stop, *loaded.format.stop_strings(request.messages))
        self._text = ReplyText(loaded.tokenizer, stops)
        self._prompt = prompt
        self._limit = min(context_tokens, len(prompt) + request.sampling.max_tokens)
        self._called_at = called_at
        self._first_token_at = called_at

    def start(self) -> None:
        """Take memory. The tokens of prompt and reply share one tensor, of which `_length` are known."""
        self.started_at = time.monotonic()
        device = self._model.device
        self._sampler = Sampler(self._sampling, device)
        self._tokens = torch.empty((1, self._limit), dtype=torch.long, device=device)
        self._tokens[0, : len(self._prompt)] = torch.tensor(self._prompt)
        self._length = len(self._prompt)
        self._computed = 0
        self._cache: DynamicCache | None = DynamicCache(config=self._model.config)

    def advance(self) -> Delta | None:
        """Compute a piece of the prompt, or the next token; None while there is nothing to show.

        Raises `BadRequest` where the model's scores are no numbers.
        """
        logits = self._forward()
        if logits is None:
            return None
        return self._accept(self._sampler.choose(self._tokens[:, : self._length], logits))

    def release(self) -> None:
        self._cache = None
        self._tokens = torch.empty(0)

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the reply so far."""
        return self._length

    @property
    def generated(self) -> int:
        return self._length - len(self._prompt)

    def _forward(self) -> torch.Tensor | None:
        """The scores (1 x vocabulary) after all known tokens; None while some of the prompt is left."""
        end = min(self._length, self._computed + PREFILL_TOKENS)
        output = self._model(
            input_ids=self._tokens[:, self._computed : end],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._computed = end
        logits: torch.Tensor = output.logits[:, -1]
        return logits if end == self._length else None

    def _accept(self, token: int) -> Delta | None:
        if not self.generated:
            self._first_token_at = time.monotonic()
        self._tokens[0, self._length] = token
        self._length += 1
        if token in self._stop_tokens:
            return self._finish("stop", self._text.flush())
        text, stopped = self._text.push(token)
        if stopped:
            return self._finish("stop", text)
        if self._length == self._limit:
            return self._finish("length", text + self._text.flush())
        return Delta(text) if text else None

    def _finish(self, reason: FinishReason, text: str) -> Delta:
        assert self.started_at is not None
        return Delta(
            text,
            Completion(
                reason=reason,
                prompt_tokens=len(self._prompt),
                completion_tokens=self.generated,
                cached_tokens=0,
                seed=self._sampler.seed,
                queue_seconds=self.started_at - self._called_at,
                first_token_seconds=self._first_token_at - self._called_at,
                total_seconds=time.monotonic() - self._called_at,
            ),
        )
