"""Pooling over speech: what is cut, which frames count, and each statistic by hand."""

import numpy as np
import pytest
import soxr
import torch

from ser.errors import SerError
from ser.features import RawWaveform, SpeechEmbedding, SpeechOnly
from ser.features.speech import cut_to_speech
from ser.features.speech_embedding import STATISTICS, _fitted, pool
from ser.models.encoder import RandomEncoder

TINY = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32")


def _noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, n_samples).astype(np.float32)


def test_silence_at_the_ends_is_cut_and_a_pause_is_marked() -> None:
    speech, silence = _noise(16_000), np.zeros(8_000, np.float32)
    waveform = np.concatenate([silence, speech, silence, speech, silence])
    cut, mask = cut_to_speech(waveform)
    assert 40_000 <= len(cut) <= 40_000 + 2 * 5 * 320  # the two ends gone, but for the margin
    assert len(mask) == len(cut) // 320
    assert mask.mean() == pytest.approx(0.77, abs=0.05)  # 2 s of speech in 2.5 s


def test_a_quiet_voice_between_faint_noise_is_cut_on_both_sides() -> None:
    faint = 1e-4 * _noise(8_000)
    waveform = np.concatenate([faint, 0.01 * _noise(16_000, seed=1), faint])
    assert 16_000 <= len(cut_to_speech(waveform)[0]) <= 16_000 + 2 * 5 * 320


@pytest.mark.parametrize("n_samples", [1, 319, 400, 2_000])
def test_short_and_constant_clips_are_kept_whole(n_samples: int) -> None:
    for waveform in (_noise(n_samples), np.zeros(n_samples, np.float32)):
        cut, mask = cut_to_speech(waveform)
        assert len(cut) == n_samples and mask.any()
        (embedding,) = SpeechEmbedding(TINY, STATISTICS, [0.9, 1]).extract([waveform], ["a"])
        assert embedding.shape == (3, 9 * 32) and np.isfinite(embedding).all()


def test_silence_around_the_speech_does_not_change_the_embedding() -> None:
    speech = _noise(16_000)
    padded = np.concatenate([np.zeros(6_400, np.float32), speech, np.zeros(6_400, np.float32)])
    more = np.concatenate([np.zeros(12_800, np.float32), padded, np.zeros(3_200, np.float32)])
    first, second = SpeechEmbedding(TINY, ["mean", "std"], [1]).extract([padded, more], ["a", "b"])
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_each_statistic_by_hand() -> None:
    states = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    values = states.numpy()
    expected = {
        "mean": values.mean(1),
        "std": values.std(1),
        "delta": (values[:, 5:] - values[:, :-5]).std(1),
        "low": np.quantile(values, 0.1, axis=1),
        "high": np.quantile(values, 0.9, axis=1),
        **{f"quarter{n + 1}": values[:, 10 * n : 10 * n + 10].mean(1) for n in range(4)},
    }
    for name in STATISTICS:
        np.testing.assert_allclose(pool(states, [name]), expected[name], atol=1e-5, err_msg=name)
    both = pool(states, ["std", "mean"])
    np.testing.assert_allclose(both, np.concatenate([values.std(1), values.mean(1)], 1), atol=1e-5)


def test_an_unknown_statistic_is_an_error() -> None:
    with pytest.raises(SerError, match="choose one or more of mean, std, delta"):
        SpeechEmbedding(TINY, ["median"], [1])


def test_speech_only_gives_another_front_end_the_cut_clip() -> None:
    waveform = np.concatenate([np.zeros(8_000), _noise(8_000), np.zeros(12_000)]).astype(np.float32)
    whole = RawWaveform()
    only = SpeechOnly(whole)
    (cut,) = only.extract([waveform], ["a"])
    assert np.array_equal(cut, cut_to_speech(waveform)[0]) and 8_000 <= len(cut) < 11_000
    assert only.stream == whole.stream and only.settings() != whole.settings()


def test_several_speeds_are_the_mean_over_clips_played_so() -> None:
    clip = _noise(24_000)
    one = SpeechEmbedding(TINY, ["mean", "std"], [1])
    several = SpeechEmbedding(TINY, ["mean", "std"], [0.8, 1, 1.25])
    played = [soxr.resample(clip, 0.8, 1), clip, soxr.resample(clip, 1.25, 1)]
    assert [len(waveform) for waveform in played] == [30_000, 24_000, 19_200]
    expected = np.mean(one.extract(played, ["a", "b", "c"]), axis=0, dtype=np.float32)
    (mean,) = several.extract([clip], ["a"])
    np.testing.assert_allclose(mean, expected, atol=2e-3)
    assert one.settings() != several.settings()


def test_a_pause_is_left_out_at_every_speed() -> None:
    mask = np.repeat([True, False, True], 20)
    assert np.array_equal(_fitted(mask, 60, 1.0), mask)
    assert _fitted(mask, 62, 1.0).tolist() == [*mask, False, False]
    slow, fast = _fitted(mask, 75, 0.8), _fitted(mask, 48, 1.25)
    assert np.array_equal(slow, np.repeat([True, False, True], 25))
    assert np.array_equal(fast, np.repeat([True, False, True], 16))


@pytest.mark.parametrize("speeds", [[], [0.2], [1, 3]])
def test_an_impossible_speed_is_an_error(speeds: list[float]) -> None:
    with pytest.raises(SerError, match=r"feature\.embedding\.speeds="):
        SpeechEmbedding(TINY, ["mean"], speeds)
