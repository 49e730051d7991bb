"""Both passes of TIM-Net's blocks over rows, (directions, time, clips, channels), by torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ser.models.temporal_batch import Clips, Given, Options
from ser.onednn import add_product, product

FLOOR = 1e-8  # under the deviation's square root, where its gradient is still finite


def infer(
    frames: Tensor, stem: Tensor, taps: Tensor, bias: Tensor, clips: Clips, options: Options
) -> Tensor:
    """Each block's summary of every clip; arguments as of `run_blocks`."""
    rows = _multiply(frames, stem)
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
    given: Given, clips: Clips, options: Options
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Summaries, means, variances, and what `backward` needs.

    Kept are the blocks' inputs and last output, then each convolution's output.
    """
    frames, stem, taps, gamma, beta, keep = given
    inputs: list[Tensor] = [_multiply(frames, stem)]
    convolved: list[Tensor] = []
    summaries: list[Tensor] = []
    mean, variance = torch.empty_like(gamma), torch.empty_like(gamma)
    for number in range(len(options.pasts)):
        hidden = inputs[-1]
        for half in range(2):
            source = hidden.flatten(1, 2)
            now = _convolve(source, taps[number, half], options.pasts[number], options.onednn)
            of_clips, spread = moments(now, clips)
            mean[number, half], variance[number, half] = of_clips, spread
            scale = gamma[number, half] * (spread + options.epsilon).rsqrt()
            offset = beta[number, half] - scale * of_clips
            dropped = None if keep is None else keep[number, half]
            hidden = activate(now.view(inputs[0].size()), scale, offset, dropped)
            convolved.append(now)
        inputs.append(gate(inputs[-1], hidden))
        summaries.append(_summarise(inputs[-1], clips, options.deviation))
    return torch.stack(summaries), mean, variance, inputs + convolved


def backward(
    kept: list[Tensor],
    of_summary: Tensor,
    summary: Tensor,
    given: Given,
    mean: Tensor,
    variance: Tensor,
    clips: Clips,
    options: Options,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of frames, where wanted, stem, taps, gamma and beta from that of the summaries."""
    frames, stem, taps, gamma, beta, keep = given
    n_blocks = len(options.pasts)
    inputs, convolved = kept[: n_blocks + 1], kept[n_blocks + 1 :]
    inverse = (variance + options.epsilon).rsqrt()
    scale = gamma * inverse
    offset = beta - scale * mean
    gain = torch.ones_like(gamma[0, 0, 0, 0]) if keep is None else keep.max()
    grad_taps, grad_gamma = torch.empty_like(taps), torch.empty_like(gamma)
    grad_beta, grad = torch.empty_like(beta), torch.zeros_like(inputs[0])
    for number in reversed(range(n_blocks)):
        past = options.pasts[number]
        halves = []
        for half in range(2):
            dropped = None if keep is None else keep[number, half]
            now = convolved[2 * number + half].view(grad.size())
            halves.append(activate(now, scale[number, half], offset[number, half], dropped))
        grad = _with_summary_grad(
            grad, of_summary[number], inputs[number + 1], summary[number], clips
        )
        grad, through = gate_backward(grad, inputs[number], halves[1])
        for half in (1, 0):
            source = (halves[0] if half else inputs[number]).flatten(1, 2)
            # where the ReLU is open the dropout's factor is `gain`: it waits for the small sums
            flat, grad_beta[number, half], grad_gamma[number, half] = norm_backward(
                through.flatten(1, 2),
                convolved[2 * number + half],
                mean[number, half],
                inverse[number, half],
                clips,
            )
            grad_taps[number, half] = _taps_grad(source, flat, past, inputs[0].size(2))
            weight = taps[number, half] * (gain * scale[number, half])[:, None, None]
            of_source = _conv_backward(flat, weight, past).view(grad.size())
            if half:
                through = open_only(of_source, halves[0])
            else:
                grad += of_source
    grad_taps *= (gain * scale)[..., None, None, :]
    of_stem = torch.bmm(frames.flatten(1, 2).mT, grad.flatten(1, 2))
    of_frames = _multiply(grad, stem.mT) if options.frames_grad else None
    return of_frames, of_stem, grad_taps, gain * grad_gamma, gain * grad_beta


def _multiply(rows: Tensor, weight: Tensor) -> Tensor:
    """(directions, time, clips, in) by (directions, in, out)."""
    return torch.bmm(rows.flatten(1, 2), weight).view(*rows.shape[:-1], -1)


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


