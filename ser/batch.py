"""The one shape in which clips travel from the loader to a model."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Clips padded to the longest; each padded stream travels with its lengths.

    A stream that the front-end does not give is None.
    """

    index: Tensor  # type: ignore[assignment]  # (batch,) the clip's row in the run's table
    target: Tensor  # (batch,) class index
    frames: Tensor | None = None  # (batch, frames, features)
    frames_length: Tensor | None = None  # (batch,)
    embedding: Tensor | None = None  # (batch, layers, statistics * width), in the feature's order
    embedding_whole: Tensor | None = None  # the same of all frames, beside one of the speech
    waveform: Tensor | None = None  # (batch, samples) at 16 kHz
    waveform_length: Tensor | None = None  # (batch,)
    speaker: Tensor | None = None  # (batch,) a number for each speaker
    corpus: Tensor | None = None  # (batch,) a number for each corpus
