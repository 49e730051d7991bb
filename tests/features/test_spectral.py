"""MFCC and log-mel have librosa's numbers."""

import numpy as np
import pytest

from ser.audio import centre_crop_or_pad
from ser.errors import SerError
from ser.features import LogMel, Mfcc

TOLERANCE = 1e-3
"""Of the range of librosa's values."""


def _speechlike(n_samples: int, seed: int = 0) -> np.ndarray:
    """Noise with a falling spectrum under a slow envelope, and a pause of digital silence."""
    noise = np.random.default_rng(seed).normal(size=n_samples)
    envelope = np.sin(np.linspace(0, 9, n_samples)) ** 2
    waveform = np.cumsum(noise - noise.mean()) * envelope
    waveform[n_samples // 3 : n_samples // 2] = 0
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def _assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.ptp(theirs)


@pytest.mark.parametrize(
    ("n_mfcc", "n_fft", "hop", "n_mels", "rate"),
    [(39, 2048, 512, 128, 16_000), (20, 1024, 160, 64, 16_000), (39, 2048, 512, 128, 22_050)],
)
@pytest.mark.parametrize("n_samples", [300, 47_321])
@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")  # librosa, on the clip of 300 samples
def test_mfcc_equals_librosa(
    n_mfcc: int, n_fft: int, hop: int, n_mels: int, rate: int, n_samples: int
) -> None:
    import librosa

    waveform = _speechlike(n_samples)
    feature = Mfcc(n_mfcc, n_fft, hop, n_mels, 0, rate, None)
    expected = librosa.feature.mfcc(
        y=waveform, sr=rate, n_mfcc=n_mfcc, n_fft=n_fft, hop_length=hop, n_mels=n_mels
    )
    _assert_close(feature.extract([waveform], ["a"])[0], expected.T)


def test_first_deltas_equal_librosa_away_from_the_edges() -> None:
    import librosa

    waveform = _speechlike(32_000)
    frames = Mfcc(13, 2048, 512, 128, 2, 16_000, None).extract([waveform], ["a"])[0]
    expected = librosa.feature.delta(frames[:, :13].T).T
    assert frames.shape == (63, 39)
    _assert_close(frames[4:-4, 13:26], expected[4:-4])


@pytest.mark.parametrize(("n_samples", "n_frames"), [(110_000, 215), (130_000, 254), (96_000, 188)])
def test_timnet_frames_are_the_papers(n_samples: int, n_frames: int) -> None:
    import librosa

    waveform = _speechlike(90_001)
    feature = Mfcc(39, 2048, 512, 128, 0, 22_050, n_samples)
    frames = feature.extract([waveform], ["a"])[0]
    assert frames.shape == (n_frames, 39)
    fixed = centre_crop_or_pad(waveform, n_samples)
    _assert_close(frames, librosa.feature.mfcc(y=fixed, sr=22_050, n_mfcc=39).T)


def test_log_mel_equals_librosa() -> None:
    import librosa

    waveform = _speechlike(40_000)
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16_000, n_fft=1024, hop_length=256, n_mels=64
    )
    frames = LogMel(64, 1024, 256, 16_000).extract([waveform], ["a"])[0]
    _assert_close(frames, librosa.power_to_db(power).T)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(SerError, match="deltas=3"):
        Mfcc(39, 2048, 512, 128, 3, 16_000, None)
    with pytest.raises(SerError, match="n_mfcc=200 is more than n_mels=128"):
        Mfcc(200, 2048, 512, 128, 0, 16_000, None)
