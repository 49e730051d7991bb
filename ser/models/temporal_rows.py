"""Both passes of TIM-Net's blocks over rows, (directions, time, clips, channels), by torch."""

from typing import NamedTuple

import torch
from torch import Tensor

from ser.models.onednn import add_product, product

FLOOR = 1e-8  # under the deviation's square root, where its gradient is still finite


class Clips(NamedTuple):
    """Which rows are real.

    Attributes:
        frames: (clips, 1) frames of each, 1 at least: what a sum over a clip is divided by.
        mask: (time, clips, 1) 1.0 on real frames; None where nothing is padded.
        n_real: frames of all clips.
        n_full: rows before the first that is padding.
    """

    frames: Tensor
    mask: Tensor | None
    n_real: int
    n_full: int


def clips_of(lengths: Tensor, time: int, dtype: torch.dtype) -> Clips:
    """Clips of these lengths (clips,), padded to `time`."""
    steps = torch.arange(time, device=lengths.device)[:, None]
    shortest = int(lengths.min())
    mask = None if shortest == time else (steps < lengths).to(dtype)[..., None]
    return Clips(lengths.clamp(min=1)[:, None], mask, int(lengths.sum()), shortest * len(lengths))


class Options(NamedTuple):
    """What both passes must know.

    Attributes:
        pasts: the dilation of each block, in rows: frames * clips.
        epsilon: of the normalisation.
        deviation: give the deviation over the clip's frames beside their mean.
        onednn: multiply by oneDNN (`ser.models.onednn.applies`).
    """

    pasts: list[int]
    epsilon: float
    deviation: bool
    onednn: bool


def infer(rows: Tensor, taps: Tensor, bias: Tensor, clips: Clips, options: Options) -> Tensor:
    """Each block's summary of every clip; arguments as of `run_blocks`."""
    summaries: list[Tensor] = []
    for number in range(len(options.pasts)):
        hidden = rows.flatten(1, 2)
        for half in range(2):
            now = _convolve(hidden, taps[number, half], options.pasts[number], options.onednn)
            hidden = now.add_(bias[number, half][:, None]).relu_()
        rows = rows * hidden.sigmoid().view(rows.size())
        summaries.append(_summarise(rows, clips, options.deviation))
    return torch.stack(summaries)


