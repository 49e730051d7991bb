"""Mel-frequency cepstral coefficients with librosa's numbers."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torchaudio.functional import compute_deltas, create_dct

from ser.audio import Waveform, centre_crop_or_pad
from ser.errors import SerError
from ser.features.base import JSON, Array, Feature
from ser.features.mel import MelDecibels, check_analysis
from ser.onednn import linear

_DELTA_WIDTH = 9
"""Frames of the regression window of a delta, librosa's default."""


class Mfcc(Feature):
    """librosa.feature.mfcc: Hann, Slaney mel, 10·log10 clipped 80 dB below the peak, ortho DCT-II.

    Deltas equal librosa.feature.delta but for the four frames at either end, where the edge frame
    is repeated (librosa fits a polynomial there and refuses clips under nine frames).
    """

    stream = "frames"

    def __init__(
        self,
        n_mfcc: int,
        n_fft: int,
        hop_samples: int,
        n_mels: int,
        deltas: int,
        sample_rate_hz: int,
        n_samples: int | None,
    ) -> None:
        """Choose the analysis.

        Args:
            n_mfcc: coefficients kept, the zeroth included.
            n_fft: window and transform length in samples.
            hop_samples: step between frames; a clip gives 1 + samples // hop_samples frames.
            n_mels: mel bands, at least n_mfcc.
            deltas: 0 for the coefficients alone, 1 or 2 to append first and second differences.
            sample_rate_hz: the rate that waveforms arrive at.
            n_samples: crop or pad every clip about its centre to this length; None keeps it whole.
        """
        if deltas not in (0, 1, 2):
            raise SerError(f"feature mfcc: deltas={deltas}, but only 0, 1 and 2 are possible.")
        check_analysis("mfcc", n_mfcc=n_mfcc, n_fft=n_fft, hop_samples=hop_samples)
        if n_mfcc > n_mels:
            raise SerError(
                f"feature mfcc: n_mfcc={n_mfcc} is more than n_mels={n_mels}. Raise n_mels or "
                "lower n_mfcc."
            )
        self.n_mfcc, self.n_fft, self.hop_samples, self.n_mels = n_mfcc, n_fft, hop_samples, n_mels
        self.deltas, self.sample_rate_hz, self.n_samples = deltas, sample_rate_hz, n_samples

    def settings(self) -> dict[str, JSON]:
        """Class, version and every parameter."""
        return {
            "class": "Mfcc",
            "version": 1,
            "n_mfcc": self.n_mfcc,
            "n_fft": self.n_fft,
            "hop_samples": self.hop_samples,
            "n_mels": self.n_mels,
            "deltas": self.deltas,
            "sample_rate_hz": self.sample_rate_hz,
            "n_samples": self.n_samples,
        }

    def shape(self) -> tuple[int, ...]:
        """(n_mfcc * (1 + deltas),)."""
        return (self.n_mfcc * (1 + self.deltas),)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (frames, n_features) array a clip, float32."""
        with torch.inference_mode():
            decibels, clips = self._decibels(self.fitted(waveforms))
            coefficients = linear(self._dct, decibels.T)
            return [self._with_deltas(coefficients[:, clip]) for clip in clips]

    def fitted(self, waveforms: Sequence[Waveform]) -> Sequence[Waveform]:
        """The clips, cropped or padded to n_samples where that is asked for."""
        if self.n_samples is None:
            return waveforms
        return [centre_crop_or_pad(waveform, self.n_samples) for waveform in waveforms]

    def _with_deltas(self, coefficients: Tensor) -> Array:
        """(n_mfcc, frames) to (frames, n_features)."""
        orders = [coefficients]
        for _ in range(self.deltas):
            orders.append(compute_deltas(orders[-1], win_length=_DELTA_WIDTH))
        features: Array = torch.cat(orders).T.contiguous().numpy()
        return features

    @cached_property
    def _decibels(self) -> MelDecibels:
        return MelDecibels(self.n_mels, self.n_fft, self.hop_samples, self.sample_rate_hz)

    @cached_property
    def _dct(self) -> Tensor:
        dct: Tensor = create_dct(self.n_mfcc, self.n_mels, norm="ortho").float()
        return dct.T.contiguous()  # (n_mfcc, n_mels)
