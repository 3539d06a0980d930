"""Keys and values of many sequences, in slots of one preallocated pool. Knows tokens and arrays, no requests.

A slot that no sequence uses any more keeps what it computed: the next turn of that conversation goes on from there,
and another conversation copies what it has in common (the system prompt). The least recently used goes first.
"""

import itertools
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WORTH_COPYING = 16
"""Tokens. A shorter common beginning is computed again as fast as it is copied."""
WORTH_GIVING_BACK = 64
"""Tokens. Giving memory back takes a millisecond."""
MOST_SLOTS = 256

Tokens = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Slot:
    """A place for one sequence. `tokens[:length]` are the tokens whose keys and values stand in the pool."""

    number: int
    capacity: int
    key: str = ""
    """What computed it: values of one version or adapter are never read under another."""
    length: int = 0
    used: bool = False
    last_used: int = 0
    committed: int = 0
    """The most tokens that it held since its memory was last given back."""
    tokens: Tokens = field(default_factory=lambda: np.empty(0, np.int64))

    def advance(self, tokens: Sequence[int]) -> None:
        """The values of `tokens` were written behind those before."""
        end = self.length + len(tokens)
        self.tokens[self.length : end] = tokens
        self.length = end
        self.committed = max(self.committed, end)


class OutOfSlots(Exception):
    """No slot, or no memory for its tokens, until a running sequence ends."""


