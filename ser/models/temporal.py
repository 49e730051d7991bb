"""TIM-Net's temporal blocks, with a backward by hand, a direction a thread on a CPU.

The rows of a batch lie time first, (2 directions, time, clips, channels): the past of every row
is a fixed number of rows before it, so a causal convolution of kernel 2 is two matrix products
added up. Autograd would keep eight tensors a block; here three are kept, and what is cheap is
computed again. The directions meet only in their summaries, so two threads never wait for each
other: threads within each small operation would, some two thousand times a step.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ser.models import temporal_rows
from ser.models.side_by_side import side_by_side
from ser.models.temporal_batch import Clips, Given, Options
from ser.onednn import applies


def run_blocks(
    frames: Tensor,
    stem: Tensor,
    taps: Tensor,
    bias: Tensor,
    clips: Clips,
    pasts: list[int],
    deviation: bool,
) -> Tensor:
    """The blocks with folded normalisation, for inference: each one's summary of every clip.

    Args:
        frames: (2 directions, time, clips, inputs), each as its direction reads them, 0 past a
            clip's length; one of the inputs is 1 elsewhere, for the stem's bias.
        stem: (2 directions, inputs, channels), what the blocks are led by.
        taps: (blocks, 2 convolutions, 2 directions, 2 taps, channels in, channels out), past first.
        bias: (blocks, 2 convolutions, 2 directions, channels).
        clips: which rows are real.
        pasts: the dilation of each block, in rows: frames * clips.
        deviation: give the deviation over the clip's frames too.

    Returns:
        (blocks, 2 directions, clips, channels), or of 2 * channels with the deviation.
    """
    options = Options(pasts, 0.0, deviation, applies(frames), False)
    return temporal_rows.infer(frames, stem, taps, bias, clips, options)


def train_blocks(
    frames: Tensor,
    stem: Tensor,
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
        frames, stem, taps, bias, pasts, deviation: as in `run_blocks`.
        clips: which rows are real; the clips lie by ascending length.
        gamma, beta: (blocks, 2 convolutions, 2 directions, channels), of the normalisation.
        keep: (blocks, 2 convolutions, 2 directions, clips, channels), factors of the dropout, each
            0 or the same positive number; None to leave it out.
        epsilon: of the normalisation.

    Returns:
        The summaries, and the mean and biased variance that each normalisation saw, shaped as
        gamma.
    """
    options = Options(pasts, epsilon, deviation, applies(frames), frames.requires_grad)
    return _Blocks.apply(  # type: ignore[no-any-return, no-untyped-call]
        frames, stem, taps, bias, gamma, beta, keep, clips, options
    )


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
        frames: Tensor,
        stem: Tensor,
        taps: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        keep: Tensor | None,
        clips: Clips,
        options: Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = Given(frames, stem, taps, gamma, beta, keep)

        def run(one: slice) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
            return _arithmetic(options).forward(given.of(one), clips, options)  # type: ignore[no-any-return]

        ctx.directions = _directions(frames)
        summaries, means, variances, kept = zip(*side_by_side(run, ctx.directions), strict=True)
        summary, mean, variance = (
            torch.cat(summaries, 1),
            torch.cat(means, 2),
            torch.cat(variances, 2),
        )
        flat = [tensor for part in kept for tensor in part]
        ctx.save_for_backward(*given, mean, variance, summary, *flat)
        ctx.clips, ctx.options = clips, options
        biased = mean + bias
        ctx.mark_non_differentiable(biased, variance)
        return summary, biased, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = Given(*ctx.saved_tensors[:6])
        mean, variance, summary, *kept = ctx.saved_tensors[6:]
        n = len(kept) // len(ctx.directions)

        def run(one: slice) -> tuple[Any, ...]:
            start = one.start * n
            return _arithmetic(ctx.options).backward(  # type: ignore[no-any-return]
                kept[start : start + n], grads[0][:, one], summary[:, one], given.of(one),
                mean[:, :, one], variance[:, :, one], ctx.clips, ctx.options,
            )  # fmt: skip

        found = zip(*side_by_side(run, ctx.directions), strict=True)
        of_frames, of_stem, *of_weights = found
        of_taps, of_gamma, of_beta = (torch.cat(parts, 2) for parts in of_weights)
        return (
            torch.cat(of_frames) if ctx.options.frames_grad else None, torch.cat(of_stem),
            of_taps, torch.zeros_like(mean), of_gamma, of_beta, None, None, None,
        )  # fmt: skip


def _directions(frames: Tensor) -> list[slice]:
    """Which directions go together: all on a GPU; on a CPU each alone, with less in its cache."""
    if frames.device.type == "cpu":
        return [slice(at, at + 1) for at in range(len(frames))]
    return [slice(0, len(frames))]
