"""One linear layer on the processor, with its weight laid out once as oneDNN's matrix kernels read it."""

from typing import Any

import torch
from torch import Tensor, nn

ROWS = 8
"""What the weights are laid out for: so many tokens decode together. It is no worse for the long rows of a prompt."""


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
    def of(cls, linear: nn.Module) -> "PackedLinear":
        """A `nn.Linear`, or GPT-2's Conv1D, whose weight is in x out."""
        weight: Any = linear.weight
        return cls(weight if isinstance(linear, nn.Linear) else weight.t(), linear.bias)  # type: ignore[arg-type]

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


def packing_works(dtype: torch.dtype) -> bool:
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
