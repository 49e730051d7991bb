"""The samples themselves, for encoders that are fine-tuned."""

from collections.abc import Sequence

from ser.audio import SAMPLE_RATE_HZ, Waveform
from ser.features.base import JSON, Array, Feature


class RawWaveform(Feature):
    """Mono samples at 16 kHz, float32; level and normalisation are the encoder's."""

    stream = "waveform"

    def settings(self) -> dict[str, JSON]:
        """Class, version and rate."""
        return {"class": "RawWaveform", "version": 1, "sample_rate_hz": SAMPLE_RATE_HZ}

    def shape(self) -> tuple[int, ...]:
        """(): a clip is (samples,)."""
        return ()

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        """The waveforms as they are."""
        return list(waveforms)
