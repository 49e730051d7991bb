"""What of a clip is speech, and front-ends that hear nothing else."""

from collections.abc import Sequence

import numpy as np

from ser.audio import SAMPLE_RATE_HZ, Waveform
from ser.features.base import JSON, Array, Feature

FRAME_S = 0.02
"""That of a frame of every encoder here."""
RANGE_DB = 35.0
"""A frame that is this far below the loudest is a pause."""
MARGIN = 3
"""Frames kept before the first and after the last frame of speech."""


class SpeechOnly(Feature):
    """Another front-end over each clip from its first to its last speech.

    Corpora differ in how much silence their clips hold around the speech; for frames and waveforms
    it is also time spent. Pauses inside the speech stay.
    """

    def __init__(self, feature: Feature) -> None:
        """Put the cut before a front-end.

        Args:
            feature: what then turns the shorter clips into its stream.
        """
        self.feature = feature
        self.sample_rate_hz = feature.sample_rate_hz
        self.stream, self.dtype = feature.stream, feature.dtype  # type: ignore[misc]

    def settings(self) -> dict[str, JSON]:
        """Class, version and the front-end's own."""
        return {"class": "SpeechOnly", "version": 2, "feature": self.feature.settings()}

    def shape(self) -> tuple[int, ...]:
        """The front-end's."""
        return self.feature.shape()

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """The front-end's arrays of the shorter clips."""
        cut = [cut_to_speech(waveform, self.sample_rate_hz)[0] for waveform in waveforms]
        return self.feature.extract(cut, keys)

    def release(self) -> None:
        """Drop what the front-end holds."""
        self.feature.release()

    def summary(self, n_clips: int, duration_s: float) -> str | None:
        """The front-end's."""
        return self.feature.summary(n_clips, duration_s)


def cut_to_speech(
    waveform: Waveform, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> tuple[Waveform, np.ndarray]:
    """The waveform from its first to its last speech, and which of its 20 ms frames are speech.

    Speech is what is at most 35 dB below the loudest frame, energies smoothed over three frames.
    """
    hop, energy = round(FRAME_S * sample_rate_hz), frame_energy(waveform, sample_rate_hz)
    level_db = np.pad(10 * np.log10(energy + 1e-12), 1, mode="edge")  # 0 dB beyond would be loud
    level_db = np.convolve(level_db, np.ones(3) / 3, mode="valid")
    speech = level_db >= level_db.max() - RANGE_DB
    (where,) = np.nonzero(speech)
    first, last = max(where[0] - MARGIN, 0), min(where[-1] + 1 + MARGIN, len(energy))
    return waveform[first * hop : last * hop], speech[first:last]


def frame_energy(waveform: Waveform, sample_rate_hz: int) -> np.ndarray:
    """Mean square of each 20 ms frame (frames,), float64; the last one is filled up with zeros."""
    hop = round(FRAME_S * sample_rate_hz)
    n_frames = -(-len(waveform) // hop)
    padded = np.zeros(n_frames * hop, dtype=np.float64)
    padded[: len(waveform)] = waveform
    return np.asarray(np.square(padded.reshape(n_frames, hop)).mean(1))
