"""The power of real frames, two by two through one complex transform.

Of frames a and b the transform of a + ib is A + iB, and both spectra of real numbers mirror
themselves: A and B are half the sum and difference of a frequency and its mirror's conjugate. A
complex transform costs little more than a real one of half as many numbers. What rounding carries
from one frame to its neighbour is 140 dB below the louder of the two.
"""

import numpy as np

from ser.kernels import kernel

Array = np.ndarray

_QUARTER = np.float32(0.25)


@kernel
def window_pairs(clip: Array, frame: int, hop: int, window: Array, out: Array) -> None:
    """Into `out` (frames / 2, 2 * n_fft) a clip's windowed frames, two and two interleaved.

    The first is the clip's frame `frame`; they are centred, with zeros past the clip's ends.
    """
    n = len(window)
    edges = np.empty((2, n), np.float32)
    for pair in range(len(out)):
        start = (frame + 2 * pair) * hop - n // 2
        if start >= 0 and start + hop + n <= len(clip):
            _interleave(clip[start : start + n], clip[start + hop :], window, out[pair])
        else:
            _within(clip, start, edges[0])
            _within(clip, start + hop, edges[1])
            _interleave(edges[0], edges[1], window, out[pair])


@kernel
def _interleave(first: Array, second: Array, window: Array, out: Array) -> None:
    for k in range(len(window)):
        out[2 * k] = first[k] * window[k]
        out[2 * k + 1] = second[k] * window[k]


@kernel
def _within(clip: Array, start: int, frame: Array) -> None:
    frame[:] = 0
    first, last = max(start, 0), min(start + len(frame), len(clip))
    if first < last:
        frame[first - start : last - start] = clip[first:last]


@kernel
def power_of_pairs(spectrum: Array, power: Array) -> None:
    """Into `power` (frames, 1 + n_fft / 2) that of each frame.

    `spectrum` (frames / 2, n_fft) is the transform of interleaved frames; a complex number is one
    float64 here, which a loop can turn about as a whole.
    """
    half = spectrum.shape[1] // 2
    mirror = np.empty(half, np.float64)
    down = mirror.view(np.float32)
    for pair in range(len(spectrum)):
        numbers = spectrum[pair].view(np.float32)
        power[2 * pair, 0] = numbers[0] ** 2
        power[2 * pair + 1, 0] = numbers[1] ** 2
        _reverse(spectrum[pair, half:], mirror)
        _separate(numbers[2 : 2 * half + 2], down, power[2 * pair, 1:], power[2 * pair + 1, 1:])


@kernel
def _reverse(numbers: Array, out: Array) -> None:
    for k in range(len(out)):
        out[k] = numbers[len(numbers) - 1 - k]


@kernel
def _separate(up: Array, down: Array, first: Array, second: Array) -> None:
    for k in range(len(first)):
        a, b = up[2 * k] + down[2 * k], up[2 * k + 1] - down[2 * k + 1]
        c, d = up[2 * k] - down[2 * k], up[2 * k + 1] + down[2 * k + 1]
        first[k] = _QUARTER * (a * a + b * b)
        second[k] = _QUARTER * (c * c + d * d)
