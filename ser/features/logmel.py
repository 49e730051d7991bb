"""Log-mel spectrogram with librosa's numbers, computed by torchaudio."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from ser.audio import Waveform
from ser.features.base import JSON, Array, Feature

_TOP_DB = 80.0
"""Quieter than this below the clip's loudest is clipped, as in librosa.power_to_db."""


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
            return [
                self._transform(torch.tensor(waveform)).T.contiguous().numpy()
                for waveform in waveforms
            ]

    @cached_property
    def _transform(self) -> nn.Module:
        mel = MelSpectrogram(
            sample_rate=self.sample_rate_hz,
            n_fft=self.n_fft,
            hop_length=self.hop_samples,
            n_mels=self.n_mels,
            pad_mode="constant",
            norm="slaney",
            mel_scale="slaney",
        )
        return nn.Sequential(mel, AmplitudeToDB("power", _TOP_DB))
