"""Augmentation: what is masked and with what, mixup's arithmetic, decibels of the waveform."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.functional import speed

from ser.augment import (
    Augmented,
    BatchAugment,
    RobustAugment,
    SpecAugment,
    WaveformAugment,
    mixup,
)
from ser.babble import Voices
from ser.batch import Batch
from ser.errors import SerError
from ser.features import RawWaveform
from ser.voice import VoiceChange

RATE_HZ = 16_000
OFF = {"speed": (1, 1), "gain_db": (0, 0), "snr_db": (200, 200), "low_pass_hz": (7999, 7999)}


def noise(n: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, n).astype(np.float32)


def tone_of(hz: float) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=float))))


def augment_of(probability: float = 1, **ranges: tuple[float, float]) -> WaveformAugment:
    return WaveformAugment(probability=probability, **(OFF | ranges))


def voice_of() -> VoiceChange:
    return VoiceChange(n_mfcc=6, n_mels=32, sample_rate_hz=RATE_HZ, warp=0.15, tempo=0.2)


def masks(**changes: float) -> SpecAugment:
    none = {"time_masks": 0, "time_fraction": 0.0, "feature_masks": 0, "feature_width": 0}
    return SpecAugment(**(none | changes))


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight clips of 20 to 40 frames of 10 features, all values distinct, padded with zeros."""
    values = torch.randn(8, 40, 10, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([20, 25, 30, 35, 40, 40, 21, 22])
    valid = torch.arange(40) < lengths[:, None]
    return values * valid[..., None], lengths


def clip_means(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    pairs = zip(frames, lengths, strict=True)
    return torch.stack([clip[:n].mean(0) for clip, n in pairs])[:, None]


def runs_of(hidden: torch.Tensor) -> int:
    """How many separate spans of True a row has."""
    return int((torch.diff(hidden.int(), prepend=torch.zeros(1, dtype=torch.int32)) == 1).sum())


def test_time_masks_hide_whole_valid_frames_with_the_clips_mean(frames):
    values, lengths = frames
    widest, last_hidden, hidden_somewhere = 0, False, 0
    torch.manual_seed(0)
    for _ in range(60):
        out = masks(time_masks=1, time_fraction=0.2)(values, lengths)
        changed = out != values
        assert torch.equal(changed.any(-1), changed.all(-1))  # whole frames
        hidden = changed.any(-1)
        mean = clip_means(values, lengths).expand_as(values)
        torch.testing.assert_close(out[changed], mean[changed])
        for row, n in zip(hidden, lengths.tolist(), strict=True):
            assert not row[n:].any() and runs_of(row) <= 1
            assert row.sum() <= 0.2 * n
            widest = max(widest, int(row.sum()))
            last_hidden |= bool(row[n - 1])
            hidden_somewhere += bool(row.any())
    assert widest == 8 and last_hidden and 300 < hidden_somewhere < 480


def test_feature_masks_hide_whole_features_up_to_the_width(frames):
    values, lengths = frames
    counts, columns = set(), set()
    torch.manual_seed(0)
    for _ in range(60):
        out = masks(feature_masks=1, feature_width=3)(values, lengths)
        for clip, before, n in zip(out, values, lengths.tolist(), strict=True):
            assert torch.equal(clip[n:], before[n:])
            changed = (clip != before)[:n]
            assert torch.equal(changed.any(0), changed.all(0)) and runs_of(changed[0]) <= 1
            counts.add(int(changed[0].sum()))
            columns |= set(changed[0].nonzero().flatten().tolist())
    assert counts == {0, 1, 2, 3} and columns == set(range(10))


def test_several_masks_and_none(frames):
    values, lengths = frames
    assert torch.equal(masks()(values, lengths), values)
    torch.manual_seed(1)
    many = masks(time_masks=3, time_fraction=0.1)
    spans = [runs_of(row) for _ in range(20) for row in (many(values, lengths) != values).any(-1)]
    assert max(spans) == 3
    everything = masks(feature_masks=30, feature_width=10)(values, lengths)
    torch.testing.assert_close(everything[0, :20], clip_means(values, lengths)[0].expand(20, 10))


def test_mixup_is_a_weighted_mean_where_both_are_heard():
    batch = Batch(
        index=torch.tensor([7, 8]),
        target=torch.tensor([0, 1]),
        frames=torch.tensor([[[1.0], [2.0], [0.0]], [[5.0], [0.0], [0.0]]]),
        frames_length=torch.tensor([2, 1]),
        waveform=torch.tensor([[8.0, 0.0], [4.0, 4.0]]),
        waveform_length=torch.tensor([1, 2]),
        embedding=torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]),
    )
    mixed = mixup(batch, torch.tensor([1, 0]), 0.75)
    assert mixed.frames.tolist() == [[[2.0], [2.0], [0.0]], [[4.0], [0.0], [0.0]]]
    assert mixed.frames_length.tolist() == [2, 1]  # each clip keeps its own
    assert mixed.waveform.tolist() == [[7.0, 0.0], [5.0, 4.0]]
    assert mixed.waveform_length.tolist() == [1, 2]
    assert mixed.embedding.tolist() == [[[0.75, 0.25]], [[0.25, 0.75]]]
    assert mixed.target.tolist() == [0, 1] and mixed.index.tolist() == [7, 8]


