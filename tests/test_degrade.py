"""Degradations, measured on what comes out: ratios, bands, decay, levels, lengths."""

import numpy as np
import pytest

from ser.degrade import (
    active_level_db,
    add_noise,
    change_level,
    change_speed,
    clip_peaks,
    mp3,
    pink_noise,
    reverberate,
    room_response,
    telephone,
    white_noise,
)
from ser.errors import SerError

RATE_HZ = 16_000


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone_of(hz: float, seconds: float = 1.0, height: float = 0.1) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (height * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def spoken(seconds: float = 1.0, silence_s: float = 1.0) -> np.ndarray:
    """A sound with harmonics between two stretches of silence."""
    still = np.zeros(int(silence_s * RATE_HZ), np.float32)
    voice = sum(tone_of(hz, seconds, 0.2 / n) for n, hz in enumerate((150, 450, 1200, 2900), 1))
    return np.concatenate([still, np.asarray(voice), still])


def level_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=float))))


def band_db(waveform: np.ndarray, low_hz: float, high_hz: float, rate_hz: int = RATE_HZ) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    hertz = np.fft.rfftfreq(len(waveform), 1 / rate_hz)
    return float(10 * np.log10(power[(hertz >= low_hz) & (hertz < high_hz)].sum() + 1e-20))


def lag_of(later: np.ndarray, earlier: np.ndarray) -> int:
    return int(np.correlate(later, earlier, "full").argmax()) - len(earlier) + 1


def test_the_level_of_speech_leaves_its_pauses_out():
    alone = tone_of(500)  # a sine of height 0.1 has a level of -23.01 dB
    padded = np.concatenate([np.zeros(2 * RATE_HZ, np.float32), alone])
    assert active_level_db(alone, RATE_HZ) == pytest.approx(-23.01, abs=0.01)
    assert active_level_db(padded, RATE_HZ) == pytest.approx(-23.01, abs=0.01)
    assert level_db(padded) == pytest.approx(-23.01 - 4.77, abs=0.01)


def test_frames_30_db_below_the_loudest_are_pauses():
    heard = np.concatenate([tone_of(500), tone_of(500, height=0.1 * 10 ** (-28 / 20))])
    unheard = np.concatenate([tone_of(500), tone_of(500, height=0.1 * 10 ** (-32 / 20))])
    assert active_level_db(heard, RATE_HZ) == pytest.approx(-23.01 - 3.0, abs=0.05)
    assert active_level_db(unheard, RATE_HZ) == pytest.approx(-23.01, abs=0.01)


@pytest.mark.parametrize("make", [white_noise, pink_noise])
@pytest.mark.parametrize("snr_db", [20.0, 10.0, 5.0, 0.0])
def test_noise_lies_the_ratio_below_the_speech_and_not_below_the_clip(make, snr_db):
    speech = spoken()
    noisy = add_noise(speech, make(len(speech), RATE_HZ, draw()), snr_db, RATE_HZ)
    voice = speech[RATE_HZ : 2 * RATE_HZ]
    added = noisy - speech
    assert level_db(voice) - level_db(added) == pytest.approx(snr_db, abs=0.05)
    assert noisy.dtype == np.float32 and len(noisy) == len(speech)
    np.testing.assert_array_equal(speech, spoken())  # not changed in place


def test_silence_has_no_ratio():
    silent = np.zeros(RATE_HZ, np.float32)
    with pytest.raises(SerError, match="silent"):
        add_noise(silent, white_noise(RATE_HZ, RATE_HZ, draw()), 10, RATE_HZ)
    with pytest.raises(SerError, match="silent"):
        telephone(silent, RATE_HZ)
    with pytest.raises(SerError, match="A noise of 16000 samples is silent"):
        add_noise(tone_of(500), silent, 10, RATE_HZ)


@pytest.mark.parametrize("n_samples", [2, 50, 400])
def test_the_shortest_clips_keep_their_length(n_samples):
    click = tone_of(1000)[3 : 3 + n_samples]
    changed = [
        telephone(click, RATE_HZ), mp3(click, RATE_HZ, 16), clip_peaks(click, 0.2),
        reverberate(click, RATE_HZ, 0.5, draw()), change_level(click, -30),
        add_noise(click, pink_noise(n_samples, RATE_HZ, draw()), 5, RATE_HZ),
    ]  # fmt: skip
    assert all(len(c) == n_samples and np.isfinite(c).all() for c in changed)


def test_white_is_flat_by_hertz_and_pink_by_octave():
    n = 20 * RATE_HZ
    white, pink = white_noise(n, RATE_HZ, draw()), pink_noise(n, RATE_HZ, draw())
    octaves = [(125 * 2**k, 250 * 2**k) for k in range(6)]
    rises = np.diff([band_db(white, *octave) for octave in octaves])
    assert rises == pytest.approx(3.01, abs=0.3)
    assert np.diff([band_db(pink, *octave) for octave in octaves]) == pytest.approx(0, abs=0.3)
    assert band_db(pink, 0, 19) < band_db(pink, 20, 40) - 60


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.0])
def test_a_room_decays_60_db_in_its_reverberation_time(rt60_s):
    impulse = np.zeros(2 * RATE_HZ, np.float32)
    impulse[0] = 1
    heard = reverberate(impulse, RATE_HZ, rt60_s, draw())
    left = np.cumsum(np.square(heard[::-1], dtype=float))[::-1]  # Schroeder's backward integral
    decay_db = 10 * np.log10(left[left > 0] / left[0])
    fitted = np.flatnonzero((decay_db < -5) & (decay_db > -35))
    slope = np.polyfit(fitted / RATE_HZ, decay_db[fitted], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=0.06)
    direct = heard[0] ** 2
    assert 10 * np.log10(direct / np.sum(np.square(heard[1:]))) == pytest.approx(0, abs=0.01)


