"""The fast mel spectrum equals torchaudio's plain one."""

import numpy as np
import pytest
import torch
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from ser.features.mel import MelDecibels

LENGTHS = (80_000, 1, 400, 16_000, 33_333)
"""The longest is many times what goes side by side, the others fill the last time in part."""


def _clips() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.1, length).astype(np.float32) for length in LENGTHS]


def _plain(
    waveform: np.ndarray, n_mels: int, n_fft: int, hop: int, rate: int
) -> torch.Tensor:  # (frames, n_mels)
    mel = MelSpectrogram(
        sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels,
        pad_mode="constant", norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    return AmplitudeToDB("power", 80.0)(mel(torch.from_numpy(waveform))).T


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "hop", "rate"),
    [(128, 2048, 512, 16_000), (64, 1024, 256, 16_000), (40, 400, 160, 16_000),
     (100, 2048, 441, 22_050), (300, 1024, 256, 16_000)],
)  # fmt: skip
def test_fast_equals_plain(n_mels: int, n_fft: int, hop: int, rate: int) -> None:
    clips = _clips()
    decibels, places = MelDecibels(n_mels, n_fft, hop, rate)(clips)
    for clip, place in zip(clips, places, strict=True):
        fast, plain = decibels[:, place].T, _plain(clip, n_mels, n_fft, hop, rate)
        assert fast.shape == plain.shape
        assert (fast - plain).abs().max() <= 1e-4 * (plain.max() - plain.min()).clamp(min=1.0)


def test_a_loud_neighbour_changes_nothing() -> None:
    quiet, loud = 1e-3 * _clips()[3], 100 * _clips()[3]
    mel = MelDecibels(128, 2048, 512, 16_000)
    (alone, _), (beside, places) = mel([quiet]), mel([loud, quiet, loud])
    assert torch.equal(beside[:, places[1]], alone)


def test_silence_is_the_floor() -> None:
    decibels, _ = MelDecibels(128, 2048, 512, 16_000)([np.zeros(5000, dtype=np.float32)])
    assert bool((decibels == -100.0).all())
