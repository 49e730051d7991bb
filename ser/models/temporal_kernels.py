"""What lies between the products of TIM-Net's blocks, on a CPU: each step one pass over memory.

The arrays are one direction's, float32, (channels, steps): step time * clips + clip, the clips by
ascending length. A convolution of kernel 2 is a product over pairs (2 * channels, steps): of the
rows as they were before, and as they are. What a number is scaled by depends on its channel and
clip alone, so a channel's loop goes over stretches of many times at once, against tiles that repeat
the clips' values.

numba compiles each function at its first call and keeps the result on disk. The loops are short and
many, and over slices: LLVM then turns each into vector instructions, which it does not where it
would have to check many arrays for overlap, or an index for its sign.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Array = np.ndarray

TILE = 1024  # numbers of a tile, about
_LN2 = float(np.log(2.0))
_LOG2_E = np.float32(1 / _LN2)
_1, _2, _3, _4, _5, _6, _7 = (np.float32(_LN2**n / np.prod(range(1, n + 1))) for n in range(1, 8))
_NO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEAST = np.float32(-126)  # the smallest power of two that float32 has in full
_BIAS, _MANTISSA = np.int32(127), np.int32(23)  # of float32's exponent, and bits below it


def _kernel(function: Kernel) -> Kernel:
    """Compiled, without the interpreter's lock; NaN stays NaN."""
    compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(
        function
    )
    return compiled  # type: ignore[no-any-return]


class Steps(NamedTuple):
    """Which steps are real.

    Attributes:
        frames: of each clip, ascending (clips,).
        real: first and end of each stretch of real steps, at most a tile long (stretches, 2).
        padding: of each stretch of padding (stretches, 2).
    """

    frames: Array
    real: Array
    padding: Array


class Affine(NamedTuple):
    """Batch normalisation and dropout as one map, factor * x + offset; each (channels, clips)."""

    factor: Array
    offset: Array


