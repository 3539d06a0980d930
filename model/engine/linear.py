"""Linear layers of a model on the processor, with weights laid out once as its matrix kernels read them.

For serving alone: gradients do not flow. Elsewhere than on a processor, and where oneDNN is missing, nothing changes.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from model.engine.packed import PackedLinear, packing_works
from model.engine.served import Quantisation
from model.errors import ModelUnusable
from model.hardware import inspect_hardware

GROUP = {"cpu": 32, "cuda": 128}
"""Inputs that share a scale in int4: fewer are more exact."""
SPARE = 4
"""Times the size of a tied head must be free: its weights stay in the embedding, and the head gets a copy."""


def prepare_linears(model: PreTrainedModel, *, quantise: Quantisation = "none") -> None:
    """Make the linear layers of `model` fast to serve, in place. The memory of the old weights is given back.

    "int8" and "int4" round the weights, for less memory. On a processor, of the time in bfloat16 (a model of 0.6B):
    int8 takes 1.5 times for one token and as much for a long prompt; int4 0.7 times for one, 1.4 for eight, 2 for a
    long prompt.
    Raises `ModelUnusable` where they cannot be had.
    """
    if quantise != "none":
        _quantise(model, quantise)
    if model.device.type != "cpu" or not packing_works(model.dtype):
        return
    embedding = model.get_input_embeddings().weight
    for parent, name, linear in list(find_linears(model)):
        if type(linear.weight) is not nn.Parameter or linear.weight.dtype != model.dtype:
            continue  # quantised, or kept in another precision on purpose
        if linear.weight is embedding and not _is_free(SPARE * embedding.nbytes):
            continue
        setattr(parent, name, PackedLinear.of(linear))


def find_linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear | Conv1D]]:
    """Parent, attribute and module, of torch's and GPT-2's own linear layers alone: others compute more than that."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) in (nn.Linear, Conv1D):
                yield parent, name, child


def _quantise(model: PreTrainedModel, quantise: Quantisation) -> None:
    """By torchao (BSD 3-Clause). The head stays, and in int4 what does not divide into its groups.

    A head in int8 alone took a processor more time than all the layers of a model of 0.6B.
    """
    kind = model.device.type
    if kind not in ("cpu", "cuda"):
        raise ModelUnusable(f"Weights in {quantise} are for processors and CUDA, and the model is on {kind}.")
    if quantise == "int4" and kind == "cuda" and model.dtype is not torch.bfloat16:
        raise ModelUnusable(f"Weights in int4 on CUDA need a model in bfloat16, and it is in {model.dtype}.")
    try:
        library = import_module("torchao.quantization")
        config = _config(library, quantise, kind)
    except (ImportError, AttributeError) as error:
        raise ModelUnusable(
            f"Weights in {quantise} need the library torchao in a version that Parley knows: "
            "pip install 'parley[quant]'."
        ) from error
    for parent, name, linear in list(find_linears(model)):
        if isinstance(linear, Conv1D):
            setattr(parent, name, _to_linear(linear))
    head = model.get_output_embeddings()

    def fits(module: nn.Module, name: str) -> bool:
        if module is head or type(module) is not nn.Linear or type(module.weight) is not nn.Parameter:
            return False
        divides = module.in_features % GROUP[kind] == 0 and module.out_features % 16 == 0
        return quantise == "int8" or divides

    library.quantize_(model, config, filter_fn=fits)


def _config(library: Any, quantise: Quantisation, kind: str) -> Any:
    if quantise == "int8":
        return library.Int8WeightOnlyConfig()
    if kind == "cuda":
        return library.Int4WeightOnlyConfig(
            group_size=GROUP[kind], int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    prototype = import_module("torchao.prototype.quantization.int4")
    return prototype.PrototypeInt4WeightOnlyConfig(group_size=GROUP[kind], set_inductor_config=False)


def _to_linear(conv: Conv1D) -> nn.Linear:
    linear = nn.Linear(conv.nx, conv.nf, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().t().contiguous(), requires_grad=False)
    linear.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return linear


def _is_free(size: int) -> bool:
    [processor] = [device for device in inspect_hardware().devices if device.kind == "cpu"]
    return processor.memory_free is None or processor.memory_free >= size
