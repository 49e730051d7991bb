"""Linear layers by oneDNN on a CPU, where it is faster than the BLAS that torch calls.

torch multiplies float32 matrices by MKL, which on AMD's processors leaves the 512-bit units idle:
on a Zen 5 EPYC one core reaches 105 GFLOP/s by MKL and 220 by oneDNN, which torch brings along (768
columns, 179 to 740 rows; both products of the backward pass alike; on a Zen 4, whose units are
narrower, both are as fast). The arithmetic is the same, in another order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BUILT_IN = all(  # absent from some builds
    hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_convolution_pointwise_")
)


def applies(rows: Tensor) -> bool:
    """Whether oneDNN multiplies these rows: float32, on a CPU, outside autocast."""
    return (
        _BUILT_IN
        and rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and rows.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in) by (out, in) -> (..., out); no gradient flows. Ask `applies` first."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's function of this name, (..., in) by (out, in), with its products by oneDNN."""
    if not applies(rows):
        return F.linear(rows, weight, bias)
    return _Product.apply(rows, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


def add_product(total: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add (n, in) by (in, out) to total (n, out), in place; ask `applies` first.

    oneDNN adds in place in convolutions: this is one of kernel 1 over n steps.
    """
    kernel = weight.t()[:, :, None, None]
    torch.ops.mkldnn._convolution_pointwise_(
        as_steps(total), as_steps(rows), kernel, None, (0, 0), (1, 1), (1, 1), 1, "add", 1.0,
        None, [], None,
    )  # fmt: skip


def as_steps(rows: Tensor) -> Tensor:
    """(n, channels) -> (1, channels, n, 1), a view: the channels are innermost in memory."""
    n, channels = rows.size(0), rows.size(1)
    return rows.as_strided((1, channels, n, 1), (rows.numel(), 1, channels, channels))


class Linear(nn.Linear):
    """torch's linear layer, of the same parameters, with its three products by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(input, self.weight, self.bias)


def use_onednn(module: nn.Module) -> None:
    """Turn every plain linear layer of a module into `Linear`, in place: names and weights stay."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear


def use_blas(module: nn.Module) -> None:
    """Undo `use_onednn`."""
    for part in module.modules():
        if type(part) is Linear:
            part.__class__ = nn.Linear  # type: ignore[assignment]


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2)
        return (
            product(grad, weight.T) if of_rows else None,
            product(flat.T, rows.flatten(0, -2).T) if of_weight else None,
            flat.sum(0) if of_bias else None,
        )
