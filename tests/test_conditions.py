"""Conditions by name, and the babble that some of them need: who is heard in it, and when."""

import math
import re

import numpy as np
import pytest
import soundfile

from ser.augment import Augmented
from ser.babble import TALKERS, Voices
from ser.conditions import (
    FAMILIES,
    LABELS,
    Degradation,
    chosen_families,
    chosen_severities,
    conditions_of,
)
from ser.degrade import active_level_db
from ser.errors import SerError
from ser.features import RawWaveform

RATE_HZ = 16_000
SPEAKERS = {"ann": 400, "bob": 700, "cat": 1100, "dan": 1700, "eve": 2600, "fay": 4000}


def clip_of(hz: float, seconds: float, height: float = 0.1) -> np.ndarray:
    """A tone between two stretches of silence."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = height * np.sin(2 * np.pi * hz * time_s)
    still = np.zeros(RATE_HZ // 2)
    return np.concatenate([still, tone, still]).astype(np.float32)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Voices:
    """Two clips of each speaker, each speaker a pitch, some much louder than others."""
    folder = tmp_path_factory.mktemp("voices")
    paths, speakers = {}, {}
    for n, (speaker, hz) in enumerate(SPEAKERS.items()):
        for take in range(2):
            path = folder / f"{speaker}{take}.wav"
            soundfile.write(path, clip_of(hz, 0.5 + take, 0.02 * (n + 1)), RATE_HZ)
            paths[f"{speaker}/{take}"], speakers[f"{speaker}/{take}"] = path, speaker
    return Voices(paths, speakers)


def heard_in(waveform: np.ndarray) -> set[str]:
    """Whose pitch stands out of a spectrum."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    at = {s: power[round(hz * len(waveform) / RATE_HZ)] for s, hz in SPEAKERS.items()}
    return {speaker for speaker, p in at.items() if p > 0.5 * max(at.values())}


def test_babble_is_four_others_equally_loud_and_never_the_speaker_of_the_clip(voices):
    everyone = set()
    for key, speaker in voices.speakers.items():
        for seed in range(5):
            noise = voices.babble(key, RATE_HZ, RATE_HZ, np.random.default_rng(seed))
            others = heard_in(noise)
            assert speaker not in others and len(others) == TALKERS == 4
            everyone |= others
    assert everyone == set(SPEAKERS)


def test_babble_has_no_pause(voices):
    noise = voices.babble("ann/0", 3 * RATE_HZ, RATE_HZ, np.random.default_rng(0))
    frames = np.square(noise.reshape(-1, 800)).mean(1)
    assert frames.min() > 0.2 * frames.mean()


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_babble_lies_the_ratio_below_the_speech(voices, snr_db):
    speech = clip_of(300, 1.0)
    noisy = Degradation("babble", snr_db, voices)(speech, RATE_HZ, 1, "ann/0")
    added = noisy - speech
    level = 10 * np.log10(np.mean(np.square(added, dtype=float)))
    assert active_level_db(speech, RATE_HZ) - level == pytest.approx(snr_db, abs=0.05)


def test_few_speakers_take_more_than_one_part_and_one_alone_is_an_error(voices):
    def only(*names: str) -> Voices:
        paths = {key: path for key, path in voices.paths.items() if voices.speakers[key] in names}
        return Voices(paths, voices.speakers)

    pair = only("ann", "bob")
    assert pair.talkers("ann/0", np.random.default_rng(0)) == ["bob"] * 4
    three = only("ann", "bob", "cat").talkers("ann/0", np.random.default_rng(0))
    assert sorted(three) == ["bob", "bob", "cat", "cat"]
    with pytest.raises(SerError, match="ann is the only one here"):
        Degradation("babble", 10, only("ann"))(clip_of(300, 1), RATE_HZ, 0, "ann/0")
    with pytest.raises(SerError, match="its speaker is not known"):
        voices.talkers("stranger", np.random.default_rng(0))


