"""What every front-end is: mono waveforms in, one array a clip out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ser.audio import SAMPLE_RATE_HZ, Waveform

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
"""What a setting may be, so that settings can be hashed and written."""

Stream = Literal["frames", "embedding", "embedding_whole", "waveform"]
Array = npt.NDArray[np.floating]


class Feature(ABC):
    """Turns waveforms into one stream; the numbers depend on `settings()` and the samples only.

    A stream is "frames" (frames, n_features), "embedding" and "embedding_whole"
    (layers, statistics * width), or "waveform" (samples,).
    """

    stream: ClassVar[Stream]
    dtype: ClassVar[type[np.floating]] = np.float32
    sample_rate_hz: int = SAMPLE_RATE_HZ

    @abstractmethod
    def settings(self) -> dict[str, JSON]:
        """Everything that determines the numbers: class, version, parameters.

        The cache's folder is named after it; raise the version when the code's numbers change.
        """

    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """A clip's shape without its time axis.

        frames: (n_features,); embedding: (layers, statistics * width); waveform: ().
        """

    @abstractmethod
    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """Compute the feature of some clips; may be called from several threads at once.

        Args:
            waveforms: mono, (samples,), at `sample_rate_hz`; at least one sample each.
            keys: the clips' content hashes, for a feature that is seeded by clip.

        Returns:
            One array of `dtype` a clip, in the same order; the same whatever its neighbours.
        """

    def release(self) -> None:  # noqa: B027 - most features hold nothing
        """Drop what extraction loaded and can load again; the cache calls it when it is done."""

    def summary(self, n_clips: int, duration_s: float) -> str | None:
        """A line worth telling about storing these clips; None when there is nothing to tell."""
        return None
