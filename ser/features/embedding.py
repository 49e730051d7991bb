"""A speech encoder's frames, pooled over time: small enough to keep every layer."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from ser.audio import SAMPLE_RATE_HZ, Waveform
from ser.errors import SerError
from ser.features.base import JSON, Array, Feature, Stream
from ser.features.frozen import EncoderSource, FrozenEncoder
from ser.features.speech import cut_to_speech


class Embedding(Feature):
    """Mean and standard deviation over time of every layer, float16: (layers, mean ‖ deviation)."""

    stream: ClassVar[Stream] = "embedding"
    dtype = np.float16

    def __init__(self, encoder: EncoderSource) -> None:
        """Choose the encoder.

        Args:
            encoder: where the weights are; they are loaded when the first clip is extracted.
        """
        self.encoder = encoder
        self._frozen = FrozenEncoder(encoder)

    def settings(self) -> dict[str, JSON]:
        """Class, version and the weights' identity."""
        return {"class": "Embedding", "version": 1, "encoder": dict(self.encoder.identity())}

    def shape(self) -> tuple[int, ...]:
        """(layers, 2 * width)."""
        return (self.encoder.n_layers, 2 * self.encoder.width)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (layers, 2 * width) array a clip, float16."""
        embeddings: list[Array] = [np.empty(0, np.float16)] * len(waveforms)
        with torch.inference_mode():
            for i, states in self._frozen.encode(waveforms):  # (layers, frames, width)
                deviation, mean = torch.std_mean(states.float(), dim=1, correction=0)
                embeddings[i] = torch.cat([mean, deviation], dim=1).half().cpu().numpy()
        return embeddings

    def release(self) -> None:
        """Drop the encoder's weights."""
        self._frozen.release()

    def summary(self, n_clips: int, duration_s: float) -> str:
        """What pooling saves against keeping every layer's frames."""
        layers, width = self.encoder.n_layers, self.encoder.width
        itemsize = np.dtype(self.dtype).itemsize
        pooled = n_clips * int(np.prod(self.shape())) * itemsize
        frames = int(duration_s * self.encoder.frame_rate_hz) * layers * width * itemsize
        return (
            f"{self.encoder.name}: {n_clips} pooled embeddings take {pooled:,} bytes; the frames "
            f"of all {layers} layers would take {frames:,} ({frames / max(pooled, 1):.0f} times "
            "as much)"
        )


class WholeEmbedding(Embedding):
    """The same in a stream of its own, for models that read an embedding of the speech as well.

    With a number of seconds the silence around the speech is taken from no recording: the clip is
    cut to its speech and put between so much silence. All frames are pooled, pauses and all.
    """

    stream = "embedding_whole"

    def __init__(self, encoder: EncoderSource, silence_s: float | None) -> None:
        """Choose the encoder and the silence.

        Args:
            encoder: where the weights are; they are loaded when the first clip is extracted.
            silence_s: seconds of silence before and after the speech; None for each clip's own.
        """
        super().__init__(encoder)
        if silence_s is not None and not 0 <= silence_s <= 10:
            raise SerError(
                f"model.silence_s={silence_s}: give seconds from 0 to 10, or null for the silence "
                "that each recording has."
            )
        self.silence_s = silence_s

    def settings(self) -> dict[str, JSON]:
        """As of `Embedding`, and the silence where it is given."""
        settings = super().settings()
        if self.silence_s is None:
            return settings
        return {**settings, "class": "WholeEmbedding", "silence_s": self.silence_s}

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (layers, 2 * width) array a clip, float16."""
        if self.silence_s is not None:
            silence = round(self.silence_s * SAMPLE_RATE_HZ)
            waveforms = [np.pad(cut_to_speech(waveform)[0], silence) for waveform in waveforms]
        return super().extract(waveforms, keys)