def test_batch_augment_does_what_it_is_given(frames):
    values, lengths = frames
    target = torch.arange(8)
    batch = Batch(index=target, target=target, frames=values, frames_length=lengths)
    same, partner, share = BatchAugment(
        voice=None, specaugment=None, margins=False, mixup_alpha=0.0
    )(batch)
    assert same is batch and partner is None and share == 1

    torch.manual_seed(0)
    masked, partner, _ = BatchAugment(
        voice=None,
        specaugment=masks(feature_masks=2, feature_width=9),
        margins=False,
        mixup_alpha=0.0,
    )(batch)
    assert partner is None and not torch.equal(masked.frames, values)

    mixed, partner, share = BatchAugment(
        voice=None, specaugment=None, margins=False, mixup_alpha=5.0
    )(batch)
    assert sorted(partner.tolist()) == list(range(8)) and 0 < share < 1
    faster, _, _ = BatchAugment(voice=voice_of(), specaugment=None, margins=False, mixup_alpha=0.0)(
        batch
    )
    assert faster.frames_length.tolist() != lengths.tolist()
    assert faster.frames.shape[1] == faster.frames_length.max()

    both = torch.arange(40) < torch.minimum(lengths, lengths[partner])[:, None]  # (batch, frames)
    blend = share * values + (1 - share) * values[partner]
    torch.testing.assert_close(mixed.frames, torch.where(both[..., None], blend, values))


def test_batch_augment_leaves_a_batch_without_frames_alone():
    target = torch.tensor([0, 1])
    batch = Batch(index=target, target=target, embedding=torch.ones(2, 1, 4))
    augment = BatchAugment(
        voice=voice_of(),
        specaugment=masks(feature_masks=2, feature_width=9),
        margins=False,
        mixup_alpha=0.0,
    )
    out, _, _ = augment(batch)
    assert out is batch


def test_the_same_seed_gives_the_same_waveform():
    augment = augment_of(
        0.8, speed=(0.9, 1.1), gain_db=(-10, 6), snr_db=(10, 30), low_pass_hz=(3400, 7500)
    )
    waveform = noise()
    copies = [augment(waveform, RATE_HZ, seed) for seed in (3, 3, 4)]
    assert all(copy.dtype == np.float32 and copy.ndim == 1 for copy in copies)
    np.testing.assert_array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])
    np.testing.assert_array_equal(waveform, noise())  # not changed in place


@pytest.mark.parametrize("gain_db", [-10.0, 6.0])
def test_gain_is_in_decibels(gain_db):
    waveform = tone_of(500)
    louder = augment_of(gain_db=(gain_db, gain_db))(waveform, RATE_HZ, 0)
    assert level_db(louder) - level_db(waveform) == pytest.approx(gain_db, abs=0.5)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_is_added_at_the_ratio_asked_for(snr_db):
    augment = augment_of(snr_db=(snr_db, snr_db))
    waveform = tone_of(500)
    clean = augment_of()(waveform, RATE_HZ, 0)
    added = augment(waveform, RATE_HZ, 0) - clean
    assert level_db(clean) - level_db(added) == pytest.approx(snr_db, abs=0.5)


