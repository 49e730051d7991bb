"""A convolution over time with a long kernel, by Fourier transforms."""

import torch
from torch import Tensor, nn

from ser.onednn import applies

_TRANSFORM_COST = 400
"""Products that a tap's way to the spectrum and back takes; equal at four clips of 4 s of
wav2vec2-base (128 taps, 16 groups), forward and backward, on one and on two threads."""


def convolve(convolution: nn.Conv1d, rows: Tensor) -> Tensor:
    """What this convolution gives at each step of the rows, filled up with zeros at both ends.

    In training of many rows on a CPU by the product of spectra, whose cost hardly grows with the
    kernel's length (equal to some 1e-6 of the largest value); else by torch's own.

    Args:
        convolution: of stride 1 and a padding of half its kernel.
        rows: (batch, steps, channels).

    Returns:
        (batch, steps, channels out); of an even kernel's step more at the end nothing is kept.
    """
    batch, steps, _ = rows.shape
    (taps,) = convolution.kernel_size
    length = steps + taps - 1
    many = batch * steps * taps > _TRANSFORM_COST * length
    if not (many and rows.requires_grad and applies(rows)):
        plain: Tensor = convolution(rows.mT)
        return plain[..., :steps].mT
    from scipy.fft import next_fast_len

    size = next_fast_len(length, real=True)
    weight, groups = convolution.weight, convolution.groups
    # (batch, groups, in, bins) and (groups, out, in, bins) to (groups, bins, batch, out)
    spectra = torch.fft.rfft(rows.mT, size).unflatten(1, (groups, -1))
    kernels = torch.fft.rfft(weight, size).unflatten(0, (groups, -1)).conj()
    products = spectra.permute(1, 3, 0, 2) @ kernels.permute(0, 3, 2, 1)
    result: Tensor = torch.fft.irfft(products.permute(2, 0, 3, 1).flatten(1, 2), size)
    result = result.roll(taps // 2, -1)[..., :steps].mT
    return result if convolution.bias is None else result + convolution.bias
