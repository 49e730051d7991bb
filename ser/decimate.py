"""48 to 16 kHz with soxr's own filter, sixteen pairs of blocks side by side in vector registers.

Overlap and save (Oppenheim and Schafer 2010, Discrete-Time Signal Processing, section 8.7.3): the
clip is cut into blocks that overlap by what the filter reaches; each block's three phases (every
third sample) are transformed, multiplied by those of the filter and added up, and what comes back
is the block at a third of its rate. Two blocks a and b go through it as a + ib. The last step
there, the product and the first step back are one pass. All numbers lie in one array for the
reason that `ser.features.mel_kernels` gives.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import soxr

from ser.fourier import LANES, eight, store, turn_about, turns_at
from ser.kernels import inlined, kernel

Array = np.ndarray
Waveform = npt.NDArray[np.float32]
Eight = tuple[np.float32, ...]
"""Eight numbers."""

_POINTS = 512  # of a transform: 8 · 8 · 8
_REACH = 96  # to either side, the filter in samples that are kept; further off it is below 3e-8
_KEPT = _POINTS - 2 * _REACH  # samples of a block's answer that its neighbours do not reach
_HOP = 3 * _KEPT
_BLOCKS = 2 * LANES
_WIDTH = 48  # columns of a hop in the workspace; 33 are used
_EIGHTH = _POINTS // 8 * LANES + 16  # 16: or all eighths lay at the same place of a page
_PLANE = 8 * _EIGHTH + 80


def third_of(waveform: Waveform) -> Waveform:
    """As soxr.resample(waveform, 3, 1, quality="HQ"), to 5e-7 of the peak, in half its time.

    Returns:
        ceil(samples / 3) samples; soxr's answer may be one shorter, and a zero stands there.
    """
    third = np.empty(-(-len(waveform) // 3), np.float32)
    roots, gains = _tables()
    work = np.empty(_HOP * _WIDTH + 10 * _PLANE, np.float32)
    _decimate(np.require(waveform, np.float32, ("C", "W")), roots, gains, work, third)
    third[(len(waveform) + 1) // 3 :] = 0
    return third


@cache
def _tables() -> tuple[Array, Array]:
    """Roots of one, and by p the filter's three phases at p, p + 64 ... p + 448: (64, 24)."""
    phases = np.zeros((3, _POINTS))
    for phase in range(3):
        impulse = np.zeros(3 * _POINTS)
        impulse[3 * _REACH + phase] = 1
        answer = soxr.resample(impulse, 3, 1, quality="HQ")[: 2 * _REACH + 1]
        phases[phase, : len(answer)] = answer
    gains = np.fft.fft(np.roll(phases, -_REACH, axis=1)) / _POINTS
    by_p = gains.reshape(3, 8, 64).transpose(2, 0, 1).reshape(64, 24)
    roots = np.exp(-2j * np.pi * np.arange(_POINTS) / _POINTS)
    return roots.astype(np.complex64), np.ascontiguousarray(by_p, np.complex64)


