"""The backward of `ser.models.temporal_kernels`."""

import numpy as np

from ser.kernels import kernel
from ser.models.temporal_kernels import (
    NO,
    ONE,
    Affine,
    Array,
    Norm,
    Steps,
    repeat,
    sigmoid,
    sum_of,
    tile_of,
)


@kernel
def gate_backward(
    grad: Array,
    added: Array,
    of_summary: Array,
    x: Array,
    affine: Affine,
    rows: Array,
    steps: Steps,
    norm: Norm,
    epsilon: float,
    past: int,
    pair: Array,
    of_norm: Array,
) -> None:
    """Backward of `gate` and of its normalisation.

    Args:
        grad, added: two parts of the gradient of its output; the first becomes that of `rows`.
        of_summary: gradient of the summary.
        x, affine, rows, steps, norm, epsilon, past: as in the forward pass.
        pair: written: the gradient of x over the normalisation's scale and dropout's factor, and
            after it that of the step `past` later.
        of_norm: written: gradients of gamma and beta over dropout's factor, (2, channels).
    """
    channels, clips = len(x), len(steps.frames)
    factors, offsets, shares = tile_of(clips), tile_of(clips), tile_of(clips)
    hidden, opened, total = tile_of(clips), tile_of(clips), tile_of(clips)
    weighted = tile_of(clips)
    for c in range(channels):
        repeat(affine.factor[c], factors)
        repeat(affine.offset[c], offsets)
        repeat(of_summary[c] / steps.frames, shares)
        total[:], weighted[:] = 0, 0
        for begin, end in steps.padding:
            pair[c, begin:end] = 0
        for begin, end in steps.real:
            at = begin % clips
            part, given, new = x[c, begin:end], rows[c, begin:end], pair[c, begin:end]
            old, more = grad[c, begin:end], added[c, begin:end]
            factor, offset, share = factors[at:], offsets[at:], shares[at:]
            h, s = hidden[: end - begin], opened[: end - begin]
            for m in range(len(part)):
                h[m] = part[m] * factor[m] + offset[m]
            for m in range(len(part)):
                s[m] = sigmoid(max(h[m], NO))
            for m in range(len(part)):
                old[m] += more[m] + share[m]
            for m in range(len(part)):
                change = old[m] * given[m] * s[m] * (ONE - s[m])
                new[m] = change if h[m] > NO else NO
            for m in range(len(part)):
                old[m] *= s[m]
            _add_sums(new, part, total, weighted)
        _normalise_backward(c, x, steps, norm, epsilon, total, weighted, past, pair, of_norm)


@kernel
def relu_backward(
    grad: Array,
    x: Array,
    affine: Affine,
    steps: Steps,
    norm: Norm,
    epsilon: float,
    past: int,
    pair: Array,
    of_norm: Array,
) -> None:
    """Backward of `activate` and of its normalisation; arguments as of `gate_backward`."""
    clips = len(steps.frames)
    factors, offsets, total = tile_of(clips), tile_of(clips), tile_of(clips)
    weighted = tile_of(clips)
    for c in range(len(x)):
        repeat(affine.factor[c], factors)
        repeat(affine.offset[c], offsets)
        total[:], weighted[:] = 0, 0
        for begin, end in steps.padding:
            pair[c, begin:end] = 0
        for begin, end in steps.real:
            at = begin % clips
            part, old, new = x[c, begin:end], grad[c, begin:end], pair[c, begin:end]
            factor, offset = factors[at:], offsets[at:]
            for m in range(len(part)):
                given = old[m]
                new[m] = given if part[m] * factor[m] + offset[m] > NO else NO
            _add_sums(new, part, total, weighted)
        _normalise_backward(c, x, steps, norm, epsilon, total, weighted, past, pair, of_norm)


@kernel
def _add_sums(grad: Array, row: Array, total: Array, weighted: Array) -> None:
    for m in range(len(row)):
        total[m] += grad[m]
        weighted[m] += grad[m] * row[m]


@kernel
def _normalise_backward(
    c: int,
    x: Array,
    steps: Steps,
    norm: Norm,
    epsilon: float,
    total: Array,
    weighted: Array,
    past: int,
    pair: Array,
    of_norm: Array,
) -> None:
    """Take out of a channel's gradient what moves its mean and variance; `pair` it up.

    `total` and `weighted` add up to its sum and to that of it times x.
    """
    n, through = steps.frames.sum(), pair[c]
    of_beta, of_scale = sum_of(total, len(steps.frames)), sum_of(weighted, len(steps.frames))
    of_scale -= norm.mean[c] * of_beta
    variance = norm.variance[c] + epsilon
    of_norm[0, c], of_norm[1, c] = of_scale / np.sqrt(variance), of_beta
    factor = np.float32(-of_scale / variance / n)
    offset = np.float32(-factor * norm.mean[c] - of_beta / n)
    for begin, end in steps.real:
        part, new = x[c, begin:end], through[begin:end]
        for m in range(len(part)):
            new[m] += part[m] * factor + offset
    left = max(len(through) - past, 0)
    later, now = pair[len(x) + c], through[len(through) - left :]
    for m in range(left):
        later[m] = now[m]
    later[left:] = 0
