"""The parts of a fast Fourier transform for kernels: sixteen transforms side by side.

Stockham's, of radix 8 (Van Loan 1992, Computational Frameworks for the Fast Fourier Transform,
section 1.7). Real and imaginary parts lie apart, number n of all transforms in one vector. numba
keeps a kernel compiled until its own file changes: change this one, and touch those that import it.
"""

import numpy as np

from ser.kernels import inlined

Array = np.ndarray

LANES = 16
"""Numbers in a vector."""

_ROWS = 16  # turned about at a time: of each hop a line of the cache
_DIAGONAL = np.float32(np.sqrt(0.5))


@inlined
def turn_about(clip: Array, begin: int, hop: int, columns: int, width: int, work: Array) -> None:
    """The clip's hops from sample `begin` on, each into a column of `work`, `width` numbers a row.

    Past the clip's ends stand zeros; `hop` is a multiple of 16.
    """
    for top in range(0, hop, _ROWS):
        for number in range(columns):
            start, at = begin + number * hop + top, top * width + number
            column = work[at : at + (_ROWS - 1) * width + 1]
            if start >= 0 and start + _ROWS <= len(clip):
                samples = clip[start : start + _ROWS]
                for k in range(_ROWS):
                    column[k * width] = samples[k]
            else:
                for k in range(_ROWS):
                    inside = 0 <= start + k < len(clip)
                    column[k * width] = clip[start + k] if inside else np.float32(0)


@inlined
def turns_at(roots: Array, p: int) -> tuple[np.complex64, ...]:
    """Root p and its powers to the 7th."""
    return (
        roots[p], roots[2 * p], roots[3 * p], roots[4 * p], roots[5 * p], roots[6 * p],
        roots[7 * p],
    )  # fmt: skip


@inlined
def store(
    work: Array, i: int, j: int, step: int, up: tuple[np.float32, ...],
    down: tuple[np.float32, ...], turns: tuple[np.complex64, ...],
) -> None:  # fmt: skip
    """Eight numbers, turned, a step apart: real parts (`up`) from i on, imaginary from j on."""
    work[i], work[j] = up[0], down[0]
    for k in range(1, 8):
        turn = turns[k - 1]
        work[i + k * step] = up[k] * turn.real - down[k] * turn.imag
        work[j + k * step] = up[k] * turn.imag + down[k] * turn.real


@inlined
def eight(
    re: tuple[np.float32, ...], im: tuple[np.float32, ...]
) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """The transform of eight complex numbers."""
    even_re, even_im = four(
        re[0] + re[4], re[1] + re[5], re[2] + re[6], re[3] + re[7],
        im[0] + im[4], im[1] + im[5], im[2] + im[6], im[3] + im[7],
    )  # fmt: skip
    b, c, d = re[1] - re[5], re[2] - re[6], re[3] - re[7]
    f, g, h = im[1] - im[5], im[2] - im[6], im[3] - im[7]
    odd_re, odd_im = four(
        re[0] - re[4], _DIAGONAL * (b + f), g, _DIAGONAL * (h - d),
        im[0] - im[4], _DIAGONAL * (f - b), -c, -_DIAGONAL * (h + d),
    )  # fmt: skip
    return (
        (even_re[0], odd_re[0], even_re[1], odd_re[1], even_re[2], odd_re[2], even_re[3],
         odd_re[3]),
        (even_im[0], odd_im[0], even_im[1], odd_im[1], even_im[2], odd_im[2], even_im[3],
         odd_im[3]),
    )  # fmt: skip


@inlined
def four(
    a: np.float32, b: np.float32, c: np.float32, d: np.float32,
    e: np.float32, f: np.float32, g: np.float32, h: np.float32,
) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:  # fmt: skip
    """The transform of a + ie, b + if, c + ig, d + ih."""
    return (
        ((a + c) + (b + d), (a - c) + (f - h), (a + c) - (b + d), (a - c) - (f - h)),
        ((e + g) + (f + h), (e - g) - (b - d), (e + g) - (f + h), (e - g) + (b - d)),
    )