class Norm(NamedTuple):
    """A batch normalisation: its parameters and what it saw, biased; each (channels,)."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array


def steps_of(frames: Array, time: int) -> Steps:
    """Steps of clips of so many frames, ascending, the last one `time`."""
    clips, full = len(frames), int(frames[0]) * len(frames)
    tile = repeats(clips) * clips
    together = np.arange(0, full, tile)
    later = np.arange(frames[0], time)
    begin, ended = later * clips, np.searchsorted(frames, later, side="right")
    begins = np.concatenate([together, begin + ended])
    ends = np.concatenate([np.minimum(together + tile, full), begin + clips])
    padding = np.stack([begin, begin + ended], 1)
    return Steps(frames, np.stack([begins, ends], 1), padding)


@_kernel
def repeats(clips: int) -> int:
    """How often a tile repeats the clips' values."""
    return max(1, TILE // clips)


@_kernel
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of x >= 0 in float32, to its last bit but one.

    exp(-x) is 2 to the power of a whole number, written into the exponent, times 2 to the power of
    what is left, at most a half, by the Taylor series.
    """
    power = max(-_LOG2_E * x, _LEAST)
    whole = np.floor(power + _HALF)
    f = power - whole
    rest = _ONE + f * (_1 + f * (_2 + f * (_3 + f * (_4 + f * (_5 + f * (_6 + f * _7))))))
    scale = np.int32((np.int32(whole) + _BIAS) << _MANTISSA).view(np.float32)
    return _ONE / (_ONE + rest * scale)


@_kernel
def normalise(
    x: Array, steps: Steps, keep: Array, epsilon: float, norm: Norm, affine: Affine
) -> None:
    """Batch normalisation of x over the real steps, and dropout by the factors `keep`.

    Written are the mean and variance of `norm`, and `affine`.
    """
    n = steps.frames.sum()
    sums, squares = _tile(len(steps.frames)), _tile(len(steps.frames))
    for c in range(len(x)):
        row, first = x[c], x[c, 0]
        sums[:], squares[:] = 0, 0
        for begin, end in steps.real:
            part, total, square = row[begin:end], sums[: end - begin], squares[: end - begin]
            for m in range(len(part)):
                away = part[m] - first
                total[m] += away
                square[m] += away * away
        away_64, square_64 = 0.0, 0.0
        for m in range(len(sums)):
            away_64 += sums[m]
            square_64 += squares[m]
        mean = first + away_64 / n
        variance = square_64 / n - (away_64 / n) ** 2
        norm.mean[c], norm.variance[c] = mean, variance
        scale = norm.gamma[c] / np.sqrt(variance + epsilon)
        for b in range(keep.shape[1]):
            affine.factor[c, b] = scale * keep[c, b]
            affine.offset[c, b] = (norm.beta[c] - scale * mean) * keep[c, b]


@_kernel
def _tile(clips: int) -> Array:
    return np.empty(repeats(clips) * clips, np.float32)


@_kernel
def _repeat(row: Array, tile: Array) -> None:
    """Into `tile` the clips' values (clips,) again and again."""
    for at in range(0, len(tile), len(row)):
        part = tile[at : at + len(row)]
        for m in range(len(part)):
            part[m] = row[m]


@_kernel
def activate(x: Array, affine: Affine, past: int, pair: Array) -> None:
    """Into `pair` the ReLU of the normalised x, and before it that of the step `past` earlier."""
    channels, n = x.shape
    factor, offset = _tile(affine.factor.shape[1]), _tile(affine.factor.shape[1])
    for c in range(channels):
        _repeat(affine.factor[c], factor)
        _repeat(affine.offset[c], offset)
        for at in range(0, n, len(factor)):
            part, out = x[c, at : at + len(factor)], pair[channels + c, at : at + len(factor)]
            for m in range(len(part)):
                out[m] = max(part[m] * factor[m] + offset[m], _NO)
        _shift(pair[channels + c], past, pair[c])


@_kernel
def _shift(now: Array, past: int, earlier: Array) -> None:
    """Into `earlier` the row as it was `past` steps before, 0 where there was none."""
    n = len(now)
    earlier[: min(past, n)] = 0
    given, out = now[: max(n - past, 0)], earlier[min(past, n) :]
    for m in range(len(out)):
        out[m] = given[m]


@_kernel
def pair_up(rows: Array, past: int, pair: Array) -> None:
    """Into `pair` the rows `past` steps earlier, and as they are."""
    for c in range(len(rows)):
        pair[len(rows) + c] = rows[c]
        _shift(rows[c], past, pair[c])


@_kernel
def gate(
    x: Array, affine: Affine, rows: Array, steps: Steps, past: int, pair: Array, summary: Array
) -> None:
    """Into `pair` the rows times the sigmoid of the ReLU of the normalised x, 0 on padding.

    Into `summary` (channels, clips) its mean over each clip's frames.
    """
    channels, clips = len(x), len(steps.frames)
    factors, offsets, sums = _tile(clips), _tile(clips), _tile(clips)
    for c in range(channels):
        _repeat(affine.factor[c], factors)
        _repeat(affine.offset[c], offsets)
        sums[:] = 0
        for begin, end in steps.padding:
            pair[channels + c, begin:end] = 0
        for begin, end in steps.real:
            at = begin % clips
            part, given, out = x[c, begin:end], rows[c, begin:end], pair[channels + c, begin:end]
            factor, offset, total = factors[at:], offsets[at:], sums[at:]
            for m in range(len(part)):
                out[m] = max(part[m] * factor[m] + offset[m], _NO)
            for m in range(len(part)):
                out[m] = given[m] * sigmoid(out[m])
            for m in range(len(part)):
                total[m] += out[m]
        _shift(pair[channels + c], past, pair[c])
        summary[c] = 0
        for m in range(len(sums)):
            summary[c, m % clips] += sums[m] / steps.frames[m % clips]


@_kernel
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
    factors, offsets, shares = _tile(clips), _tile(clips), _tile(clips)
    hidden, opened, total = _tile(clips), _tile(clips), _tile(clips)
    weighted = _tile(clips)
    for c in range(channels):
        _repeat(affine.factor[c], factors)
        _repeat(affine.offset[c], offsets)
        _repeat(of_summary[c] / steps.frames, shares)
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
                s[m] = sigmoid(max(h[m], _NO))
            for m in range(len(part)):
                old[m] += more[m] + share[m]
            for m in range(len(part)):
                change = old[m] * given[m] * s[m] * (_ONE - s[m])
                new[m] = change if h[m] > _NO else _NO
            for m in range(len(part)):
                old[m] *= s[m]
            _add_sums(new, part, total, weighted)
        _normalise_backward(c, x, steps, norm, epsilon, total, weighted, past, pair, of_norm)


@_kernel
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
    factors, offsets, total = _tile(clips), _tile(clips), _tile(clips)
    weighted = _tile(clips)
    for c in range(len(x)):
        _repeat(affine.factor[c], factors)
        _repeat(affine.offset[c], offsets)
        total[:], weighted[:] = 0, 0
        for begin, end in steps.padding:
            pair[c, begin:end] = 0
        for begin, end in steps.real:
            at = begin % clips
            part, old, new = x[c, begin:end], grad[c, begin:end], pair[c, begin:end]
            factor, offset = factors[at:], offsets[at:]
            for m in range(len(part)):
                given = old[m]
                new[m] = given if part[m] * factor[m] + offset[m] > _NO else _NO
            _add_sums(new, part, total, weighted)
        _normalise_backward(c, x, steps, norm, epsilon, total, weighted, past, pair, of_norm)


@_kernel
def _add_sums(grad: Array, row: Array, total: Array, weighted: Array) -> None:
    for m in range(len(row)):
        total[m] += grad[m]
        weighted[m] += grad[m] * row[m]


@_kernel
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
    of_beta, of_scale = 0.0, 0.0
    for m in range(len(total)):
        of_beta += total[m]
        of_scale += weighted[m]
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
