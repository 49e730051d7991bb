"""Clips laid end to end: padding is neither computed nor seen.

A padded batch (batch, time, width) becomes rows (steps, width), clip after clip. A causal
convolution is then two matrix products over shifted rows, and batch normalisation takes its
statistics over real frames only. Both carry a hand-written backward: on two CPU cores they take
less than half the time of Conv1d and BatchNorm1d over a padded (batch, width, time) tensor.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FLOOR = 1e-8  # under the square root, where its gradient is still finite
ROUND = 8  # matrix products over 40 columns take 2/3 of the time of those over 39


class Packing:
    """Where the rows of a packed batch belong.

    Attributes:
        lengths: (batch,) steps of each clip.
        clip: (steps,) the clip of each row.
        step: (steps,) its place in the clip.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        device = lengths.device
        self.clip = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
        self._start = lengths.cumsum(0) - lengths
        self.step = torch.arange(len(self.clip), device=device) - self._start[self.clip]

    def pack(self, sequence: Tensor) -> Tensor:
        """(batch, time, width) -> (steps, width)."""
        rows: Tensor = self.clip * sequence.shape[1] + self.step
        return sequence.flatten(0, 1).index_select(0, rows)

    def reversed_rows(self) -> Tensor:
        """(steps,) for each row, the row at the mirrored place of the same clip."""
        last = (self._start + self.lengths - 1)[self.clip]
        return last - self.step

    def has_past(self, dilation: int) -> Tensor:
        """(steps - dilation, 1) 1.0 where the row `dilation` rows before is of the same clip."""
        return (self.step[dilation:] >= dilation).float()[:, None]

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over each clip: (steps, width) -> (batch, width)."""
        total = rows.new_zeros(len(self.lengths), rows.shape[1]).index_add(0, self.clip, rows)
        return total / self.lengths.clamp(min=1)[:, None]

    def deviation(self, rows: Tensor, mean: Tensor) -> Tensor:
        """Population deviation in each clip: (steps, width), its mean -> (batch, width)."""
        centred = rows - mean.index_select(0, self.clip)
        return (self.mean(centred.square()) + FLOOR).sqrt()


class _ConvNormRelu(Function):
    """Causal convolution, batch normalisation over the rows, ReLU and a factor per clip.

    convolved[t] = taps[1] applied to x[t] + taps[0] applied to x[t - dilation] + bias, where what
    lies before a clip's start is 0. Only three tensors of the rows' size are kept for the backward
    pass; page faults on fresh memory, not arithmetic, would otherwise take half of the time.
    Returns the output (steps, width), and the mean and biased variance that were used.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        taps: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        factor: Tensor | None,
        clip: Tensor,
        has_past: Tensor,
        epsilon: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        centred = causal_product(x, taps, bias, has_past)
        mean = centred.mean(0)
        centred -= mean
        out = torch.mul(centred, centred)
        variance = out.mean(0)
        inverse = (variance + epsilon).rsqrt()
        torch.addcmul(beta, centred, inverse * gamma, out=out).relu_()
        if factor is not None:
            out *= factor.index_select(0, clip)
        ctx.save_for_backward(x, centred, out, taps, inverse, gamma, factor, clip, has_past)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, centred, out, taps, inverse, gamma, factor, clip, has_past = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grads[0], out, 0)
        if factor is not None:
            grad *= factor.index_select(0, clip)
        grad_beta = grad.sum(0)
        work = torch.mul(grad, centred)
        product = work.sum(0)
        scale, n = inverse * gamma, len(x)
        grad *= scale
        grad -= scale * grad_beta / n
        grad.addcmul_(centred, -scale * inverse.square() * product / n)
        late = grad[n - len(has_past) :]
        earlier = torch.mul(x[: len(has_past)], has_past, out=work[: len(has_past)])
        grad_taps = torch.stack([earlier.T @ late, x.T @ grad])
        grad_x = grad @ taps[1].T
        grad_x[: len(has_past)].addcmul_(torch.mm(late, taps[0].T, out=earlier), has_past)
        return grad_x, grad_taps, grad.sum(0), product * inverse, grad_beta, None, None, None, None


def causal_product(x: Tensor, taps: Tensor, bias: Tensor, has_past: Tensor) -> Tensor:
    """Kernel-2 causal convolution of packed rows (steps, width); taps (2, in, out), past first."""
    out = torch.addmm(bias, x, taps[1])
    out[len(x) - len(has_past) :].addmm_(x[: len(has_past)] * has_past, taps[0])
    return out


class CausalConv(nn.Module):
    """The parameters of a causal convolution of kernel 2: weight (out, in, 2), [..., 1] is now."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        like = nn.Conv1d(width, width, 2, dilation=dilation)  # PyTorch's initial values
        assert like.bias is not None
        self.weight, self.bias = like.weight, like.bias

    def taps(self, width: int) -> tuple[Tensor, Tensor]:
        """(2, width, width) past and now, and bias (width,); what is added is 0."""
        extra = width - len(self.bias)
        weight = F.pad(self.weight.permute(2, 1, 0), (0, extra, 0, extra))
        return weight, F.pad(self.bias, (0, extra))


class Norm(nn.Module):
    """The state of a batch normalisation. `momentum` is the share of the new batch."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, epsilon: float, momentum: float) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.epsilon, self.momentum = epsilon, momentum

    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards a batch's."""
        width = len(self.gamma)
        self.running_mean.lerp_(mean[:width], self.momentum)
        self.running_var.lerp_(variance[:width], self.momentum)

    def folded(self, taps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The convolution's taps and bias with the running normalisation worked in."""
        padding = (0, taps.shape[-1] - len(self.gamma))
        scale = F.pad(self.gamma * (self.running_var + self.epsilon).rsqrt(), padding)
        return taps * scale, (bias - F.pad(self.running_mean, padding)) * scale + F.pad(
            self.beta, padding
        )


def conv_norm_relu(
    rows: Tensor,
    conv: CausalConv,
    norm: Norm,
    factor: Tensor | None,
    packing: Packing,
    has_past: Tensor,
) -> Tensor:
    """One half of a temporal block: (steps, width) -> (steps, width).

    `factor` (batch, width) multiplies each clip's channels, or None. The statistics are the rows'
    own where the norm is in training mode, and the running ones otherwise.
    """
    width = rows.shape[1]
    taps, bias = conv.taps(width)
    if not norm.training:
        return causal_product(rows, *norm.folded(taps, bias), has_past).relu_()
    padding = (0, width - len(norm.gamma))
    out, mean, variance = _ConvNormRelu.apply(  # type: ignore[no-untyped-call]
        rows,
        taps,
        bias,
        F.pad(norm.gamma, padding),
        F.pad(norm.beta, padding),
        factor,
        packing.clip,
        has_past,
        norm.epsilon,
    )
    norm.update(mean, variance)
    return out  # type: ignore[no-any-return]


def round_up(width: int) -> int:
    """The width that matrix products are fast on."""
    return -(-width // ROUND) * ROUND
