"""What lies between the products of TIM-Net's blocks, on a CPU: each step one pass over memory.

The arrays are one direction's, float32, (channels, steps): step time * clips + clip, the clips by
ascending length. A convolution of kernel 2 is a product over pairs (2 * channels, steps): of the
rows as they were before, and as they are. What a number is scaled by depends on its channel and
clip alone, so a channel's loop goes over stretches of many times at once, against tiles that repeat
the clips' values.
"""

from typing import Any, NamedTuple

import numpy as np

from ser.kernels import kernel

Array = np.ndarray

TILE = 1024  # numbers of a tile, about
_LN2 = float(np.log(2.0))
_LOG2_E = np.float32(1 / _LN2)
_1, _2, _3, _4, _5, _6, _7 = (np.float32(_LN2**n / np.prod(range(1, n + 1))) for n in range(1, 8))
NO, _HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEAST = np.float32(-126)  # the smallest power of two that float32 has in full
_BIAS, _MANTISSA = np.int32(127), np.int32(23)  # of float32's exponent, and bits below it


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


@kernel
def repeats(clips: int) -> int:
    """How often a tile repeats the clips' values."""
    return max(1, TILE // clips)


@kernel
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of x >= 0 in float32, to its last bit but one.

    exp(-x) is 2 to the power of a whole number, written into the exponent, times 2 to the power of
    what is left, at most a half, by the Taylor series.
    """
    power = max(-_LOG2_E * x, _LEAST)
    whole = np.floor(power + _HALF)
    f = power - whole
    rest = ONE + f * (_1 + f * (_2 + f * (_3 + f * (_4 + f * (_5 + f * (_6 + f * _7))))))
    scale = np.int32((np.int32(whole) + _BIAS) << _MANTISSA).view(np.float32)
    return ONE / (ONE + rest * scale)


@kernel
def normalise(
    x: Array, steps: Steps, keep: Array, epsilon: float, norm: Norm, affine: Affine
) -> None:
    """Batch normalisation of x over the real steps, and dropout by the factors `keep`.

    Written are the mean and variance of `norm`, and `affine`.
    """
    n = steps.frames.sum()
    sums, squares = tile_of(len(steps.frames)), tile_of(len(steps.frames))
    for c in range(len(x)):
        row, first = x[c], x[c, 0]
        sums[:], squares[:] = 0, 0
        for begin, end in steps.real:
            part, total, square = row[begin:end], sums[: end - begin], squares[: end - begin]
            for m in range(len(part)):
                away = part[m] - first
                total[m] += away
                square[m] += away * away
        away_64, square_64 = sum_of(sums, len(steps.frames)), sum_of(squares, len(steps.frames))
        mean = first + away_64 / n
        variance = max(square_64 / n - (away_64 / n) ** 2, 0.0)  # rounding can go below
        norm.mean[c], norm.variance[c] = mean, variance
        scale = norm.gamma[c] / np.sqrt(variance + epsilon)
        for b in range(keep.shape[1]):
            affine.factor[c, b] = scale * keep[c, b]
            affine.offset[c, b] = (norm.beta[c] - scale * mean) * keep[c, b]


@kernel
def tile_of(clips: int) -> Array:
    """Room for a tile."""
    return np.empty(repeats(clips) * clips, np.float32)


@kernel
def fold(tile: Array, clips: int) -> Array:
    """Add a tile up, in place, to the clips' sums (clips,)."""
    sums = tile[:clips]
    for at in range(clips, len(tile), clips):
        part = tile[at : at + clips]
        for m in range(clips):
            sums[m] += part[m]
    return sums


@kernel
def sum_of(tile: Array, clips: int) -> float:
    """The sum of a tile, which is lost."""
    total = 0.0
    for value in fold(tile, clips):
        total += value
    return total


@kernel
def repeat(row: Array, tile: Array) -> None:
    """Into `tile` the clips' values (clips,) again and again."""
    for at in range(0, len(tile), len(row)):
        part = tile[at : at + len(row)]
        for m in range(len(part)):
            part[m] = row[m]


@kernel
def activate(x: Array, affine: Affine, past: int, pair: Array) -> None:
    """Into `pair` the ReLU of the normalised x, and before it that of the step `past` earlier."""
    channels, n = x.shape
    factor, offset = tile_of(affine.factor.shape[1]), tile_of(affine.factor.shape[1])
    for c in range(channels):
        repeat(affine.factor[c], factor)
        repeat(affine.offset[c], offset)
        for at in range(0, n, len(factor)):
            part, out = x[c, at : at + len(factor)], pair[channels + c, at : at + len(factor)]
            for m in range(len(part)):
                out[m] = max(part[m] * factor[m] + offset[m], NO)
        _shift(pair[channels + c], past, pair[c])


@kernel
def _shift(now: Array, past: int, earlier: Array) -> None:
    """Into `earlier` the row as it was `past` steps before, 0 where there was none."""
    n = len(now)
    earlier[: min(past, n)] = 0
    given, out = now[: max(n - past, 0)], earlier[min(past, n) :]
    for m in range(len(out)):
        out[m] = given[m]


@kernel
def pair_up(rows: Array, past: int, pair: Array) -> None:
    """Into `pair` the rows `past` steps earlier, and as they are."""
    for c in range(len(rows)):
        pair[len(rows) + c] = rows[c]
        _shift(rows[c], past, pair[c])


@kernel
def gate(
    x: Array, affine: Affine, rows: Array, steps: Steps, past: int, pair: Array, summary: Array
) -> None:
    """Into `pair` the rows times the sigmoid of the ReLU of the normalised x, 0 on padding.

    Into `summary` (channels, clips) its mean over each clip's frames.
    """
    channels, clips = len(x), len(steps.frames)
    factors, offsets, sums = tile_of(clips), tile_of(clips), tile_of(clips)
    for c in range(channels):
        repeat(affine.factor[c], factors)
        repeat(affine.offset[c], offsets)
        sums[:] = 0
        for begin, end in steps.padding:
            pair[channels + c, begin:end] = 0
        for begin, end in steps.real:
            at = begin % clips
            part, given, out = x[c, begin:end], rows[c, begin:end], pair[channels + c, begin:end]
            factor, offset, total = factors[at:], offsets[at:], sums[at:]
            for m in range(len(part)):
                out[m] = max(part[m] * factor[m] + offset[m], NO)
            for m in range(len(part)):
                out[m] = given[m] * sigmoid(out[m])
            for m in range(len(part)):
                total[m] += out[m]
        _shift(pair[channels + c], past, pair[c])
        of_clips = fold(sums, clips)
        for b in range(clips):
            summary[c, b] = of_clips[b] / steps.frames[b]
