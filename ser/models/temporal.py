"""TIM-Net's temporal blocks, both directions in one batched product, with a backward by hand.

The rows of a batch lie time first, (2 directions, time, clips, channels): the past of every row
is a fixed number of rows before it, so a causal convolution of kernel 2 is two matrix products
added up in place, the second over the rows that have a past. Autograd would keep eight tensors a
block; here three are kept, and what is cheap is computed again in memory that is still in the
processor's cache.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ser.models.onednn import add_product
from ser.models.temporal_rows import Clips, activate, convolve, summarise

__all__ = ["Clips", "run_blocks", "train_blocks"]

_threshold_backward = torch.ops.aten.threshold_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input


def run_blocks(
    rows: Tensor, taps: Tensor, bias: Tensor, clips: Clips, pasts: list[int], deviation: bool
) -> Tensor:
    """The blocks with folded normalisation, for inference: each one's summary of every clip.

    Args:
        rows: (2, time, clips, channels), 0 past a clip's length.
        taps: (blocks, 2 convolutions, 2 directions, 2 taps, channels in, channels out), past first.
        bias: (blocks, 2 convolutions, 2 directions, channels).
        clips: which rows are real.
        pasts: the dilation of each block, in rows: frames * clips.
        deviation: give the deviation over the clip's frames too.

    Returns:
        (blocks, 2 directions, clips, channels), or of 2 * channels with the deviation.
    """
    summaries = []
    for number, past in enumerate(pasts):
        hidden = rows.flatten(1, 2)
        for half in range(2):
            now = convolve(hidden, taps[number, half], past)
            hidden = now.add_(bias[number, half][:, None]).relu_()
        rows = rows * hidden.sigmoid().view_as(rows)
        summaries.append(summarise(rows, clips, deviation))
    return torch.stack(summaries)


def train_blocks(
    rows: Tensor,
    taps: Tensor,
    bias: Tensor,
    gamma: Tensor,
    beta: Tensor,
    keep: Tensor | None,
    clips: Clips,
    pasts: list[int],
    epsilon: float,
    deviation: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `run_blocks`, with batch normalisation over the real rows and channel dropout.

    The bias only moves the mean, which the normalisation takes away: its gradient is exactly 0.

    Args:
        rows, taps, bias, clips, pasts, deviation: as in `run_blocks`.
        gamma, beta: (blocks, 2 convolutions, 2 directions, channels), of the normalisation.
        keep: (blocks, 2 convolutions, 2 directions, clips, channels), factors of the dropout, each
            0 or the same positive number; None to leave it out.
        epsilon: of the normalisation.

    Returns:
        The summaries, and the mean and biased variance that each normalisation saw, shaped as
        gamma.
    """
    return _Blocks.apply(  # type: ignore[no-any-return, no-untyped-call]
        rows, taps, bias, gamma, beta, keep, _Options(clips, pasts, epsilon, deviation)
    )


class _Options(NamedTuple):
    """What is not a tensor."""

    clips: Clips
    pasts: list[int]
    epsilon: float
    deviation: bool


class _Blocks(Function):
    """Forward and backward of every block; kept are each one's input and centred convolutions."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        taps: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        keep: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        def run(one: slice) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
            weights = _of_direction((taps, gamma, beta, keep), one)
            return _forward(options, rows[one], *weights)

        summaries, means, variances, kept_parts = zip(*map(run, _directions(rows)), strict=True)
        summary, mean, variance = (
            torch.cat(summaries, 1),
            torch.cat(means, 2),
            torch.cat(variances, 2),
        )
        inverse = (variance + options.epsilon).rsqrt()
        kept = [tensor for part in kept_parts for tensor in part]
        ctx.save_for_backward(taps, gamma, beta, keep, mean, inverse, summary, *kept)
        ctx.options, ctx.directions = options, _directions(rows)
        biased = mean + bias
        ctx.mark_non_differentiable(biased, variance)
        return summary, biased, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        taps, gamma, beta, keep, seen, inverse, summary, *kept = ctx.saved_tensors
        options, n = ctx.options, len(kept) // len(ctx.directions)

        def run(one: slice) -> tuple[Tensor, ...]:
            weights = _of_direction((taps, gamma, beta, keep, seen, inverse), one)
            of_summary = grads[0][:, one], summary[:, one]
            start = one.start * n
            return _backward(options, kept[start : start + n], *of_summary, *weights)

        of_rows, *of_weights = zip(*map(run, ctx.directions), strict=True)
        of_taps, of_gamma, of_beta = (torch.cat(parts, 2) for parts in of_weights)
        grad = torch.cat(of_rows)
        return grad, of_taps, torch.zeros_like(beta), of_gamma, of_beta, None, None


def _of_direction(weights: Sequence[Tensor | None], one: slice) -> list[Any]:
    """Of (blocks, 2 convolutions, 2 directions, ...) tensors those of one direction."""
    return [None if weight is None else weight[:, :, one] for weight in weights]


def _directions(rows: Tensor) -> list[slice]:
    """Which directions go together: on one thread each goes alone, with half the memory in work.

    A step of 64 x 215 x 39 then takes an EPYC core a seventh less. On two threads, which meet after
    each operation, both together take a quarter less than one after the other.
    """
    alone = rows.device.type == "cpu" and torch.get_num_threads() == 1
    return [slice(0, 1), slice(1, 2)] if alone else [slice(0, 2)]


def _forward(
    options: _Options,
    rows: Tensor,
    taps: Tensor,
    gamma: Tensor,
    beta: Tensor,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Summaries, means, variances, and what the backward pass of this direction needs."""
    clips = options.clips
    inputs, centred, summaries = [rows], [], []
    mean, variance = torch.empty_like(gamma), torch.empty_like(gamma)
    hidden = torch.empty_like(rows)
    work = torch.empty_like(rows).flatten(1, 2)
    for number, past in enumerate(options.pasts):
        for half in range(2):
            at = number, half
            source = (hidden if half else inputs[-1]).flatten(1, 2)
            now = convolve(source, taps[at], past)
            mean[at], variance[at] = clips.moments(now, work)
            scale = gamma[at] * (variance[at] + options.epsilon).rsqrt()
            offset = beta[at] - scale * mean[at]
            activate(now, scale, offset, None if keep is None else keep[at], hidden)
            centred.append(now)
        inputs.append(inputs[-1] * hidden.sigmoid_())
        summaries.append(summarise(inputs[-1], clips, options.deviation))
    return torch.stack(summaries), mean, variance, [*inputs, *centred]


