"""Cepstra with the pitch, the voicing and the level of each frame beside them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser.audio import Waveform
from ser.features.base import JSON, Array, Feature
from ser.features.mfcc import Mfcc

N_PROSODY = 3
"""The columns after the cepstra: pitch, voicing, level."""
PITCH_WINDOW_S = 0.064
"""Five periods of the lowest pitch."""
LOWEST_HZ, HIGHEST_HZ = 75.0, 550.0
"""Of excited speech: RAVDESS's women reach 500 Hz when they shout."""
REFERENCE_HZ = 175.0
"""Between men's and women's voices; what is unvoiced counts as this."""
LEVEL_WINDOW_S = 0.025
_OCTAVE_COST = 0.01
"""By octave below the highest: of two lags that fit alike the shorter is the period."""
_FLOOR = 1e-9
_BLOCK = 512
"""Frames at a time: those of an hour at once took 8 GB."""


class MfccProsody(Feature):
    """MFCC, then pitch, voicing and level, all in numbers of like size.

    Voicing is the normalised autocorrelation at the period (Boersma 1993, without its path
    search), from 0 to 1; pitch is octaves from 175 Hz times voicing, so that a frame without pitch
    says nothing. With MFCC's own deviation as `scale` one divisor does for all columns.
    """

    stream = "frames"

    def __init__(self, mfcc: Mfcc, scale: float) -> None:
        """Choose the analysis.

        Args:
            mfcc: gives the first columns; its frames, rate and length are those of the others.
            scale: the value of an octave, of full voicing and of 20 dB.
        """
        self.mfcc, self.scale, self.sample_rate_hz = mfcc, scale, mfcc.sample_rate_hz

    def settings(self) -> dict[str, JSON]:
        """Class, version and every parameter."""
        own: dict[str, JSON] = {"class": "MfccProsody", "version": 1, "scale": self.scale}
        return {**self.mfcc.settings(), **own}

    def shape(self) -> tuple[int, ...]:
        """(n_mfcc * (1 + deltas) + 3,)."""
        return (self.mfcc.shape()[0] + N_PROSODY,)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (frames, n_features) array a clip, float32."""
        waveforms = self.mfcc.fitted(waveforms)
        return [
            np.concatenate([cepstra, self._prosody(waveform, len(cepstra))], axis=1)
            for waveform, cepstra in zip(waveforms, self.mfcc.extract(waveforms, keys), strict=True)
        ]

    def _prosody(self, waveform: Waveform, n_frames: int) -> npt.NDArray[np.float32]:
        """(frames, 3)."""
        rate, hop = self.sample_rate_hz, self.mfcc.hop_samples
        octaves, voicing = pitch_of(waveform, n_frames, hop, rate)
        level = level_db(waveform, n_frames, hop, rate)
        columns = np.stack([octaves * voicing, voicing, level / 20], axis=1)
        return (self.scale * columns).astype(np.float32)


def pitch_of(
    waveform: Waveform, n_frames: int, hop_samples: int, sample_rate_hz: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Octaves from 175 Hz, and voicing from 0 to 1, of frames centred every hop: (frames,) each."""
    frames = _frames(waveform, round(PITCH_WINDOW_S * sample_rate_hz), n_frames, hop_samples)
    blocks = (frames[at : at + _BLOCK] for at in range(0, n_frames, _BLOCK))
    octaves, voicing = zip(*(_pitch(block, sample_rate_hz) for block in blocks), strict=True)
    return np.concatenate(octaves), np.concatenate(voicing)


def _pitch(
    frames: npt.NDArray[np.float64], sample_rate_hz: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """As `pitch_of`, of frames (frames, size)."""
    window = np.hanning(frames.shape[1])
    frames = frames - frames.mean(1, keepdims=True)
    lags = np.arange(int(sample_rate_hz / HIGHEST_HZ), int(sample_rate_hz / LOWEST_HZ) + 1)
    of_frames, of_window = (
        _autocorrelation(signal)[:, [0, *lags]] for signal in (frames * window, window[None])
    )
    normalised = of_frames / (of_frames[:, :1] + _FLOOR) / (of_window / of_window[:, :1])
    score = normalised[:, 1:] - _OCTAVE_COST * np.log2(lags / lags[0])
    best = score.argmax(1).clip(1, len(lags) - 2)
    before, peak, after = (score[np.arange(len(frames)), best + step] for step in (-1, 0, 1))
    bend = before - 2 * peak + after
    shift = 0.5 * (before - after) / np.where(bend < -_FLOOR, bend, -1)  # of the parabola's top
    period = (lags[best] + shift.clip(-1, 1)) / sample_rate_hz
    return -np.log2(period * REFERENCE_HZ), peak.clip(0, 1)


def level_db(
    waveform: Waveform, n_frames: int, hop_samples: int, sample_rate_hz: int
) -> npt.NDArray[np.float64]:
    """Decibels of full scale of 25 ms about each frame's centre, from -90: (frames,)."""
    frames = _frames(waveform, round(LEVEL_WINDOW_S * sample_rate_hz), n_frames, hop_samples)
    return np.asarray(10 * np.log10(np.square(frames).mean(1) + _FLOOR))


def _frames(
    waveform: Waveform, size: int, n_frames: int, hop_samples: int
) -> npt.NDArray[np.float64]:
    """(frames, size), centred every hop as librosa's are, zeros past the ends."""
    padded = np.zeros(max((n_frames - 1) * hop_samples + size, size // 2 + len(waveform)))
    padded[size // 2 : size // 2 + len(waveform)] = waveform
    views = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop_samples]
    return views[:n_frames]


def _autocorrelation(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(frames, size) to (frames, size), by lag."""
    size = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.fft.irfft(power)[:, :size]