def test_babble_depends_on_the_pool_and_not_on_its_order(voices):
    turned = Voices(dict(reversed(voices.paths.items())), dict(reversed(voices.speakers.items())))
    speech = clip_of(300, 1.0)
    condition = Degradation("babble", 5, voices)
    same = Degradation("babble", 5, turned)
    np.testing.assert_array_equal(
        condition(speech, RATE_HZ, 3, "ann/0"), same(speech, RATE_HZ, 3, "ann/0")
    )
    assert condition.settings() == same.settings()
    fewer = Voices({k: p for k, p in voices.paths.items() if k != "bob/0"}, voices.speakers)
    assert Degradation("babble", 5, fewer).settings() != condition.settings()
    assert Degradation("white", 5, fewer).settings() == Degradation("white", 5).settings()


SEVERITY = {"babble": 5, "white": 5, "pink": 5, "reverb": 0.5, "telephone": 1, "mp3": 32,
            "clipping": 0.2, "level": -30, "speed": 1.1}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_each_clip_hears_the_same_whatever_its_neighbours_and_order(family, voices):
    feature = Augmented(RawWaveform(), Degradation(family, SEVERITY[family], voices), 0)
    clips = {key: clip_of(250 + 40 * n, 0.6) for n, key in enumerate(voices.paths)}
    keys = list(clips)[:4]
    forwards = feature.extract([clips[key] for key in keys], keys)
    backwards = feature.extract([clips[key] for key in keys[::-1]], keys[::-1])[::-1]
    (alone,) = feature.extract([clips[keys[2]]], keys[2:3])
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    np.testing.assert_array_equal(alone, forwards[2])
    assert not np.array_equal(forwards[2][: len(clips[keys[2]])], clips[keys[2]])
    assert LABELS[family].startswith(family)


def test_noise_of_a_clip_is_the_same_at_every_ratio_and_differs_between_clips():
    speech = clip_of(300, 1.0)

    def added(snr_db: float, key: str) -> np.ndarray:
        (noisy,) = Augmented(RawWaveform(), Degradation("white", snr_db), 0).extract(
            [speech], [key]
        )
        return noisy - speech

    np.testing.assert_allclose(added(0, "a"), added(20, "a") * 10, atol=1e-5)
    assert abs(np.corrcoef(added(0, "a"), added(0, "b"))[0, 1]) < 0.05


def test_a_silent_clip_is_named():
    silent = np.zeros(RATE_HZ, np.float32)
    with pytest.raises(SerError, match=r"white on the clip of content abcdef: The clip is silent"):
        Degradation("white", 10)(silent, RATE_HZ, 0, "abcdef")


def test_conditions_are_chosen_by_family_group_or_all(voices):
    severities = {"white": [20, 0], "pink": [10], "babble": [5], "mp3": [32], "telephone": [1]}
    known = list(severities)
    assert chosen_families("all", known) == known
    assert chosen_families("noise", known) == ["white", "pink", "babble"]
    assert chosen_families(["mp3", "noise"], known) == ["white", "pink", "babble", "mp3"]
    labels = [condition.label for condition in conditions_of("all", severities, voices)]
    assert labels == [
        "white 20 dB SNR", "white 0 dB SNR", "pink 10 dB SNR", "babble 5 dB SNR", "mp3 32 kbit/s",
        "telephone",
    ]  # fmt: skip


def test_words_and_severities_that_mean_nothing_are_refused(voices):
    with pytest.raises(SerError, match="robustness=wind is no condition: choose all, noise"):
        chosen_families(["white", "wind"], ["white"])
    with pytest.raises(SerError, match="severities names wind"):
        conditions_of("all", {"wind": [1]}, voices)
    with pytest.raises(SerError, match=r"severities.mp3 is empty"):
        conditions_of("mp3", {"mp3": []}, voices)
    with pytest.raises(SerError, match="nothing to score"):
        conditions_of("mp3", {"white": [1]}, voices)
    for family, given in {
        "reverb": [0], "speed": [-1], "clipping": [2], "mp3": [500], "telephone": [2], "white": 5,
        "pink": ["a"], "level": [-30, -30], "babble": [math.nan],
    }.items():  # fmt: skip
        told = f"severities.{family}={given}: it must be a list of "
        with pytest.raises(SerError, match=re.escape(told)):
            chosen_severities(family, {family: given})
    with pytest.raises(SerError, match="give Degradation the `voices`"):
        Degradation("babble", 5).settings()