def test_reverberation_keeps_length_and_about_the_level_and_fills_the_pause():
    speech = spoken()
    wet = reverberate(speech, RATE_HZ, 0.6, draw())
    assert len(wet) == len(speech) and wet.dtype == np.float32
    assert active_level_db(wet, RATE_HZ) == pytest.approx(active_level_db(speech, RATE_HZ), abs=2)
    after = slice(2 * RATE_HZ + 800, 2 * RATE_HZ + 3200)
    assert not speech[after].any() and level_db(wet[after]) > level_db(speech) - 25
    assert level_db(wet[: RATE_HZ - 10]) < -100  # nothing is heard before it is said


def test_rooms_differ_by_draw_and_have_unit_energy():
    first, second = room_response(0.5, RATE_HZ, draw(0)), room_response(0.5, RATE_HZ, draw(1))
    assert not np.array_equal(first, second)
    assert np.sum(np.square(first, dtype=float)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_a_telephone_passes_its_band_only(rate_hz):
    noise = white_noise(4 * rate_hz, rate_hz, draw()) * np.float32(0.05)
    heard = telephone(noise, rate_hz)
    assert len(heard) == len(noise)

    def lost(low: float, high: float) -> float:
        return band_db(noise, low, high, rate_hz) - band_db(heard, low, high, rate_hz)

    assert lost(500, 3000) == pytest.approx(0, abs=0.5)
    assert lost(0, 150) > 20 and lost(4100, rate_hz / 2) > 30
    assert abs(lag_of(heard[:4000], noise[:4000])) <= 1


def test_a_telephone_quantises_alike_at_any_level():
    speech = spoken()
    loud, quiet = telephone(speech, RATE_HZ), telephone(speech / 100, RATE_HZ) * 100
    np.testing.assert_allclose(quiet, loud, atol=2e-3)
    in_band = tone_of(1000, 2.0)
    error = telephone(in_band, RATE_HZ)[8000:24000] - in_band[8000:24000]
    assert 25 < level_db(in_band) - level_db(error) < 50  # µ-law's 38 dB or so, not the float's


@pytest.mark.parametrize("kbit_s", [64, 32, 16])
def test_mp3_keeps_length_and_time_and_loses_detail(kbit_s):
    rng = draw(3)
    speech = spoken(2.0) + rng.normal(0, 0.01, 4 * RATE_HZ).astype(np.float32)
    heard = mp3(speech, RATE_HZ, kbit_s)
    assert len(heard) == len(speech)
    bursts = np.zeros(3 * RATE_HZ, np.float32)
    bursts[20000:20400] = tone_of(1000, 0.025)
    assert abs(lag_of(mp3(bursts, RATE_HZ, kbit_s)[18000:24000], bursts[18000:24000])) <= 2
    error = level_db(speech) - level_db(heard - speech)
    assert 5 < error < 60


def test_mp3_is_worse_at_a_lower_rate_and_has_no_other_rates():
    speech = spoken(2.0) + draw(3).normal(0, 0.02, 4 * RATE_HZ).astype(np.float32)
    errors = [level_db(mp3(speech, RATE_HZ, rate) - speech) for rate in (64, 32, 16)]
    assert errors == sorted(errors)
    assert band_db(mp3(speech, RATE_HZ, 16), 6500, 8000) < band_db(speech, 6500, 8000) - 20
    with pytest.raises(SerError, match="8 to 160 kbit/s, and 200"):
        mp3(speech, RATE_HZ, 200)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_clipping_flattens_at_a_share_of_the_peak(share):
    speech = spoken()
    flat = clip_peaks(speech, share)
    ceiling = share * np.abs(speech).max()
    assert np.abs(flat).max() == pytest.approx(ceiling)
    beyond = np.abs(speech) > ceiling
    assert beyond.any() and np.abs(flat[beyond]) == pytest.approx(ceiling)
    np.testing.assert_array_equal(flat[~beyond], speech[~beyond])


def test_level_falls_by_the_decibels_asked_for_and_keeps_16_bits():
    speech = spoken()
    quiet = change_level(speech, -30)
    assert active_level_db(speech, RATE_HZ) - active_level_db(quiet, RATE_HZ) == pytest.approx(
        30, abs=0.05
    )
    steps = quiet * 32768
    np.testing.assert_array_equal(steps, np.round(steps))
    assert len(np.unique(steps)) < 2 * 32768 * np.abs(speech).max() / 10**1.5 + 2
    assert change_level(speech, 40).max() <= 1


@pytest.mark.parametrize(("factor", "hz"), [(0.9, 450), (1.1, 550)])
def test_speed_changes_length_and_pitch_together(factor, hz):
    played = change_speed(tone_of(500, 2.0), RATE_HZ, factor)
    assert len(played) == pytest.approx(2 * RATE_HZ / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(played))
    assert spectrum.argmax() * RATE_HZ / len(played) == pytest.approx(hz, abs=1)
