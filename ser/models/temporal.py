"""TIM-Net's temporal blocks, both directions in one batched product, with a backward by hand.

The rows of a batch lie time first, (2 directions, time, clips, channels): the past of every row
is a fixed number of rows before it, so a causal convolution of kernel 2 is two matrix products,
the second over the rows that have a past. Autograd would keep eight tensors a block; here three
are kept, and what is cheap is computed again in memory that is still in the processor's cache.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

FLOOR = 1e-8  # under the deviation's square root, where its gradient is still finite
_threshold_backward = torch.ops.aten.threshold_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input


class Clips(NamedTuple):
    """Which rows are real.

    Attributes:
        lengths: (clips,) frames of each.
        mask: (time, clips, 1) 1.0 on real frames; None where nothing is padded.
        n_real: frames of all clips.
        n_full: rows before the first that is padding.
    """

    lengths: Tensor
    mask: Tensor | None
    n_real: int
    n_full: int

    @classmethod
    def of(cls, lengths: Tensor, time: int, dtype: torch.dtype) -> "Clips":
        """Clips of these lengths, padded to `time`."""
        steps = torch.arange(time, device=lengths.device)[:, None]
        shortest = int(lengths.min())
        mask = None if shortest == time else (steps < lengths).to(dtype)[..., None]
        return cls(lengths, mask, int(lengths.sum()), shortest * len(lengths))

    @property
    def frames(self) -> Tensor:
        """(clips, 1) frames to divide a sum over a clip by."""
        return self.lengths.clamp(min=1)[:, None]

    def mean(self, rows: Tensor) -> Tensor:
        """Over the real rows: (2, time * clips, channels) -> (2, channels)."""
        total = rows[:, : self.n_full].sum(1)
        if self.mask is not None:
            weight = self.mask.view(1, 1, -1)[..., self.n_full :].expand(len(rows), -1, -1)
            total += torch.bmm(weight, rows[:, self.n_full :])[:, 0]
        return total / self.n_real

    def silence(self, rows: Tensor) -> None:
        """Set padding to 0, in place: (2, time * clips, channels)."""
        if self.mask is not None:
            rows[:, self.n_full :] *= self.mask.view(-1, 1)[self.n_full :]


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
            weight = taps[number, half]
            now = torch.baddbmm(bias[number, half][:, None], hidden, weight[:, 1])
            hidden = _add_past(now, hidden, weight[:, 0], past).relu_()
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
        rows, taps, bias, gamma, beta, keep, clips, pasts, epsilon, deviation
    )


def summarise(rows: Tensor, clips: Clips, deviation: bool) -> Tensor:
    """Mean, and deviation, of each clip: (2, time, clips, channels) -> (2, clips, channels)."""
    mean = rows.sum(1) / clips.frames
    if not deviation:
        return mean
    centred = rows - mean[:, None]
    if clips.mask is not None:
        centred = centred * clips.mask
    return torch.cat([mean, (centred.square().sum(1) / clips.frames + FLOOR).sqrt()], -1)


def _add_past(now: Tensor, rows: Tensor, tap: Tensor, past: int) -> Tensor:
    """Add to `now` the tap of the rows `past` before, in place: (2, steps, channels)."""
    if past < rows.shape[1]:
        now[:, past:].baddbmm_(rows[:, : rows.shape[1] - past], tap)
    return now


def _activate(
    centred: Tensor, scale: Tensor, beta: Tensor, keep: Tensor | None, out: Tensor
) -> Tensor:
    """ReLU of scale * centred + beta, times keep: (2, steps, channels) into `out`."""
    n_clips = out.shape[2]
    # a row of clips * channels numbers: long inner loops, and the dropout costs nothing
    factor, offset = (t[:, None].expand(-1, n_clips, -1) for t in (scale, beta))
    if keep is not None:
        factor, offset = factor * keep, offset * keep
    torch.addcmul(offset[:, None], centred.view_as(out), factor[:, None], out=out)
    return out.relu_()


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
        clips: Clips,
        pasts: list[int],
        epsilon: float,
        deviation: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs, centred, summaries = [rows], [], []
        mean, variance = torch.empty_like(gamma), torch.empty_like(gamma)
        hidden = torch.empty_like(rows)
        for number, past in enumerate(pasts):
            for half in range(2):
                at = number, half
                source = (hidden if half else inputs[-1]).flatten(1, 2)
                now = torch.bmm(source, taps[at][:, 1])
                _add_past(now, source, taps[at][:, 0], past)
                mean[at] = clips.mean(now)
                now -= mean[at][:, None]
                variance[at] = clips.mean(torch.mul(now, now, out=hidden.view_as(now)))
                scale = gamma[at] * (variance[at] + epsilon).rsqrt()
                _activate(now, scale, beta[at], None if keep is None else keep[at], hidden)
                centred.append(now)
            inputs.append(inputs[-1] * hidden.sigmoid_())
            summaries.append(summarise(inputs[-1], clips, deviation))
        summary, inverse = torch.stack(summaries), (variance + epsilon).rsqrt()
        ctx.save_for_backward(taps, gamma, beta, keep, inverse, summary, *inputs, *centred)
        ctx.clips, ctx.pasts, ctx.deviation = clips, pasts, deviation
        mean += bias
        ctx.mark_non_differentiable(mean, variance)
        return summary, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        taps, gamma, beta, keep, inverse, summary, *tensors = ctx.saved_tensors
        clips, pasts = ctx.clips, ctx.pasts
        inputs, centred = tensors[: len(pasts) + 1], tensors[len(pasts) + 1 :]
        scale = gamma * inverse
        gain = 1.0 if keep is None else keep.max()
        grad_taps, grad_gamma, grad_beta = map(torch.empty_like, (taps, gamma, beta))
        grad = torch.zeros_like(inputs[0])
        first, second, through, work = (torch.empty_like(grad) for _ in range(4))
        for number in reversed(range(len(pasts))):
            for half, out in enumerate((first, second)):
                at = number, half
                kept = None if keep is None else keep[at]
                _activate(centred[2 * number + half], scale[at], beta[at], kept, out)
            _add_summary_grad(
                grad, grads[0][number], inputs[number + 1], summary[number], clips, work
            )
            _gate_backward(grad, inputs[number], second, through, work)
            for half, source in ((1, first), (0, inputs[number])):
                at = number, half
                flat = through.flatten(1, 2)
                # where the ReLU is open the dropout's factor is `gain`: it waits for the small sums
                grad_beta[at], grad_gamma[at] = _norm_backward(
                    flat, centred[2 * number + half], inverse[at], clips, work
                )
                grad_taps[at] = _taps_grad(source.flatten(1, 2), flat, pasts[number])
                weight = taps[at] * (gain * scale[at])[:, None, None]
                target = (second if half else grad).flatten(1, 2)
                _conv_backward(flat, weight, pasts[number], target, add=not half)
                if half:
                    _threshold_backward(second, first, 0, grad_input=through)
        grad_taps *= (gain * scale)[..., None, None, :]
        of_norm = gain * grad_gamma, gain * grad_beta
        return grad, grad_taps, torch.zeros_like(beta), *of_norm, *[None] * 5


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
    grad: Tensor, centred: Tensor, inverse: Tensor, clips: Clips, work: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of beta and gamma; `grad` becomes that of the convolution, over its scale."""
    total = grad.sum(1)
    product = torch.mul(grad, centred, out=work.view_as(grad)).sum(1)
    grad.addcmul_(centred, (-inverse.square() * product / clips.n_real)[:, None])
    grad -= (total / clips.n_real)[:, None]
    clips.silence(grad)
    return total, product * inverse


def _taps_grad(source: Tensor, grad: Tensor, past: int) -> Tensor:
    """(2 directions, 2 taps, channels in, channels out), past first."""
    now = torch.bmm(source.transpose(1, 2), grad)
    if past >= grad.shape[1]:
        return torch.stack([torch.zeros_like(now), now], 1)
    earlier = source[:, : grad.shape[1] - past].transpose(1, 2)
    return torch.stack([torch.bmm(earlier, grad[:, past:]), now], 1)


def _conv_backward(grad: Tensor, taps: Tensor, past: int, target: Tensor, *, add: bool) -> None:
    """The gradient of the convolution's input, put or added in `target`."""
    back = taps.transpose(-1, -2)
    torch.baddbmm(target, grad, back[:, 1], beta=int(add), out=target)
    if past < grad.shape[1]:
        target[:, : grad.shape[1] - past].baddbmm_(grad[:, past:], back[:, 0])