def _backward(
    options: _Options,
    kept: list[Tensor],
    of_summary: Tensor,
    summary: Tensor,
    taps: Tensor,
    gamma: Tensor,
    beta: Tensor,
    keep: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of this direction's rows, taps, gamma and beta."""
    clips, pasts = options.clips, options.pasts
    inputs, centred = kept[: len(pasts) + 1], kept[len(pasts) + 1 :]
    scale = gamma * inverse
    offset = beta - scale * mean
    gain = 1.0 if keep is None else keep.max()
    grad_taps, grad_gamma, grad_beta = map(torch.empty_like, (taps, gamma, beta))
    grad = torch.zeros_like(inputs[0])
    first, second, through, work = (torch.empty_like(grad) for _ in range(4))
    for number in reversed(range(len(pasts))):
        for half, out in enumerate((first, second)):
            at = number, half
            dropped = None if keep is None else keep[at]
            activate(centred[2 * number + half], scale[at], offset[at], dropped, out)
        _add_summary_grad(
            grad, of_summary[number], inputs[number + 1], summary[number], clips, work
        )
        _gate_backward(grad, inputs[number], second, through, work)
        for half, source in ((1, first), (0, inputs[number])):
            at = number, half
            flat = through.flatten(1, 2)
            # where the ReLU is open the dropout's factor is `gain`: it waits for the small sums
            grad_beta[at], grad_gamma[at] = _norm_backward(
                flat, centred[2 * number + half], mean[at], inverse[at], clips, work
            )
            grad_taps[at] = _taps_grad(source.flatten(1, 2), flat, pasts[number])
            weight = taps[at] * (gain * scale[at])[:, None, None]
            target = second.zero_() if half else grad
            _add_conv_backward(flat, weight, pasts[number], target.flatten(1, 2))
            if half:
                _threshold_backward(second, first, 0, grad_input=through)
    grad_taps *= (gain * scale)[..., None, None, :]
    return grad, grad_taps, gain * grad_gamma, gain * grad_beta


def _add_summary_grad(
    grad: Tensor, of_summary: Tensor, rows: Tensor, summary: Tensor, clips: Clips, work: Tensor
) -> None:
    """Add to `grad` what the summary's gradient (2, clips, width) brings to the block's output.

    Padding gets a share too. It ends there: the rows are 0 on padding, so nothing of it reaches
    the convolutions, and nothing reads the gradient of the padding itself.
    """
    width = rows.shape[-1]
    grad += (of_summary[..., :width] / clips.frames)[:, None]
    if summary.shape[-1] > width:
        mean, deviation = summary[..., :width], summary[..., width:]
        torch.sub(rows, mean[:, None], out=work)
        grad.addcmul_(work, (of_summary[..., width:] / deviation / clips.frames)[:, None])


def _gate_backward(
    grad: Tensor, rows: Tensor, hidden: Tensor, through: Tensor, work: Tensor
) -> None:
    """Of rows * sigmoid(hidden): `grad` becomes that of rows, `through` that of hidden's ReLU."""
    gate = torch.sigmoid(hidden, out=work)
    torch.mul(grad, rows, out=through)
    grad *= gate
    _sigmoid_backward(through, gate, grad_input=through)
    _threshold_backward(through, hidden, 0, grad_input=through)


def _norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, inverse: Tensor, clips: Clips, work: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of beta and gamma; `grad` becomes that of the convolution, over its scale."""
    total = grad.sum(1)
    product = torch.mul(grad, rows, out=work.view_as(grad)).sum(1) - mean * total
    factor = -inverse.square() * product / clips.n_real
    grad.addcmul_(rows, factor[:, None])
    grad -= (factor * mean + total / clips.n_real)[:, None]
    clips.silence(grad)
    return total, product * inverse


def _taps_grad(source: Tensor, grad: Tensor, past: int) -> Tensor:
    """(2 directions, 2 taps, channels in, channels out), past first."""
    now = torch.bmm(source.transpose(1, 2), grad)
    if past >= grad.shape[1]:
        return torch.stack([torch.zeros_like(now), now], 1)
    earlier = source[:, : grad.shape[1] - past].transpose(1, 2)
    return torch.stack([torch.bmm(earlier, grad[:, past:]), now], 1)


def _add_conv_backward(grad: Tensor, taps: Tensor, past: int, target: Tensor) -> None:
    """Add the gradient of the convolution's input to `target`, in place."""
    for total, given, (earlier, current) in zip(target, grad, taps, strict=True):
        add_product(total, given, current.T)
        if past < len(given):
            add_product(total[:-past], given[past:], earlier.T)
