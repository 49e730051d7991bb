"""The mel power of a clip's frames, sixteen pairs of frames side by side in vector registers.

Where a hop is a quarter of the window, four columns of the clip, cut into rows of a hop, are a
frame; so the clip is turned about once, and sample n of sixteen frames in a row is one vector.
From there to the mel bands nothing is moved between frames any more.

The transform is Stockham's (radix 8, the last step 2 or 4; Van Loan 1992, Computational Frameworks
for the Fast Fourier Transform, section 1.7). Two frames a and b go through it as a + ib: their
spectra mirror themselves, so half the sum and difference of a frequency and its mirror's conjugate
are A and B. What rounding carries from one to the other is 140 dB below the louder.

All numbers lie in one array, at distances that are known when the loops are compiled: LLVM then
makes vector instructions of them without checking what overlaps.
"""

import numpy as np

from ser.features.mel import AMIN
from ser.fourier import LANES, eight, four, store, turn_about, turns_at
from ser.kernels import inlined, kernel

Array = np.ndarray

FRAMES = 32
"""Frames that go side by side."""

_WIDTH = 48  # columns of a hop in the workspace; 35 are used
_GAP = 80  # keeps planes from starting at the same place of a page, where stores wait for loads
_HALF = np.float32(0.5)
_FLOOR = np.float32(AMIN)


@inlined
def _plane(n_fft: int, number: int) -> int:
    """Where a plane of n_fft rows of lanes begins: 0 and 1 real and imaginary, 2 and 3 others."""
    return n_fft // 4 * _WIDTH + number * (n_fft * LANES + _GAP)


