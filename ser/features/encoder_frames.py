"""One layer of a speech encoder, frame by frame."""

from collections.abc import Sequence

import numpy as np
import torch

from ser.audio import Waveform
from ser.errors import SerError
from ser.features.base import JSON, Array, Feature
from ser.features.frozen import EncoderSource, FrozenEncoder


class EncoderFrames(Feature):
    """A layer's frames, (frames, width) float16, 50 a second: for a network over time."""

    stream = "frames"
    dtype = np.float16

    def __init__(self, encoder: EncoderSource, layer: int) -> None:
        """Choose encoder and layer.

        Args:
            encoder: where the weights are; they are loaded when the first clip is extracted.
            layer: 0 is the transformer's input, -1 its last layer.
        """
        self.encoder, self._layer = encoder, layer
        self._frozen = FrozenEncoder(encoder)

    @property
    def layer(self) -> int:
        """The layer counted from the input; SerError when the encoder has no such layer."""
        n_layers = self.encoder.n_layers
        if not -n_layers <= self._layer < n_layers:
            raise SerError(
                f"feature encoder_frames: layer={self._layer}, but {self.encoder.name} has layers "
                f"0 to {n_layers - 1}."
            )
        return self._layer % n_layers

    def settings(self) -> dict[str, JSON]:
        """Class, version, layer and the weights' identity."""
        return {
            "class": "EncoderFrames",
            "version": 1,
            "layer": self.layer,
            "encoder": dict(self.encoder.identity()),
        }

    def shape(self) -> tuple[int, ...]:
        """(width,)."""
        return (self.encoder.width,)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """One (frames, width) array a clip, float16."""
        frames: list[Array] = [np.empty(0, np.float16)] * len(waveforms)
        with torch.inference_mode():
            for i, states in self._frozen.encode(waveforms):  # (layers, frames, width)
                frames[i] = states[self.layer].half().cpu().numpy()
        return frames

    def release(self) -> None:
        """Drop the encoder's weights."""
        self._frozen.release()