def test_low_pass_keeps_what_is_below_and_drops_what_is_above():
    augment = augment_of(low_pass_hz=(1000, 1000))
    below, above = tone_of(200), tone_of(4000)
    assert level_db(augment(below, RATE_HZ, 0)) == pytest.approx(level_db(below), abs=0.5)
    assert level_db(augment(above, RATE_HZ, 0)) < level_db(above) - 20


def test_speed_is_drawn_in_steps_of_five_percent():
    waveform = noise()
    faster = augment_of(speed=(1.093, 1.093))(waveform, RATE_HZ, 0)
    assert len(faster) == len(speed(torch.from_numpy(waveform), RATE_HZ, 1.1)[0])
    assert len(faster) == pytest.approx(RATE_HZ / 1.1, abs=1)
    assert len(augment_of(speed=(1.01, 1.01))(waveform, RATE_HZ, 0)) == RATE_HZ


def test_probability_zero_leaves_the_waveform_as_it_is():
    augment = augment_of(0, speed=(0.9, 0.9), gain_db=(-6, -6), snr_db=(0, 0))
    np.testing.assert_array_equal(augment(noise(), RATE_HZ, 0), noise())


def test_copies_differ_in_settings_and_samples_and_follow_the_content():
    def copy_of(number: int) -> Augmented:
        return Augmented(RawWaveform(), augment_of(snr_db=(10, 10)), number)

    first, second = copy_of(0), copy_of(1)
    plain = RawWaveform()
    assert (first.stream, first.shape(), first.sample_rate_hz) == ("waveform", (), 16_000)
    assert first.settings() != second.settings() and first.settings() == copy_of(0).settings()
    assert plain.settings().items() < first.settings().items()
    other = Augmented(RawWaveform(), augment_of(snr_db=(20, 20)), 0)
    assert other.settings() != first.settings()

    clip, twin = first.extract([noise(), noise()], ["a", "b"])
    (again,) = copy_of(0).extract([noise()], ["b"])
    assert not np.array_equal(clip, twin)
    np.testing.assert_array_equal(again, twin)
    assert not np.array_equal(second.extract([noise()], ["a"])[0], clip)


def test_release_reaches_the_feature():
    class Heavy(RawWaveform):
        released = False

        def release(self) -> None:
            self.released = True

    heavy = Heavy()
    Augmented(heavy, augment_of(), 0).release()
    assert heavy.released


STEPS = [
    {"families": ["white", "pink"], "chance": 0.5, "severity": [0, 20]},
    {"families": ["speed"], "chance": 0.5, "severity": [0.9, 1.1]},
]


def test_a_random_chain_takes_each_step_as_often_as_asked_and_repeats_itself():
    speech = np.sin(np.arange(8000) / 5).astype(np.float32)
    augment = RobustAugment(steps=STEPS)
    copies = [augment(speech, 16_000, seed, "k") for seed in range(200)]
    untouched = sum(len(c) == 8000 and np.array_equal(c, speech) for c in copies)
    lengths = {round(8000 / len(c), 2) for c in copies}
    assert 30 < untouched < 80  # a quarter, and the speeds that are drawn as 1
    assert lengths == {0.9, 0.95, 1.0, 1.05, 1.1}
    np.testing.assert_array_equal(copies[7], augment(speech, 16_000, 7, "k"))
    louder = [np.square(c).mean() for c in copies if len(c) == 8000]
    assert max(louder) < 1.1 and max(louder) > 0.7  # 0 dB SNR at worst: twice the power of 0.5


def test_a_step_that_cannot_be_is_refused():
    for change in ({"families": ["wind"]}, {"chance": 2}, {"severity": [1]}):
        with pytest.raises(SerError, match="is no step"):
            RobustAugment(steps=[STEPS[0] | change])


def test_settings_of_a_chain_tell_its_pool_only_where_it_babbles():
    voices = Voices({"a": Path("a.wav")}, {"a": "ann"})
    quiet = RobustAugment(steps=STEPS)
    assert quiet.with_voices(voices).settings() == quiet.settings()
    babbling = RobustAugment(steps=[STEPS[0] | {"families": ["babble"]}])
    assert babbling.with_voices(voices).settings() != babbling.settings()
    feature = Augmented(RawWaveform(), quiet, 0)
    assert feature.settings()["augment"]["steps"][1] == [["speed"], 0.5, [0.9, 1.1]]
