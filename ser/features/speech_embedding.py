"""A speech encoder's frames pooled over the speech of a clip, by more than mean and deviation."""

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor

from ser.audio import Waveform
from ser.errors import SerError
from ser.features.base import JSON, Array
from ser.features.embedding import Embedding
from ser.features.frozen import EncoderSource
from ser.features.speech import cut_to_speech

STATISTICS = ("mean", "std", "delta", "low", "high", "quarter1", "quarter2", "quarter3", "quarter4")
"""delta: deviation of the change over 100 ms; low, high: first and last decile; quarter<n>: mean
of the n-th quarter of the speech."""

_LAG = 5
"""Frames between the two that delta compares: 100 ms."""


class SpeechEmbedding(Embedding):
    """Statistics over the frames of speech alone, float16: (layers, statistics * width).

    Silence before and after the speech is cut off before encoding, and pauses inside it are left
    out of the pooling. Corpora differ in how much silence their clips hold, and a mean over it
    tells the corpus and not the emotion: docs/log.md has the figures. With several speeds a clip is
    played at each, pitch and all, and the mean over them is the embedding.
    """

    def __init__(
        self, encoder: EncoderSource, statistics: Sequence[str], speeds: Sequence[float]
    ) -> None:
        """Choose the encoder and the statistics.

        Args:
            encoder: where the weights are; they are loaded when the first clip is extracted.
            statistics: names out of `STATISTICS`, in the order of the output.
            speeds: at which a clip is encoded, each a pass of the encoder; 1 is as recorded.
        """
        super().__init__(encoder)
        unknown = [name for name in statistics if name not in STATISTICS]
        if unknown or not statistics:
            raise SerError(
                f"feature.embedding.statistics={list(statistics)}: choose one or more of "
                f"{', '.join(STATISTICS)}."
            )
        if not speeds or not all(0.5 <= speed <= 2 for speed in speeds):
            raise SerError(
                f"feature.embedding.speeds={list(speeds)}: give one or more from 0.5 to 2; "
                "[1] is each clip as it was recorded."
            )
        self.statistics, self.speeds = tuple(statistics), tuple(map(float, speeds))

    def settings(self) -> dict[str, JSON]:
        """Class, version, statistics, speeds and the weights' identity."""
        settings: dict[str, JSON] = {
            "class": "SpeechEmbedding",
            "version": 2,
            "statistics": list(self.statistics),
            "encoder": dict(self.encoder.identity()),
        }
        if self.speeds != (1.0,):
            settings["speeds"] = list(self.speeds)
        return settings

    def shape(self) -> tuple[int, ...]:
        """(layers, statistics * width)."""
        return (self.encoder.n_layers, len(self.statistics) * self.encoder.width)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (layers, statistics * width) array a clip, float16."""
        cut = [cut_to_speech(waveform) for waveform in waveforms]
        total = [torch.zeros(self.shape())] * len(cut)
        with torch.inference_mode():
            for speed in self.speeds:
                played = [_played(waveform, speed) for waveform, _ in cut]
                for i, states in self._frozen.encode(played):
                    speech = torch.from_numpy(_fitted(cut[i][1], states.shape[1], speed))
                    total[i] = total[i] + pool(states.float().cpu()[:, speech], self.statistics)
        return [(pooled / len(self.speeds)).half().numpy() for pooled in total]


def _played(waveform: Waveform, speed: float) -> Waveform:
    """The waveform at another speed, its pitch changed as much."""
    return waveform if speed == 1 else soxr.resample(waveform, speed, 1.0)


def _fitted(speech: np.ndarray, n_frames: int, speed: float) -> np.ndarray:
    """The mask at the encoder's frames of the played clip, a few more or less; never empty."""
    frame = (np.arange(n_frames) * speed).astype(int)
    fitted = np.append(speech, False)[np.minimum(frame, len(speech))]
    return fitted if fitted.any() else np.ones(n_frames, dtype=bool)


def pool(states: Tensor, statistics: Sequence[str]) -> Tensor:
    """Statistics over time: (layers, frames, width) -> (layers, statistics * width)."""
    frames = states.shape[1]
    lag = min(_LAG, frames - 1)
    edges = [round(frames * quarter / 4) for quarter in range(5)]

    def quarter(n: int) -> Tensor:
        first = min(edges[n - 1], frames - 1)
        return states[:, first : max(edges[n], first + 1)].mean(1)

    def one(name: str) -> Tensor:
        if name == "mean":
            return states.mean(1)
        if name == "std":
            return states.std(1, correction=0)
        if name == "delta":
            return (states[:, lag:] - states[:, : frames - lag]).std(1, correction=0)
        if name in ("low", "high"):
            return states.quantile(0.1 if name == "low" else 0.9, dim=1)
        return quarter(int(name[-1]))

    return torch.cat([one(name) for name in statistics], dim=1)
