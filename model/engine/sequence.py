"""One request while it runs: its tokens, its choices, its text. Knows no other request, no thread and no model."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens

from model.engine.drafts import Drafts
from model.engine.runner import Feed, Place
from model.engine.sampler import Choice, Sampler
from model.engine.text import ReplyText
from model.errors import EngineError
from model.request import Completion, Delta, FinishReason, TokenLogprobs

Deliver = Callable[[Delta | EngineError], None]


class Sequence:
    """Lives on the engine's thread from its admission on."""

    def __init__(
        self,
        prompt: Tokens[int],
        *,
        max_tokens: int,
        stop_tokens: frozenset[int],
        sampler: Sampler,
        text: ReplyText,
        deliver: Deliver,
        called_at: float,
        conversation: str = "",
        adapter: str | None = None,
    ) -> None:
        """At most `max_tokens` follow on `prompt`; `called_at` is a time of `time.monotonic`."""
        self.tokens = list(prompt)
        self.conversation = conversation
        self.adapter = adapter
        self.deliver = deliver
        self.cancelled = False
        self.started_at: float | None = None
        self.place: Place | None = None
        self.sampler = sampler
        self.drafts = Drafts()
        self._prompt_length = len(prompt)
        self._limit = len(prompt) + max_tokens
        self._stop_tokens = stop_tokens
        self._text = text
        self._called_at = called_at
        self._first_token_at = called_at
        self._cached = 0
        self._logprobs: list[TokenLogprobs] = []

    def begin(self, place: Place) -> None:
        """`place` knows a beginning of the tokens. Called again when a preempted sequence comes back."""
        self.place = place
        if self.started_at is None:
            self.started_at = time.monotonic()
            self._cached = place.length

    @property
    def generated(self) -> int:
        return len(self.tokens) - self._prompt_length

    @property
    def left(self) -> int:
        """Tokens that may still be written."""
        return self._limit - len(self.tokens)

    @property
    def missing(self) -> int:
        """Tokens that are not computed: 1 while it writes, more while it reads its prompt."""
        assert self.place is not None
        return len(self.tokens) - self.place.length

    def feed(self, most: int, drafts: Tokens[int] = ()) -> Feed:
        """The next tokens to compute, `most` of the missing ones, and guesses at what follows them."""
        assert self.place is not None
        start = self.place.length
        tokens = self.tokens[start : start + most]
        complete = start + len(tokens) == len(self.tokens)
        return Feed(
            self.place,
            [*tokens, *drafts] if complete else tokens,
            scored=1 + len(drafts) if complete else 0,
            adapter=self.adapter,
        )

    def propose(self) -> list[int]:
        """Guesses at what follows the next token."""
        return self.drafts.propose(self.tokens, self.left - 1)

    def accept(self, choice: Choice) -> Delta | None:
        """Go on with the chosen token; None while there is nothing to show."""
        if not self.generated:
            self._first_token_at = time.monotonic()
        token = choice.token
        self.tokens.append(token)
        if choice.logprobs is not None:
            self._logprobs.append(choice.logprobs)
        if token in self._stop_tokens:
            return self._finish("stop", self._text.flush())
        self.sampler.accept(token)
        text, stopped = self._text.push(token)
        if stopped:
            return self._finish("stop", text)
        if not self.left:
            return self._finish("length", text + self._text.flush())
        return Delta(text, logprobs=self._take_logprobs()) if text else None

    def _take_logprobs(self) -> tuple[TokenLogprobs, ...]:
        taken = tuple(self._logprobs)
        self._logprobs.clear()
        return taken

    def _finish(self, reason: FinishReason, text: str) -> Delta:
        assert self.started_at is not None
        return Delta(
            text,
            Completion(
                reason=reason,
                prompt_tokens=self._prompt_length,
                completion_tokens=self.generated,
                cached_tokens=self._cached,
                seed=self.sampler.seed,
                queue_seconds=self.started_at - self._called_at,
                first_token_seconds=self._first_token_at - self._called_at,
                total_seconds=time.monotonic() - self._called_at,
            ),
            self._take_logprobs(),
        )