def moments(rows: Tensor, clips: Clips) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (directions, channels) of the real rows, of (…, steps, channels)."""
    if clips.mask is None and rows.is_cuda:
        variance, mean = torch.var_mean(rows, 1, correction=0)
        return mean, variance
    mean = _mean(rows, clips)
    return mean, _mean((rows - mean[:, None]).square_(), clips)


def _mean(rows: Tensor, clips: Clips) -> Tensor:
    total = rows[:, : clips.n_full].sum(1)
    if clips.mask is not None:
        weight = clips.mask.view(1, 1, -1)[..., clips.n_full :].expand(len(rows), -1, -1)
        total += torch.bmm(weight, rows[:, clips.n_full :])[:, 0]
    return total / clips.n_real


def _summarise(rows: Tensor, clips: Clips, deviation: bool) -> Tensor:
    """Mean, and deviation, of each clip: (2, time, clips, channels) -> (2, clips, channels)."""
    mean = rows.sum(1) / clips.frames
    if not deviation:
        return mean
    centred = rows - mean[:, None]
    if clips.mask is not None:
        centred = centred * clips.mask
    return torch.cat([mean, (centred.square().sum(1) / clips.frames + FLOOR).sqrt()], -1)


def activate(convolved: Tensor, scale: Tensor, beta: Tensor, keep: Tensor | None) -> Tensor:
    """ReLU of scale * convolved + beta, times keep: (directions, time, clips, channels)."""
    # a row of clips * channels numbers: long inner loops, and the dropout costs nothing
    factor = scale[:, None].expand(-1, convolved.size(2), -1)
    offset = beta[:, None].expand(-1, convolved.size(2), -1)
    if keep is not None:
        factor, offset = factor * keep, offset * keep
    return torch.addcmul(offset[:, None], convolved, factor[:, None]).relu_()


def gate(rows: Tensor, hidden: Tensor) -> Tensor:
    """A block's output."""
    return rows * hidden.sigmoid()


def _with_summary_grad(
    grad: Tensor, of_summary: Tensor, rows: Tensor, summary: Tensor, clips: Clips
) -> Tensor:
    """`grad` and what the summary's gradient (2, clips, width) brings to the block's output.

    Padding gets a share too. It ends there: the rows are 0 on padding, so nothing of it reaches
    the convolutions, and nothing reads the gradient of the padding itself.
    """
    width = rows.size(-1)
    grad = grad + (of_summary[..., :width] / clips.frames)[:, None]
    if summary.size(-1) > width:
        mean, deviation = summary[..., :width], summary[..., width:]
        share = (of_summary[..., width:] / deviation / clips.frames)[:, None]
        grad.addcmul_(rows - mean[:, None], share)
    return grad


def gate_backward(grad: Tensor, rows: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows * sigmoid(hidden): the gradients of rows and of hidden's ReLU."""
    gate = hidden.sigmoid()
    through = torch.ops.aten.sigmoid_backward(grad * rows, gate)
    return grad * gate, open_only(through, hidden)


def open_only(grad: Tensor, hidden: Tensor) -> Tensor:
    """The gradient where the ReLU is open."""
    return torch.ops.aten.threshold_backward(grad, hidden, 0)  # type: ignore[no-any-return]


def norm_backward(
    grad: Tensor, rows: Tensor, mean: Tensor, inverse: Tensor, clips: Clips
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the convolution, over its scale, of beta and of gamma."""
    total = grad.sum(1)
    weighted = (grad * rows).sum(1) - mean * total
    factor = -inverse.square() * weighted / clips.n_real
    grad = torch.addcmul(grad, rows, factor[:, None])
    grad -= (factor * mean + total / clips.n_real)[:, None]
    if clips.mask is not None:
        grad[:, clips.n_full :] *= clips.mask.view(-1, 1)[clips.n_full :]
    return grad, total, weighted * inverse


def _taps_grad(source: Tensor, grad: Tensor, past: int, n_clips: int) -> Tensor:
    """(2 directions, 2 taps, channels in, channels out), past first."""
    if source.is_cuda:
        return taps_grad_by_time(source, grad, past, n_clips)
    now = torch.bmm(source.transpose(1, 2), grad)
    if past >= grad.size(1):
        return torch.stack([torch.zeros_like(now), now], 1)
    earlier = source[:, : grad.size(1) - past].transpose(1, 2)
    return torch.stack([torch.bmm(earlier, grad[:, past:]), now], 1)


def taps_grad_by_time(source: Tensor, grad: Tensor, past: int, n_clips: int) -> Tensor:
    """The same as many small products, each of one frame: a few long ones leave a GPU idle."""
    by_time = (len(source), -1, n_clips, source.size(2))
    source, grad = source.view(by_time), grad.view(by_time)
    past //= n_clips
    parts = [(source[:, : max(0, source.size(1) - past)], grad[:, past:]), (source, grad)]
    return torch.stack([(rows.mT @ of_rows).sum(1) for rows, of_rows in parts], 1)


def _conv_backward(grad: Tensor, taps: Tensor, past: int) -> Tensor:
    """The gradient of the convolution's input."""
    of_input = torch.bmm(grad, taps[:, 1].transpose(1, 2))
    if past < grad.size(1):
        of_input[:, :-past].baddbmm_(grad[:, past:], taps[:, 0].transpose(1, 2))
    return of_input


@contextmanager
def compiled() -> Iterator[None]:
    """Within, what lies between the products is compiled, for each size of batch anew."""
    names = ("moments", "activate", "gate", "gate_backward", "open_only", "norm_backward")
    before = {name: globals()[name] for name in names}
    globals().update({name: torch.compile(step, dynamic=False) for name, step in before.items()})
    try:
        yield
    finally:
        globals().update(before)
