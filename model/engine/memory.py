"""Which runner serves a model, and how much memory its conversations get: tried out, not guessed."""

import inspect
import logging

import torch
from torch import Tensor
from transformers import PreTrainedModel

from model.engine.kv_cache import MOST_SLOTS, KVCache
from model.engine.lora import Adapters
from model.engine.runner import BatchRunner, Feed, Runner, SingleRunner
from model.errors import ModelUnusable
from model.hardware import inspect_hardware
from model.loading import LoadedModel

log = logging.getLogger(__name__)

BATCHED_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types that attend to keys and values alone; others carry a state from token to token."""
PROBE_TOKENS = 24
LARGEST_ERROR = 0.15
"""Of the scores of two ways to compute the same, against their usual size; rounding in bfloat16 stays well below."""
CACHE_SHARE = 0.6
"""Of the memory that is free once the weights are loaded."""
UNKNOWN_MEMORY = 2 * 2**30


def open_runner(
    loaded: LoadedModel, adapters: Adapters, *, context_tokens: int, max_running: int, cache_bytes: int | None
) -> Runner:
    """The batched runner where the architecture allows it and agrees with transformers' own forward pass."""
    model = loaded.model
    fault = find_fault_in_batches(model)
    if fault is not None:
        log.warning("%s is computed one reply after another, not in batches: %s", loaded.name, fault)
        return SingleRunner(model, adapters, kept=2 * max_running)
    free = cache_bytes or int(CACHE_SHARE * (_free_memory(loaded.device) or UNKNOWN_MEMORY))
    return BatchRunner(model, _size_cache(loaded, free, context_tokens), adapters)


def find_fault_in_batches(model: PreTrainedModel) -> str | None:
    """Why `model` cannot be computed in batches; None where it can, and gives the same scores."""
    fault = _what_forbids_batches(model)
    if fault is None:
        with torch.inference_mode():
            fault = _try_batches(model)
    return fault


def _what_forbids_batches(model: PreTrainedModel) -> str | None:
    """By the look of it; None where nothing speaks against batches."""
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - BATCHED_LAYERS)
    if others:
        return f"it has layers of the type {', '.join(others)}."
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not let its attention be chosen."
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return f"{type(model).__name__} takes no positions."
    return None


def _try_batches(model: PreTrainedModel) -> str | None:
    """Compute a random dialogue both ways."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (PROBE_TOKENS,), generator=generator).tolist()
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    expected: Tensor = model(torch.tensor([tokens], device=model.device), use_cache=False).logits[0].float()
    try:
        found = _compute_in_pieces(_probe_runner(model), tokens).float()
    except Exception as error:  # a forward pass can refuse in as many ways as there are architectures
        log.debug("the batched forward pass failed", exc_info=True)
        return f"its forward pass refused a batch ({type(error).__name__})."
    finally:
        model.set_attn_implementation(own)
    difference = float((found - expected).norm(dim=-1).max() / expected.norm(dim=-1).mean())
    if difference <= LARGEST_ERROR:
        return None
    return f"its scores in a batch differ from its own by {difference:.0%}."


def _probe_runner(model: PreTrainedModel) -> BatchRunner:
    cache = KVCache(
        slot_tokens=PROBE_TOKENS, budget_tokens=10**9, slots=2, dtype=model.dtype, device=model.device
    )
    return BatchRunner(model, cache, Adapters(model, base_version=""))


def _compute_in_pieces(runner: BatchRunner, tokens: list[int]) -> Tensor:
    """The scores behind each token, in a piece and then one by one, beside another sequence that starts elsewhere."""
    place, other = runner.open(tokens, None), runner.open(tokens[::-1], None)
    half = len(tokens) // 2
    scores = [
        runner.forward([Feed(other, tokens[half:], 0), Feed(place, tokens[:half], half)]),
    ]
    for token in tokens[half:]:
        scores.append(runner.forward([Feed(place, [token], 1), Feed(other, [token], 0)]))
    return torch.cat(scores)


def _free_memory(device: str) -> int | None:
    return next((found.memory_free for found in inspect_hardware().devices if found.name == device), None)


def _size_cache(loaded: LoadedModel, free: int, context_tokens: int) -> KVCache:
    budget = free // _bytes_per_token(loaded.model)
    if budget < context_tokens:
        raise ModelUnusable(
            f"Beside {loaded.name} the memory holds {budget:,} tokens of conversation, which is less than one "
            f"context of {context_tokens:,}. Set PARLEY_CONTEXT_TOKENS to {budget:,} or less, or take a smaller model."
        )
    # A processor's memory is committed as it is used: short conversations may then have more slots than long ones.
    slots = MOST_SLOTS if loaded.device == "cpu" else budget // context_tokens
    return KVCache(
        slot_tokens=context_tokens,
        budget_tokens=budget,
        slots=min(MOST_SLOTS, max(slots, 1)),
        dtype=loaded.model.dtype,
        device=loaded.model.device,
    )


def _bytes_per_token(model: PreTrainedModel) -> int:
    """What a token's keys and values take, measured on one token."""
    probe = _probe_runner(model)
    own = model.config._attn_implementation
    with torch.inference_mode():
        probe.forward([Feed(probe.open([0, 0], None), [0], 0)])
    model.set_attn_implementation(own)
    return probe.cache.bytes_per_token