def forward(
    rows: Tensor,
    taps: Tensor,
    gamma: Tensor,
    beta: Tensor,
    keep: Tensor | None,
    clips: Clips,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Summaries, means, variances, and what `backward` needs; arguments as of `train_blocks`.

    Kept are the blocks' inputs and last output, then each convolution's output.
    """
    inputs: list[Tensor] = [rows]
    convolved: list[Tensor] = []
    summaries: list[Tensor] = []
    mean, variance = torch.empty_like(gamma), torch.empty_like(gamma)
    hidden, work = torch.empty_like(rows), torch.empty_like(rows).flatten(1, 2)
    for number in range(len(options.pasts)):
        for half in range(2):
            source = (hidden if half else inputs[-1]).flatten(1, 2)
            now = _convolve(source, taps[number, half], options.pasts[number], options.onednn)
            of_clips, spread = _moments(now, clips, work)
            mean[number, half], variance[number, half] = of_clips, spread
            scale = gamma[number, half] * (spread + options.epsilon).rsqrt()
            offset = beta[number, half] - scale * of_clips
            dropped = None if keep is None else keep[number, half]
            _activate(now, scale, offset, dropped, hidden)
            convolved.append(now)
        inputs.append(inputs[-1] * hidden.sigmoid_())
        summaries.append(_summarise(inputs[-1], clips, options.deviation))
    return torch.stack(summaries), mean, variance, inputs + convolved


def backward(
    kept: list[Tensor],
    of_summary: Tensor,
    summary: Tensor,
    taps: Tensor,
    gamma: Tensor,
    beta: Tensor,
    keep: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    clips: Clips,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of rows, taps, gamma and beta from that of the summaries."""
    n_blocks = len(options.pasts)
    inputs, convolved = kept[: n_blocks + 1], kept[n_blocks + 1 :]
    inverse = (variance + options.epsilon).rsqrt()
    scale = gamma * inverse
    offset = beta - scale * mean
    gain = torch.ones_like(gamma[0, 0, 0, 0]) if keep is None else keep.max()
    grad_taps, grad_gamma = torch.empty_like(taps), torch.empty_like(gamma)
    grad_beta, grad = torch.empty_like(beta), torch.zeros_like(inputs[0])
    first, second = torch.empty_like(grad), torch.empty_like(grad)
    through, work = torch.empty_like(grad), torch.empty_like(grad)
    for number in reversed(range(n_blocks)):
        past = options.pasts[number]
        for half in range(2):
            dropped = None if keep is None else keep[number, half]
            out = second if half else first
            given = convolved[2 * number + half]
            _activate(given, scale[number, half], offset[number, half], dropped, out)
        _add_summary_grad(
            grad, of_summary[number], inputs[number + 1], summary[number], clips, work
        )
        _gate_backward(grad, inputs[number], second, through, work)
        for half in (1, 0):
            source = first if half else inputs[number]
            flat = through.flatten(1, 2)
            # where the ReLU is open the dropout's factor is `gain`: it waits for the small sums
            grad_beta[number, half], grad_gamma[number, half] = _norm_backward(
                flat,
                convolved[2 * number + half],
                mean[number, half],
                inverse[number, half],
                clips,
                work,
            )
            grad_taps[number, half] = _taps_grad(source.flatten(1, 2), flat, past)
            weight = taps[number, half] * (gain * scale[number, half])[:, None, None]
            target = second.zero_() if half else grad
            _add_conv_backward(flat, weight, past, target.flatten(1, 2))
            if half:
                torch.ops.aten.threshold_backward(second, first, 0, grad_input=through)
    grad_taps *= (gain * scale)[..., None, None, :]
    return grad, grad_taps, gain * grad_gamma, gain * grad_beta


def _convolve(rows: Tensor, taps: Tensor, past: int, onednn: bool) -> Tensor:
    """Each row's tap and that of the row `past` before it: (directions, steps, channels).

    taps (directions, 2 taps, channels in, channels out).
    """
    if not onednn:
        now = torch.bmm(rows, taps[:, 1])
        if past < rows.size(1):
            now[:, past:].baddbmm_(rows[:, :-past], taps[:, 0])
        return now
    convolved: list[Tensor] = []
    for direction in range(len(rows)):
        given, earlier, current = rows[direction], taps[direction, 0], taps[direction, 1]
        now = product(given, current.t())
        if past < len(given):
            add_product(now[past:], given[:-past], earlier)
        convolved.append(now)
    return convolved[0][None] if len(convolved) == 1 else torch.stack(convolved)


def _moments(rows: Tensor, clips: Clips, work: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the real rows, (directions, steps, channels).

    Each (directions, channels); `work` is memory of the rows' size.
    """
    mean = _mean(rows, clips)
    torch.sub(rows, mean[:, None], out=work)
    return mean, _mean(work.square_(), clips)


def _mean(rows: Tensor, clips: Clips) -> Tensor:
    total = rows[:, : clips.n_full].sum(1)
    if clips.mask is not None:
        weight = clips.mask.view(1, 1, -1)[..., clips.n_full :].expand(len(rows), -1, -1)
        total += torch.bmm(weight, rows[:, clips.n_full :])[:, 0]
    return total / clips.n_real


def _summarise(rows: Tensor, clips: Clips, deviation: bool, floor: float = FLOOR) -> Tensor:
    """Mean, and deviation, of each clip: (2, time, clips, channels) -> (2, clips, channels)."""
    mean = rows.sum(1) / clips.frames
    if not deviation:
        return mean
    centred = rows - mean[:, None]
    if clips.mask is not None:
        centred = centred * clips.mask
    return torch.cat([mean, (centred.square().sum(1) / clips.frames + floor).sqrt()], -1)


def _activate(
    convolved: Tensor, scale: Tensor, beta: Tensor, keep: Tensor | None, out: Tensor
) -> None:
    """ReLU of scale * convolved + beta, times keep: (2, steps, channels) into `out`."""
    # a row of clips * channels numbers: long inner loops, and the dropout costs nothing
    factor = scale[:, None].expand(-1, out.size(2), -1)
    offset = beta[:, None].expand(-1, out.size(2), -1)
    if keep is not None:
        factor, offset = factor * keep, offset * keep
    torch.addcmul(offset[:, None], convolved.view(out.size()), factor[:, None], out=out)
    out.relu_()


def _add_summary_grad(
    grad: Tensor, of_summary: Tensor, rows: Tensor, summary: Tensor, clips: Clips, work: Tensor
) -> None:
    """Add to `grad` what the summary's gradient (2, clips, width) brings to the block's output.

    Padding gets a share too. It ends there: the rows are 0 on padding, so nothing of it reaches
    the convolutions, and nothing reads the gradient of the padding itself.
    """
    width = rows.size(-1)
    grad += (of_summary[..., :width] / clips.frames)[:, None]
    if summary.size(-1) > width:
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
    torch.ops.aten.sigmoid_backward(through, gate, grad_input=through)
    torch.ops.aten.threshold_backward(through, hidden, 0, grad_input=through)


def _norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, inverse: Tensor, clips: Clips, work: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of beta and gamma; `grad` becomes that of the convolution, over its scale."""
    total = grad.sum(1)
    weighted = torch.mul(grad, rows, out=work.view(grad.size())).sum(1) - mean * total
    factor = -inverse.square() * weighted / clips.n_real
    grad.addcmul_(rows, factor[:, None])
    grad -= (factor * mean + total / clips.n_real)[:, None]
    if clips.mask is not None:
        grad[:, clips.n_full :] *= clips.mask.view(-1, 1)[clips.n_full :]
    return total, weighted * inverse


def _taps_grad(source: Tensor, grad: Tensor, past: int) -> Tensor:
    """(2 directions, 2 taps, channels in, channels out), past first."""
    now = torch.bmm(source.transpose(1, 2), grad)
    if past >= grad.size(1):
        return torch.stack([torch.zeros_like(now), now], 1)
    earlier = source[:, : grad.size(1) - past].transpose(1, 2)
    return torch.stack([torch.bmm(earlier, grad[:, past:]), now], 1)


def _add_conv_backward(grad: Tensor, taps: Tensor, past: int, target: Tensor) -> None:
    """Add the gradient of the convolution's input to `target`, in place."""
    target.baddbmm_(grad, taps[:, 1].transpose(1, 2))
    if past < grad.size(1):
        target[:, :-past].baddbmm_(grad[:, past:], taps[:, 0].transpose(1, 2))
