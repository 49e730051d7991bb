"""Both passes of one direction of TIM-Net's blocks on a CPU: oneDNN's products, numba between them.

The arithmetic of `ser.models.temporal_rows` in half the time, for clips by ascending length, and
without their deviation. Channels lie first, (channels, time * clips): oneDNN is fastest so, and one
product takes both taps of a convolution.
"""

import numpy as np
import torch
from torch import Tensor

from ser.models import temporal_kernels as kernels
from ser.models import temporal_kernels_backward as kernels_backward
from ser.models.temporal_batch import Clips, Given, Options
from ser.models.temporal_kernels import Affine, Norm, Steps
from ser.onednn import product


def forward(
    given: Given, clips: Clips, options: Options
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Summaries, means, variances and what `backward` needs, as of `temporal_rows.forward`.

    Kept are the blocks' inputs in pairs, the convolutions' outputs, then their factors and offsets.
    """
    frames, stem, taps, gamma, beta, keep = given
    _, time, n_clips, _ = frames.shape
    channels = stem.shape[-1]
    steps, pasts = _steps(clips, time), options.pasts
    per_clip = (*gamma.shape[:2], channels, n_clips)
    kept = np.ones(per_clip, np.float32) if keep is None else keep[:, :, 0].mT.contiguous().numpy()
    mean, variance = torch.empty_like(gamma), torch.empty_like(gamma)
    affine = torch.empty(2, *per_clip)
    norms, maps = _norms(gamma, beta, mean, variance), _maps(affine)
    summary = torch.empty(len(pasts), channels, n_clips)
    weights = taps[:, :, 0].flatten(2, 3).mT.contiguous()  # (blocks, 2, out, 2 * in)
    rows = product(stem[0].T.contiguous(), frames[0].flatten(0, 1).T.contiguous().T)
    pair = torch.empty(2 * channels, time * n_clips)
    kernels.pair_up(rows.numpy(), pasts[0], pair.numpy())
    inputs, convolved, hidden = [pair], [], torch.empty_like(pair)
    for number, (past, ahead) in enumerate(zip(pasts, [*pasts[1:], pasts[-1]], strict=True)):
        now, out = inputs[-1], torch.empty_like(pair)
        one, other = (number, 0), (number, 1)
        first = product(weights[one], now.T)
        kernels.normalise(first.numpy(), steps, kept[one], options.epsilon, norms[one], maps[one])
        kernels.activate(first.numpy(), maps[one], past, hidden.numpy())
        second = product(weights[other], hidden.T)
        kernels.normalise(
            second.numpy(), steps, kept[other], options.epsilon, norms[other], maps[other]
        )
        kernels.gate(
            second.numpy(), maps[other], now.numpy()[channels:], steps, ahead, out.numpy(),
            summary[number].numpy(),
        )  # fmt: skip
        convolved += [first, second]
        inputs.append(out)
    return summary.mT.unsqueeze(1), mean, variance, [*inputs[:-1], *convolved, affine]


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
    n_blocks, epsilon = len(options.pasts), options.epsilon
    _, _, n_clips, channels = of_summary.shape
    inputs, convolved = kept[:n_blocks], kept[n_blocks:-1]
    n = inputs[0].shape[1]
    steps = _steps(clips, n // n_clips)
    norms, maps = _norms(gamma, beta, mean, variance), _maps(kept[-1])
    of_summaries = of_summary[:, 0].mT.contiguous().numpy()
    gain = 1.0 if keep is None else float(keep.max())
    scale = (gain * gamma * (variance + epsilon).rsqrt())[..., None, None, :]
    scaled = (taps * scale)[:, :, 0].unbind(2)
    weights = torch.cat(scaled[::-1], -1)  # (blocks, 2, in, 2 * out): now, then past
    of_norm = torch.empty(*gamma.shape[:2], 2, channels)
    of_norms, of_taps = of_norm.numpy(), []
    grad, added = torch.zeros(2, channels, n)
    hidden, through = torch.empty(2, 2 * channels, n)
    of_x = through.numpy()
    for number, past in reversed(list(enumerate(options.pasts))):
        now, (first, second) = inputs[number], convolved[2 * number : 2 * number + 2]
        one, other = (number, 0), (number, 1)
        kernels_backward.gate_backward(
            grad.numpy(), added.numpy(), of_summaries[number], second.numpy(), maps[other],
            now.numpy()[channels:], steps, norms[other], epsilon, past, of_x, of_norms[other],
        )  # fmt: skip
        kernels.activate(first.numpy(), maps[one], past, hidden.numpy())
        of_taps.append(product(through[:channels], hidden))
        of_hidden = product(weights[other], through.T)
        kernels_backward.relu_backward(
            of_hidden.numpy(), first.numpy(), maps[one], steps, norms[one], epsilon, past, of_x,
            of_norms[one],
        )  # fmt: skip
        of_taps.append(product(through[:channels], now))
        added = product(weights[one], through.T)
    of_gamma, of_beta = (gain * of_norm).unsqueeze(3).unbind(2)
    of_all_taps = torch.stack(of_taps[::-1]).mT.reshape(taps.shape) * scale
    grad += added
    of_stem = product(grad, frames[0].flatten(0, 1).T).T[None]
    of_frames = (grad.T @ stem[0].T).view(frames.shape) if options.frames_grad else None
    return of_frames, of_stem, of_all_taps, of_gamma, of_beta


def _steps(clips: Clips, time: int) -> Steps:
    return kernels.steps_of(clips.frames[:, 0].numpy(), time)


Place = tuple[int, int]
"""A convolution's block, and its place there."""


def _norms(gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> dict[Place, Norm]:
    g, b, m, v = (value[:, :, 0].numpy() for value in (gamma, beta, mean, variance))
    return {at: Norm(g[at], b[at], m[at], v[at]) for at in np.ndindex(*g.shape[:2])}


def _maps(affine: Tensor) -> dict[Place, Affine]:
    factor, offset = affine.numpy()
    return {at: Affine(factor[at], offset[at]) for at in np.ndindex(*factor.shape[:2])}
