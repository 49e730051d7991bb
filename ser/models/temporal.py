"""TIM-Net's temporal blocks, with a backward by hand, a direction a thread on a CPU.

The rows of a batch lie time first, (2 directions, time, clips, channels): the past of every row
is a fixed number of rows before it, so a causal convolution of kernel 2 is two matrix products
added up. Autograd would keep eight tensors a block; here three are kept, and what is cheap is
computed again. The directions meet only in their summaries, so two threads never wait for each
other: threads within each small operation would, some two thousand times a step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ser.models import temporal_rows
from ser.models.side_by_side import side_by_side
from ser.models.temporal_rows import Clips, Options
from ser.onednn import applies


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
    options = Options(pasts, 0.0, deviation, applies(rows))
    return temporal_rows.infer(rows, taps, bias, clips, options)


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
    options = Options(pasts, epsilon, deviation, applies(rows))
    frames = clips.frames[:, 0]
    if not fuses(options) or bool((frames[1:] >= frames[:-1]).all()):
        return _Blocks.apply(  # type: ignore[no-any-return, no-untyped-call]
            rows, taps, bias, gamma, beta, keep, clips, options
        )
    order = frames.argsort(stable=True)
    keep = None if keep is None else keep[:, :, :, order]
    clips = clips._replace(frames=clips.frames[order])
    summary, mean, variance = _Blocks.apply(  # type: ignore[no-untyped-call]
        rows[:, :, order], taps, bias, gamma, beta, keep, clips, options
    )
    return summary[:, :, order.argsort()], mean, variance


def fuses(options: Options) -> bool:
    """Whether `temporal_fused` has the arithmetic: on a CPU, by oneDNN, of the means alone."""
    return options.onednn and not options.deviation


def _arithmetic(options: Options) -> Any:
    if not fuses(options):
        return temporal_rows
    from ser.models import temporal_fused  # numba takes a while to import

    return temporal_fused


class _Blocks(Function):
    """Forward and backward of every block; kept are each one's input and its convolutions."""

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
        options: Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        def run(one: slice) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
            weights = _of_direction((taps, gamma, beta, keep), one)
            forward = _arithmetic(options).forward
            return forward(rows[one], *weights, clips, options)  # type: ignore[no-any-return]

        ctx.directions = _directions(rows)
        summaries, means, variances, kept = zip(*side_by_side(run, ctx.directions), strict=True)
        summary, mean, variance = (
            torch.cat(summaries, 1),
            torch.cat(means, 2),
            torch.cat(variances, 2),
        )
        flat = [tensor for part in kept for tensor in part]
        ctx.save_for_backward(taps, gamma, beta, keep, mean, variance, summary, *flat)
        ctx.clips, ctx.options = clips, options
        biased = mean + bias
        ctx.mark_non_differentiable(biased, variance)
        return summary, biased, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        taps, gamma, beta, keep, mean, variance, summary, *kept = ctx.saved_tensors
        n = len(kept) // len(ctx.directions)

        def run(one: slice) -> tuple[Tensor, ...]:
            weights = _of_direction((taps, gamma, beta, keep, mean, variance), one)
            of_summary = grads[0][:, one], summary[:, one]
            start = one.start * n
            backward = _arithmetic(ctx.options).backward
            return backward(  # type: ignore[no-any-return]
                kept[start : start + n], *of_summary, *weights, ctx.clips, ctx.options
            )

        of_rows, *of_weights = zip(*side_by_side(run, ctx.directions), strict=True)
        of_taps, of_gamma, of_beta = (torch.cat(parts, 2) for parts in of_weights)
        grad = torch.cat(of_rows)
        return grad, of_taps, torch.zeros_like(beta), of_gamma, of_beta, None, None, None


def _of_direction(weights: Sequence[Tensor | None], one: slice) -> list[Any]:
    """Of (blocks, 2 convolutions, 2 directions, ...) tensors those of one direction."""
    return [None if weight is None else weight[:, :, one] for weight in weights]


def _directions(rows: Tensor) -> list[slice]:
    """Which directions go together: all on a GPU; on a CPU each alone, with less in its cache."""
    if rows.device.type == "cpu":
        return [slice(at, at + 1) for at in range(len(rows))]
    return [slice(0, len(rows))]
