"""Linear layers of a model on the processor, with weights laid out once as its matrix kernels read them.

For serving alone: gradients do not flow. Elsewhere than on a processor, and where oneDNN is missing, nothing changes.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from model.hardware import inspect_hardware

Quantisation = Literal["none", "int8", "int4"]

ROWS = 8
"""What the weights are laid out for: so many tokens decode together. It is no worse for the long rows of a prompt."""
SPARE = 4
"""Times the size of a tied head must be free: its weights stay in the embedding, and the head gets a copy."""


def prepare_linears(model: PreTrainedModel, *, quantise: Quantisation = "none") -> None:
    """Replace each linear layer by a `PackedLinear`, in place. The memory of the old weights is given back."""
    if model.device.type != "cpu" or not _packing_works(model.dtype):
        return
    embedding = model.get_input_embeddings().weight
    for parent, name, linear in list(find_linears(model)):
        if linear.weight.dtype != model.dtype:
            continue  # kept in another precision on purpose
        if linear.weight is embedding and not _is_free(SPARE * embedding.nbytes):
            continue
        setattr(parent, name, PackedLinear.of(linear))


def find_linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear | Conv1D]]:
    """Parent, attribute and module, of torch's and GPT-2's own linear layers alone: others compute more than that."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) in (nn.Linear, Conv1D):
                yield parent, name, child


class PackedLinear(nn.Module):
    """x @ weight.T + bias, as `nn.Linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is out x in; it is copied."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._bias = None if bias is None else bias.detach()
        # No buffer: the layout is opaque, it can neither be moved nor saved.
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)

    @classmethod
    def of(cls, linear: nn.Linear | Conv1D) -> "PackedLinear":
        return cls(linear.weight.t() if isinstance(linear, Conv1D) else linear.weight, linear.bias)

    @property
    def weight(self) -> Tensor:
        """Unpacked anew each time: slow, for the few architectures that read it."""
        return self._packed.to_dense()

    @property
    def bias(self) -> Tensor | None:
        return self._bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, dtype={self._packed.dtype}"


def _packing_works(dtype: torch.dtype) -> bool:
    """Tried out: which layouts a processor knows depends on the build of torch."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(shape, generator=generator).to(dtype) for shape in ((48, 64), (3, 64)))
    try:
        with torch.inference_mode():
            found, expected = PackedLinear(weight, None)(x).float(), x.float() @ weight.float().t()
    except (RuntimeError, AttributeError):  # the operator is missing, or the layout
        return False
    return bool(torch.allclose(found, expected, rtol=0.02, atol=0.02 * 64**0.5))


def _is_free(size: int) -> bool:
    [processor] = [device for device in inspect_hardware().devices if device.kind == "cpu"]
    return processor.memory_free is None or processor.memory_free >= size
