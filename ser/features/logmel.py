"""Log-mel spectrogram with librosa's numbers."""

from collections.abc import Sequence
from functools import cached_property

import torch

from ser.audio import Waveform
from ser.features.base import JSON, Array, Feature
from ser.features.mel import MelDecibels, check_analysis


class LogMel(Feature):
    """librosa.power_to_db(librosa.feature.melspectrogram): Hann, Slaney mel, decibels."""

    stream = "frames"

    def __init__(self, n_mels: int, n_fft: int, hop_samples: int, sample_rate_hz: int) -> None:
        """Choose the analysis.

        Args:
            n_mels: mel bands.
            n_fft: window and transform length in samples.
            hop_samples: step between frames; a clip gives 1 + samples // hop_samples frames.
            sample_rate_hz: the rate that waveforms arrive at.
        """
        check_analysis("logmel", n_mels=n_mels, n_fft=n_fft, hop_samples=hop_samples)
        self.n_mels, self.n_fft, self.hop_samples = n_mels, n_fft, hop_samples
        self.sample_rate_hz = sample_rate_hz

    def settings(self) -> dict[str, JSON]:
        """Class, version and every parameter."""
        return {
            "class": "LogMel",
            "version": 1,
            "n_mels": self.n_mels,
            "n_fft": self.n_fft,
            "hop_samples": self.hop_samples,
            "sample_rate_hz": self.sample_rate_hz,
        }

    def shape(self) -> tuple[int, ...]:
        """(n_mels,)."""
        return (self.n_mels,)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (frames, n_mels) array a clip, float32."""
        with torch.inference_mode():
            decibels, clips = self._decibels(waveforms)
            return [decibels[:, clip].T.contiguous().numpy() for clip in clips]

    @cached_property
    def _decibels(self) -> MelDecibels:
        return MelDecibels(self.n_mels, self.n_fft, self.hop_samples, self.sample_rate_hz)