class KVCache:
    """A pool of slots, each of `slot_tokens` tokens, that hold `budget_tokens` tokens together at most."""

    def __init__(
        self,
        *,
        slot_tokens: int,
        budget_tokens: int,
        slots: int,
        dtype: "torch.dtype | np.dtype[Any]",
        device: "torch.device | None",
    ) -> None:
        """Of torch's tensors on `device`, or of numpy's arrays where that is None."""
        self.budget_tokens = budget_tokens
        self._most_tokens = slots * slot_tokens
        self._pool = Pool(slots=slots, tokens=slot_tokens, dtype=dtype, device=device)
        self._slots = [Slot(number, slot_tokens) for number in range(slots)]
        self._clock = itertools.count(1)

    def open(self, prompt: Sequence[int], key: str) -> Slot:
        """A slot whose first `length` tokens are `prompt`'s, as many as are known; never all of them.

        Raises `OutOfSlots` when running sequences hold everything.
        """
        running = sum(slot.committed for slot in self._slots if slot.used)
        if running + len(prompt) > self.budget_tokens:
            raise OutOfSlots
        wanted = np.asarray(prompt, np.int64)
        known = {slot.number: _common(slot, wanted, key) for slot in self._slots}
        best = max(self._slots, key=lambda slot: (known[slot.number], not slot.used))
        common = known[best.number]
        if common < WORTH_COPYING:
            common = 0
        loses = best.length - common
        goes_on = common and not best.used and loses <= common
        slot = best if goes_on else self._free_slot(besides=best if common else None)
        if slot is not best:
            self._reset(slot, key)
            self._pool.copy(best.number, slot.number, common)
            slot.advance(prompt[:common])
        elif not common:
            self._reset(slot, key)
        else:
            self._cut(slot, common)
        slot.used = True
        return slot

    def close(self, slot: Slot) -> None:
        """The sequence has ended; what the slot holds is kept while there is room."""
        slot.used = False
        slot.last_used = next(self._clock)

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more. Raises `OutOfSlots` when what runs leaves no room."""
        if self._most_tokens + tokens <= self.budget_tokens:
            return  # however full the slots are: to count takes longer
        while self.committed + tokens > self.budget_tokens:
            idle = [slot for slot in self._slots if not slot.used and slot.committed]
            if not idle:
                raise OutOfSlots
            self._drop(min(idle, key=lambda slot: slot.last_used))

    def forget(self, key: str) -> None:
        """Drop what was computed under `key` and is not in use."""
        for slot in self._slots:
            if slot.key == key and not slot.used:
                self._drop(slot)

    def write(
        self, layer: int, slot: Slot, start: int, keys: "Tensor", values: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Store `keys` and `values` (heads x new tokens x size) behind `start` tokens; views of all up to there."""
        return self._pool.write(layer, slot.number, start, keys, values)

    def write_each(
        self, layer: int, slots: "Tensor", places: "Tensor", keys: "Tensor", values: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """Store one token of each of `slots` (heads x slots x size) at its place; the layer's whole pool."""
        return self._pool.write_each(layer, slots, places, keys, values)

    def make_layers(self, count: int, heads: int, size: int) -> None:
        """Have the pools of all layers now; otherwise each is made when it is first written."""
        for layer in range(count):
            self._pool.make_layer(layer, heads, size, size)

    def layer(self, number: int) -> tuple[Any, Any]:
        """The whole pool of keys and of values, slots x heads x tokens x size, for whoever writes it himself."""
        return self._pool.layers[number]

    @property
    def committed(self) -> int:
        """Tokens that take memory."""
        return sum(slot.committed for slot in self._slots)

    @property
    def bytes_per_token(self) -> int:
        """Over all layers that have written so far."""
        return self._pool.bytes_per_token

    def _free_slot(self, *, besides: Slot | None) -> Slot:
        """An empty slot, else the least recently used one; `besides`, which is copied from, if no other is free."""
        free = [slot for slot in self._slots if not slot.used]
        if not free:
            raise OutOfSlots
        return min(free, key=lambda slot: (slot is besides, slot.length > 0, slot.last_used, slot.number))

    def _reset(self, slot: Slot, key: str) -> None:
        self._drop(slot)
        slot.key = key
        slot.tokens = np.empty(slot.capacity, np.int64)

    def _cut(self, slot: Slot, length: int) -> None:
        """Forget what stands behind `length` tokens; the memory of a long end is given back."""
        if slot.committed - length >= WORTH_GIVING_BACK:
            self._pool.give_back(slot.number, length)
            slot.committed = length
        slot.length = length

    def _drop(self, slot: Slot) -> None:
        if slot.committed:
            self._pool.give_back(slot.number)
        slot.length = slot.committed = 0
        slot.last_used = 0


def _common(slot: Slot, wanted: Tokens, key: str) -> int:
    """How many of the first tokens are the same. The last of `wanted` is always computed: it gives the scores."""
    most = min(slot.length, len(wanted) - 1)
    if slot.key != key or most <= 0:
        return 0
    differ = slot.tokens[:most] != wanted[:most]
    return int(differ.argmax()) if differ.any() else most


class Pool:
    """For each layer two tensors, slots x heads x tokens x size, made when the layer first writes.

    On a processor the system commits their memory page by page as it is written, and takes it back when told.
    """

    def __init__(
        self, *, slots: int, tokens: int, dtype: "torch.dtype | np.dtype[Any]", device: "torch.device | None"
    ) -> None:
        self._slots = slots
        self._tokens = tokens
        self._dtype = dtype
        self._device = device
        self.layers: dict[int, tuple[Any, Any]] = {}
        self._maps: list[tuple[mmap.mmap, Any]] = []
        """Memory maps, and the tensor or array in each."""

    def write(
        self, layer: int, slot: int, start: int, keys: "Tensor", values: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        pool_keys, pool_values = self._layer(layer, keys, values)
        end = start + keys.shape[1]
        pool_keys[slot, :, start:end] = keys
        pool_values[slot, :, start:end] = values
        return pool_keys[slot, :, :end], pool_values[slot, :, :end]

    def write_each(
        self, layer: int, slots: "Tensor", places: "Tensor", keys: "Tensor", values: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        pool_keys, pool_values = self._layer(layer, keys, values)
        pool_keys[slots, :, places] = keys.transpose(0, 1)
        pool_values[slots, :, places] = values.transpose(0, 1)
        return pool_keys, pool_values

    def copy(self, source: int, target: int, tokens: int) -> None:
        if tokens:
            for pair in self.layers.values():
                for tensor in pair:
                    tensor[target, :, :tokens] = tensor[source, :, :tokens]

    def give_back(self, slot: int, kept: int = 0) -> None:
        """The memory of a slot behind its first `kept` tokens."""
        for memory, tensor in self._maps:
            row = tensor[0, 0].nbytes  # of one head of one slot
            heads = tensor.shape[1]
            for head in range(heads) if kept else (0,):
                start = (slot * heads + head) * row + kept * (row // self._tokens)
                end = (slot * heads + (head + 1 if kept else heads)) * row
                first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
                length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
                if length > 0:
                    memory.madvise(mmap.MADV_DONTNEED, first, length)

    @property
    def bytes_per_token(self) -> int:
        tensors = [tensor for pair in self.layers.values() for tensor in pair]
        numbers: int = sum(tensor.shape[1] * tensor.shape[3] for tensor in tensors)
        return numbers * self._dtype.itemsize

    def make_layer(self, layer: int, heads: int, key_size: int, value_size: int) -> None:
        self.layers[layer] = (self._allocate(heads, key_size), self._allocate(heads, value_size))

    def _layer(self, layer: int, keys: "Tensor", values: "Tensor") -> "tuple[Tensor, Tensor]":
        if layer not in self.layers:
            self.make_layer(layer, keys.shape[0], keys.shape[2], values.shape[2])
        return self.layers[layer]

    def _allocate(self, heads: int, size: int) -> Any:
        shape = (self._slots, heads, self._tokens, size)
        elsewhere = self._device is not None and self._device.type != "cpu"
        if elsewhere or not hasattr(mmap, "MADV_DONTNEED"):
            return self._zeros(shape)
        memory = mmap.mmap(
            -1, int(np.prod(shape)) * self._dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        array = self._view(memory).reshape(shape)
        self._maps.append((memory, array))
        return array

    def _zeros(self, shape: tuple[int, ...]) -> Any:
        if isinstance(self._dtype, np.dtype):
            return np.zeros(shape, self._dtype)
        import torch

        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _view(self, memory: mmap.mmap) -> Any:
        if isinstance(self._dtype, np.dtype):
            return np.frombuffer(memory, self._dtype)
        import torch

        return torch.frombuffer(memory, dtype=self._dtype)
