"""Forward passes of a lean decoder for the scheduler, over the engine's own KV cache."""

from collections.abc import Sequence
from typing import Protocol

from model.engine.kv_cache import KVCache, Slot
from model.engine.row import Row, growth, lay_out
from model.engine.runner import Feed, Place, Scores


class Decoder(Protocol):
    def forward(self, row: Row, cache: KVCache) -> Scores:
        """The wanted scores: rows x vocabulary. Keys and values of the row are written into `cache`."""
        ...


class LeanRunner:
    """Many sequences in one pass. It takes no adapters."""

    batched = True

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self._decoder = decoder
        self.cache = cache

    def open(self, prompt: Sequence[int], adapter: str | None) -> Place:
        assert adapter is None
        return self.cache.open(prompt, "")

    def reserve(self, feeds: Sequence[Feed]) -> None:
        self.cache.reserve(growth(feeds))

    def forward(self, feeds: Sequence[Feed]) -> Scores:
        row = lay_out(feeds)
        scores = self._decoder.forward(row, self.cache)
        row.advance()
        return scores

    def truncate(self, place: Place, length: int) -> None:
        assert isinstance(place, Slot)
        place.length = length

    def close(self, place: Place) -> None:
        assert isinstance(place, Slot)
        self.cache.close(place)