@kernel
def _decimate(clip: Array, roots: Array, gains: Array, work: Array, out: Array) -> None:
    for first in range(0, -(-len(out) // _KEPT), _BLOCKS):
        turn_about(clip, first * _HOP - 3 * _REACH, _HOP, _BLOCKS + 1, _WIDTH, work)
        for phase in range(4):  # of the samples, then what comes back
            if phase < 3:
                _first_step(work, phase, roots)
            else:
                _filter(work, roots, gains)
            _middle_step(work, 2 + 2 * phase, roots)
        _last_step(work)
        _turn_back(work, out[first * _KEPT : (first + _BLOCKS) * _KEPT])


@inlined
def _plane(number: int) -> int:
    """Where a plane begins: even real, odd imaginary."""
    return _HOP * _WIDTH + number * _PLANE


@inlined
def _first_step(work: Array, phase: int, roots: Array) -> None:
    """From every third row of the columns, a block's end in the next column, to planes 0 and 1."""
    far, back = 192 * _WIDTH, 1 - _HOP * _WIDTH
    for p in range(64):
        turns, to = turns_at(roots, p), 8 * p * LANES + p // 8 * (_EIGHTH - 64 * LANES)
        for lane in range(LANES):
            a = (3 * p + phase) * _WIDTH + lane
            b = a + LANES
            up, down = eight(
                (work[a], work[a + far], work[a + 2 * far], work[a + 3 * far], work[a + 4 * far],
                 work[a + 5 * far + back], work[a + 6 * far + back], work[a + 7 * far + back]),
                (work[b], work[b + far], work[b + 2 * far], work[b + 3 * far], work[b + 4 * far],
                 work[b + 5 * far + back], work[b + 6 * far + back], work[b + 7 * far + back]),
            )  # fmt: skip
            store(work, _plane(0) + to + lane, _plane(1) + to + lane, LANES, up, down, turns)


@inlined
def _middle_step(work: Array, target: int, roots: Array) -> None:
    """From planes 0 and 1 to `target` and the next."""
    row = 8 * LANES
    for p in range(8):
        turns, to = turns_at(roots, 8 * p), _plane(target) + p * _EIGHTH
        for k in range(row):
            up, down = _eight_of(work, 0, p * row + k)
            store(work, to + k, to + _PLANE + k, row, up, down, turns)


@inlined
def _filter(work: Array, roots: Array, gains: Array) -> None:
    """The three phases' last step, their filters, their sum, and its first step back."""
    for p in range(64):
        turns, gain = turns_at(roots, p), gains[p]
        to = 8 * p * LANES + p // 8 * (_EIGHTH - 64 * LANES)
        for lane in range(LANES):
            i = p * LANES + lane
            a, b = _weighed(_eight_of(work, 2, i), gain[:8])
            c, d = _weighed(_eight_of(work, 4, i), gain[8:16])
            e, f = _weighed(_eight_of(work, 6, i), gain[16:])
            up, down = eight(_sum(b, d, f), _sum(a, c, e))  # parts swapped: the way back
            store(work, _plane(0) + to + lane, _plane(1) + to + lane, LANES, up, down, turns)


@inlined
def _last_step(work: Array) -> None:
    """From planes 8 and 9 to 0 and 1, but for the eighths at either end, of which none is kept."""
    for p in range(64):
        for lane in range(LANES):
            i = p * LANES + lane
            re, im = _eight_of(work, 8, i)
            j, k, far = _plane(0) + i, _plane(1) + i, _EIGHTH
            work[j + far], work[k + far] = re[1], im[1]
            work[j + 2 * far], work[k + 2 * far] = re[2], im[2]
            work[j + 3 * far], work[k + 3 * far] = re[3], im[3]
            work[j + 4 * far], work[k + 4 * far] = re[4], im[4]
            work[j + 5 * far], work[k + 5 * far] = re[5], im[5]
            work[j + 6 * far], work[k + 6 * far] = re[6], im[6]


@inlined
def _turn_back(work: Array, out: Array) -> None:
    """What is kept of each block, one after the other; parts lie swapped."""
    for number in range(-(-len(out) // _KEPT)):
        block = out[number * _KEPT : (number + 1) * _KEPT]
        source = _plane(1 - number // LANES) + number % LANES
        for k in range(len(block)):
            row = _REACH + k
            block[k] = work[source + row * LANES + row // 64 * (_EIGHTH - 64 * LANES)]


@inlined
def _eight_of(work: Array, plane: int, i: int) -> tuple[Eight, Eight]:
    """The transform of number i of each eighth of `plane` and the next."""
    i += _plane(plane)
    j, far = i + _PLANE, _EIGHTH
    return eight(
        (work[i], work[i + far], work[i + 2 * far], work[i + 3 * far],
         work[i + 4 * far], work[i + 5 * far], work[i + 6 * far], work[i + 7 * far]),
        (work[j], work[j + far], work[j + 2 * far], work[j + 3 * far],
         work[j + 4 * far], work[j + 5 * far], work[j + 6 * far], work[j + 7 * far]),
    )  # fmt: skip


@inlined
def _weighed(numbers: tuple[Eight, Eight], gains: Array) -> tuple[Eight, Eight]:
    re, im = numbers
    a, b, c, d = gains[0], gains[1], gains[2], gains[3]
    e, f, g, h = gains[4], gains[5], gains[6], gains[7]
    return (
        (re[0] * a.real - im[0] * a.imag, re[1] * b.real - im[1] * b.imag,
         re[2] * c.real - im[2] * c.imag, re[3] * d.real - im[3] * d.imag,
         re[4] * e.real - im[4] * e.imag, re[5] * f.real - im[5] * f.imag,
         re[6] * g.real - im[6] * g.imag, re[7] * h.real - im[7] * h.imag),
        (re[0] * a.imag + im[0] * a.real, re[1] * b.imag + im[1] * b.real,
         re[2] * c.imag + im[2] * c.real, re[3] * d.imag + im[3] * d.real,
         re[4] * e.imag + im[4] * e.real, re[5] * f.imag + im[5] * f.real,
         re[6] * g.imag + im[6] * g.real, re[7] * h.imag + im[7] * h.real),
    )  # fmt: skip


@inlined
def _sum(a: Eight, b: Eight, c: Eight) -> Eight:
    return (
        a[0] + b[0] + c[0], a[1] + b[1] + c[1], a[2] + b[2] + c[2], a[3] + b[3] + c[3],
        a[4] + b[4] + c[4], a[5] + b[5] + c[5], a[6] + b[6] + c[6], a[7] + b[7] + c[7],
    )  # fmt: skip
