"""Pitch, voicing and level of signals that are known, and librosa's YIN."""

import tracemalloc

import librosa
import numpy as np
import pytest

from ser.features import Mfcc, MfccProsody
from ser.features.prosody import REFERENCE_HZ, level_db, pitch_of

RATE_HZ, HOP = 16_000, 512
ANALYSIS = (39, 2048, HOP, 128, 0, RATE_HZ, None)


def voice_of(pitch_hz: np.ndarray | float) -> np.ndarray:
    """A second of twelve harmonics, each weaker than the one below."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch_hz, RATE_HZ)) / RATE_HZ
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, 13))).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [80.0, 120.0, 175.0, 310.0, 500.0])
def test_a_steady_voice_has_its_pitch(pitch_hz):
    octaves, voicing = pitch_of(voice_of(pitch_hz), 32, HOP, RATE_HZ)
    np.testing.assert_allclose(octaves[2:-2], np.log2(pitch_hz / REFERENCE_HZ), atol=0.02)
    assert voicing[2:-2].min() > 0.95


def test_a_glide_agrees_with_yin():
    glide = voice_of(np.linspace(120, 300, RATE_HZ))
    octaves, _ = pitch_of(glide, 32, HOP, RATE_HZ)
    yin = librosa.yin(glide, fmin=75, fmax=550, sr=RATE_HZ, frame_length=1024, hop_length=HOP)
    found = REFERENCE_HZ * 2 ** octaves[2:-2]
    assert np.abs(found / yin[2:30] - 1).max() < 0.03


def test_noise_and_silence_are_unvoiced():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    assert np.median(pitch_of(noise, 32, HOP, RATE_HZ)[1]) < 0.4
    assert pitch_of(np.zeros(RATE_HZ, np.float32), 32, HOP, RATE_HZ)[1].max() == 0


def test_a_long_clip_is_analysed_in_little_memory():
    glide = voice_of(np.linspace(120, 300, RATE_HZ))
    waveform = np.tile(glide, 240)  # it repeats every 125 frames: those of four seconds
    tracemalloc.start()
    pitch_and_voicing = np.stack(pitch_of(waveform, 7500, HOP, RATE_HZ))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * waveform.nbytes
    np.testing.assert_array_equal(pitch_and_voicing[:, 127:-2], pitch_and_voicing[:, 2:-127])


def test_level_is_decibels_of_full_scale():
    tone = (0.1 * np.sqrt(2) * np.sin(np.arange(RATE_HZ) * 2 * np.pi * 440 / RATE_HZ)).astype("f4")
    np.testing.assert_allclose(level_db(tone, 32, HOP, RATE_HZ)[2:-2], -20, atol=0.1)
    assert level_db(np.zeros(100, np.float32), 1, HOP, RATE_HZ) == pytest.approx([-90])


def test_the_cepstra_stay_and_three_columns_follow():
    clips = [voice_of(200.0), voice_of(100.0)[:3000], np.zeros(1, np.float32)]
    cepstra = Mfcc(*ANALYSIS).extract(clips, ["", "", ""])
    feature = MfccProsody(Mfcc(*ANALYSIS), 35.0)
    for found, expected in zip(feature.extract(clips, ["", "", ""]), cepstra, strict=True):
        assert found.dtype == np.float32 and found.shape == (len(expected), *feature.shape())
        np.testing.assert_array_equal(found[:, :39], expected)
    pitch, voicing, level = feature.extract(clips[:1], [""])[0][16, 39:]
    assert pitch == pytest.approx(35 * np.log2(200 / REFERENCE_HZ), abs=1)
    assert voicing == pytest.approx(35, abs=1)
    expected_db = 10 * np.log10(np.square(clips[0], dtype=float).mean())
    assert level == pytest.approx(35 / 20 * expected_db, abs=1)


def test_a_fixed_length_holds_for_every_column():
    feature = MfccProsody(Mfcc(*ANALYSIS[:-1], 8000), 35.0)
    assert [len(a) for a in feature.extract([voice_of(99.0), np.zeros(1, "f4")], ["", ""])] == [
        16,
        16,
    ]
