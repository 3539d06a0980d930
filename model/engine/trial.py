"""Which runner serves a transformers model: tried out, not guessed."""

import inspect
import logging

import torch
from torch import Tensor
from transformers import PreTrainedModel

from model.engine.fused import fuse_small_ops
from model.engine.kv_cache import KVCache
from model.engine.linear import prepare_linears
from model.engine.lora import Adapters
from model.engine.passes import BatchRunner, SingleRunner
from model.engine.room import free_memory, size_cache
from model.engine.runner import Feed, Runner
from model.engine.served import Opened, Quantisation
from model.hardware import one_thread
from model.loading import LoadedModel

log = logging.getLogger(__name__)

BATCHED_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types that attend to keys and values alone; others carry a state from token to token."""
PROBE_TOKENS = 24
LARGEST_ERROR = 0.15
"""Of the scores of two ways to compute the same, against their usual size; rounding in bfloat16 stays well below."""


def prepare(
    loaded: LoadedModel,
    *,
    context_tokens: int,
    max_running: int,
    cache_bytes: int | None,
    quantise: Quantisation,
) -> Opened:
    """Replace modules of the model by faster ones, and find out how to compute it."""
    with one_thread():
        prepare_linears(loaded.model, quantise=quantise)
        fuse_small_ops(loaded.model)
        adapters = Adapters(loaded.model, base_version=loaded.version)
        runner = open_runner(
            loaded,
            adapters,
            context_tokens=context_tokens,
            max_running=max_running,
            cache_bytes=cache_bytes,
        )
    return Opened(runner, adapters)


def open_runner(
    loaded: LoadedModel, adapters: Adapters, *, context_tokens: int, max_running: int, cache_bytes: int | None
) -> Runner:
    """The batched runner where the architecture allows it and agrees with transformers' own forward pass."""
    model = loaded.model
    fault = find_fault_in_batches(model)
    if fault is not None:
        log.warning("%s is computed one reply after another, not in batches: %s", loaded.name, fault)
        return SingleRunner(model, adapters, kept=2 * max_running)
    cache = size_cache(
        loaded.name,
        bytes_per_token=_bytes_per_token(model),
        free=cache_bytes or free_memory(loaded.device),
        context_tokens=context_tokens,
        dtype=model.dtype,
        device=model.device,
    )
    return BatchRunner(model, cache, adapters)


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


def _bytes_per_token(model: PreTrainedModel) -> int:
    """What a token's keys and values take, measured on one token."""
    probe = _probe_runner(model)
    own = model.config._attn_implementation
    with torch.inference_mode():
        probe.forward([Feed(probe.open([0, 0], None), [0], 0)])
    model.set_attn_implementation(own)
    return probe.cache.bytes_per_token