@kernel
def workspace(n_fft: int) -> Array:
    """Room for columns, four planes, power (a vector of FRAMES a frequency) and one band's sum."""
    return np.zeros(_plane(n_fft, 4) + (n_fft // 2 + 5) * FRAMES, np.float32)


@kernel
def mel_power_1024(
    clip: Array, window: Array, roots: Array, filters: tuple[Array, ...], work: Array, out: Array
) -> None:
    """As `mel_power_2048`, for a window of 1,024 samples: 8 · 8 · 8 · 2."""
    _mel_power(clip, 1024, window, roots, filters, work, out)


@kernel
def mel_power_2048(
    clip: Array, window: Array, roots: Array, filters: tuple[Array, ...], work: Array, out: Array
) -> None:
    """Into `out` (n_mels, frames) the power of each band in each frame, at least 1e-10.

    Frames are centred, a quarter of the window apart, with zeros past the clip's ends. The steps
    are 8 · 8 · 8 · 4.

    Args:
        clip: samples.
        window: (n_fft,).
        roots: (n_fft,), of one: exp(-2 pi i k / n_fft).
        filters: of each band its first frequency and how many groups of four frequencies it
            has, then the groups' weights one after the other, (groups, 4).
        work: `workspace(n_fft)`.
    """
    _mel_power(clip, 2048, window, roots, filters, work, out)


@inlined
def _mel_power(
    clip: Array, n_fft: int, window: Array, roots: Array, filters: tuple[Array, ...], work: Array,
    out: Array,
) -> None:  # fmt: skip
    for first in range(0, out.shape[1], FRAMES):
        hop = n_fft // 4
        turn_about(clip, first * hop - n_fft // 2, hop, FRAMES + 3, _WIDTH, work)
        _window_and_first_step(work, n_fft, window, roots)
        _step(work, n_fft, n_fft // 8, 0, 2, roots)
        _step(work, n_fft, n_fft // 64, 2, 0, roots)
        if n_fft == 2048:
            _last_four(work, n_fft)
        else:
            _last_two(work, n_fft)
        _powers(work, n_fft)
        _bands(work, n_fft, filters, out[:, first : first + FRAMES])


@inlined
def _window_and_first_step(work: Array, n_fft: int, window: Array, roots: Array) -> None:
    """Plane 0 and 1: frames lane and lane + 16 as one complex number, after the first step."""
    m, real, imaginary = n_fft // 8, _plane(n_fft, 0), _plane(n_fft, 1)
    for p in range(m):
        a, b, c, d = window[p], window[p + m], window[p + 2 * m], window[p + 3 * m]
        e, f, g, h = window[p + 4 * m], window[p + 5 * m], window[p + 6 * m], window[p + 7 * m]
        turns = turns_at(roots, p)
        for lane in range(LANES):
            i = p * _WIDTH + lane
            j = (p + m) * _WIDTH + lane  # a hop is 2 m samples
            up, down = eight(
                (a * work[i], b * work[j], c * work[i + 1], d * work[j + 1],
                 e * work[i + 2], f * work[j + 2], g * work[i + 3], h * work[j + 3]),
                (a * work[i + 16], b * work[j + 16], c * work[i + 17], d * work[j + 17],
                 e * work[i + 18], f * work[j + 18], g * work[i + 19], h * work[j + 19]),
            )  # fmt: skip
            store(work, real + 8 * p * LANES + lane, imaginary + 8 * p * LANES + lane, LANES,
                   up, down, turns)  # fmt: skip


@inlined
def _step(work: Array, n_fft: int, n: int, source: int, target: int, roots: Array) -> None:
    """A step among transforms of n points, from one pair of planes to another."""
    m, row = n // 8, n_fft // n * LANES
    far = m * row
    real, imaginary = _plane(n_fft, source), _plane(n_fft, source + 1)
    to_real, to_imaginary = _plane(n_fft, target), _plane(n_fft, target + 1)
    for p in range(m):
        turns = turns_at(roots, p * (n_fft // n))
        for k in range(row):
            i = real + p * row + k
            j = imaginary + p * row + k
            up, down = eight(
                (work[i], work[i + far], work[i + 2 * far], work[i + 3 * far],
                 work[i + 4 * far], work[i + 5 * far], work[i + 6 * far], work[i + 7 * far]),
                (work[j], work[j + far], work[j + 2 * far], work[j + 3 * far],
                 work[j + 4 * far], work[j + 5 * far], work[j + 6 * far], work[j + 7 * far]),
            )  # fmt: skip
            store(work, to_real + 8 * p * row + k, to_imaginary + 8 * p * row + k, row,
                   up, down, turns)  # fmt: skip


@inlined
def _last_four(work: Array, n_fft: int) -> None:
    """Plane 0 and 1 to 2 and 3."""
    far = n_fft // 4 * LANES
    a, b, c, d = _plane(n_fft, 0), _plane(n_fft, 1), _plane(n_fft, 2), _plane(n_fft, 3)
    for k in range(far):
        re, im = four(
            work[a + k], work[a + k + far], work[a + k + 2 * far], work[a + k + 3 * far],
            work[b + k], work[b + k + far], work[b + k + 2 * far], work[b + k + 3 * far],
        )  # fmt: skip
        work[c + k], work[c + k + far] = re[0], re[1]
        work[c + k + 2 * far], work[c + k + 3 * far] = re[2], re[3]
        work[d + k], work[d + k + far] = im[0], im[1]
        work[d + k + 2 * far], work[d + k + 3 * far] = im[2], im[3]


@inlined
def _last_two(work: Array, n_fft: int) -> None:
    """Plane 0 and 1 to 2 and 3."""
    far = n_fft // 2 * LANES
    for source in range(2):
        a, b = _plane(n_fft, source), _plane(n_fft, source + 2)
        for k in range(far):
            work[b + k] = work[a + k] + work[a + k + far]
            work[b + k + far] = work[a + k] - work[a + k + far]


@inlined
def _powers(work: Array, n_fft: int) -> None:
    """Of each frequency the power in each frame, FRAMES side by side."""
    real, imaginary, power = _plane(n_fft, 2), _plane(n_fft, 3), _plane(n_fft, 4)
    for lane in range(LANES):
        work[power + lane] = work[real + lane] ** 2
        work[power + lane + LANES] = work[imaginary + lane] ** 2
    for k in range(1, n_fft // 2 + 1):
        for lane in range(LANES):
            i, j = k * LANES + lane, (n_fft - k) * LANES + lane
            a = _HALF * (work[real + i] + work[real + j])
            b = _HALF * (work[imaginary + i] - work[imaginary + j])
            c = _HALF * (work[imaginary + i] + work[imaginary + j])
            d = _HALF * (work[real + i] - work[real + j])
            work[power + k * FRAMES + lane] = a * a + b * b
            work[power + k * FRAMES + lane + LANES] = c * c + d * d


@inlined
def _bands(work: Array, n_fft: int, filters: tuple[Array, ...], out: Array) -> None:
    """Into `out` (n_mels, up to FRAMES) what each band weighs together."""
    firsts, counts, weights = filters
    powers = work[_plane(n_fft, 4) :]
    total = powers[(n_fft // 2 + 4) * FRAMES :]
    group = 0
    for band in range(len(firsts)):
        total[:FRAMES] = 0
        start = firsts[band] * FRAMES
        for _ in range(counts[band]):
            _add_four(powers[start : start + 4 * FRAMES], weights[group], total)
            group += 1
            start += 4 * FRAMES
        row = out[band]
        for frame in range(len(row)):
            row[frame] = max(total[frame], _FLOOR)


@inlined
def _add_four(powers: Array, weights: Array, total: Array) -> None:
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for k in range(FRAMES):
        total[k] += (a * powers[k] + b * powers[k + FRAMES]) + (
            c * powers[k + 2 * FRAMES] + d * powers[k + 3 * FRAMES]
        )
