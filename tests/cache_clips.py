"""Clips to cache, and a feature that tells what it was asked for."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ser.audio import Waveform
from ser.cache import Clip
from ser.features.base import JSON, Array, Feature

N_CLIPS = 12


class Doubled(Feature):
    """Twice the samples, one value a frame; leaves a line in a file for every clip extracted."""

    stream = "frames"

    def __init__(self, log: Path, delay_s: float = 0.0, gain: float = 2.0) -> None:
        self.log, self.delay_s, self.gain = log, delay_s, gain

    def settings(self) -> dict[str, JSON]:
        return {"class": "Doubled", "version": 1, "gain": self.gain}

    def shape(self) -> tuple[int, ...]:
        return (1,)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        for key in keys:
            time.sleep(self.delay_s)
            with self.log.open("a") as file:
                file.write(f"{key}\n")
        return [self.gain * waveform[:, None] for waveform in waveforms]

    @property
    def extracted(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


def samples(i: int) -> np.ndarray:
    return np.random.default_rng(i).uniform(-0.4, 0.4, 400 + 13 * i).astype(np.float32)


def write_clips(folder: Path) -> list[Clip]:
    """Noise of rising length."""
    made = []
    for i in range(N_CLIPS):
        path = folder / f"clip{i}.wav"
        soundfile.write(path, samples(i), 16_000, subtype="FLOAT")
        digest = hashlib.sha256(samples(i).tobytes()).hexdigest()
        made.append(Clip(path, digest, len(samples(i)) / 16_000))
    return made
