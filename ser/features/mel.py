"""Mel power spectrum with librosa's numbers."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from ser.audio import Waveform
from ser.errors import SerError

AMIN = 1e-10
"""Power below this counts as this, as in librosa.power_to_db."""
_TOP_DB = 80.0
"""Quieter than this below the clip's loudest is clipped, as in librosa.power_to_db."""

Power = Callable[[Waveform, np.ndarray], None]
"""Fills (n_mels, frames) with the power of a clip, at least AMIN."""


def check_analysis(feature: str, **sizes: int) -> None:
    """Refuse sizes below one, by name."""
    for name, size in sizes.items():
        if size < 1:
            raise SerError(f"feature {feature}: {name}={size}: it must be at least 1.")


class MelDecibels:
    """librosa.power_to_db of librosa.feature.melspectrogram at its defaults.

    Periodic Hann window, zeros past the clip's ends, Slaney mel bands, 10·log10 of the power
    clipped 80 dB below the clip's largest. Windows of 1,024 and 2,048 samples, a quarter of that
    apart, have kernels of their own; others go through torch.
    """

    def __init__(self, n_mels: int, n_fft: int, hop_samples: int, sample_rate_hz: int) -> None:
        """Choose the analysis; a clip gives 1 + samples // hop_samples frames."""
        self._n_mels, self._n_fft, self._hop = n_mels, n_fft, hop_samples
        self._window = torch.hann_window(n_fft, dtype=torch.float32)
        self._filters = melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate_hz / 2, n_mels, sample_rate_hz,
            norm="slaney", mel_scale="slaney",
        ).float()  # fmt: skip  # (frequencies, n_mels)

    def __call__(self, waveforms: Sequence[Waveform]) -> tuple[Tensor, list[slice]]:
        """All clips' frames in a row, (n_mels, frames), and where each clip lies among them.

        To be run under torch.inference_mode().
        """
        ends = np.cumsum([0, *(1 + len(waveform) // self._hop for waveform in waveforms)]).tolist()
        clips = [slice(start, end) for start, end in pairwise(ends)]
        decibels = torch.empty(self._n_mels, ends[-1], dtype=torch.float32)
        power = self._power()
        for waveform, clip in zip(waveforms, clips, strict=True):
            power(np.require(waveform, np.float32, ("C", "W")), decibels[:, clip].numpy())
        torch.log10(decibels, out=decibels).mul_(10.0)
        for clip in clips:
            decibels[:, clip].clamp_(min=float(decibels[:, clip].max()) - _TOP_DB)
        return decibels, clips

    def _power(self) -> Power:
        if 4 * self._hop != self._n_fft or self._n_fft not in (1024, 2048):
            return self._by_torch
        from ser.features import mel_kernels  # numba takes a while

        sizes = {1024: mel_kernels.mel_power_1024, 2048: mel_kernels.mel_power_2048}
        kernel, work = sizes[self._n_fft], mel_kernels.workspace(self._n_fft)
        window, roots, groups = self._window.numpy(), self._roots, self._groups
        return lambda clip, out: kernel(clip, window, roots, groups, work, out)

    def _by_torch(self, clip: Waveform, out: np.ndarray) -> None:
        spectrum = torch.stft(
            torch.from_numpy(clip), self._n_fft, self._hop, window=self._window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        torch.mm(self._filters.T, power, out=torch.from_numpy(out)).clamp_(min=AMIN)

    @cached_property
    def _roots(self) -> np.ndarray:
        roots: np.ndarray = np.exp(-2j * np.pi * np.arange(self._n_fft) / self._n_fft)
        return roots.astype(np.complex64)

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The filters without the zeros around them, in fours, as the kernels take them."""
        filters = np.pad(self._filters.T.numpy(), ((0, 0), (0, 3)))
        covered = [row.nonzero()[0] for row in filters]
        firsts = np.array([some[0] if len(some) else 0 for some in covered])
        counts = np.array([(some[-1] - some[0]) // 4 + 1 if len(some) else 0 for some in covered])
        bands = zip(filters, firsts, counts, strict=True)
        weights = [row[first : first + 4 * count].reshape(-1, 4) for row, first, count in bands]
        return firsts, counts, np.concatenate(weights)
