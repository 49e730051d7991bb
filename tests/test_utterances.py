"""Utterances are found between pauses."""

import numpy as np
import pytest

from ser.utterances import LEAST_S, MARGIN_S, MOST_S, utterances_of

RATE_HZ = 16_000


def recording(*spans: tuple[float, float], seconds: float, noise: float = 0.0) -> np.ndarray:
    """A voice of 0.3 in the spans, over noise."""
    draw = np.random.default_rng(0)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(((time_s >= begin) & (time_s < end)) for begin, end in spans)
    tone = 0.3 * np.sin(2 * np.pi * 200 * time_s) * voice
    return (tone + noise * draw.standard_normal(len(time_s))).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
@pytest.mark.parametrize("noise", [0.0, 0.002, 0.03])
def test_what_lies_between_pauses_is_found(rate_hz: int, noise: float) -> None:
    spans = [(1.0, 2.5), (3.3, 4.0), (6.0, 9.0)]
    waveform = recording(*spans, seconds=10, noise=noise)
    if rate_hz != RATE_HZ:
        times = np.arange(10 * rate_hz) / rate_hz
        waveform = np.interp(times, np.arange(len(waveform)) / RATE_HZ, waveform)
    found = np.array(utterances_of(waveform, rate_hz))
    found += np.array([MARGIN_S, -MARGIN_S])
    np.testing.assert_allclose(found, spans, atol=0.08)


def test_a_short_pause_is_within_an_utterance_and_a_click_is_none() -> None:
    waveform = recording((1.0, 1.5), (1.9, 3.0), (4.0, 4.0 + LEAST_S / 3), seconds=6)
    ((begin_s, end_s),) = utterances_of(waveform, RATE_HZ)
    assert (begin_s, end_s) == pytest.approx((1 - MARGIN_S, 3 + MARGIN_S), abs=0.08)


def test_what_never_pauses_is_cut_where_it_is_quietest() -> None:
    waveform = recording((0.5, 19.5), seconds=20)
    waveform[round(8.3 * RATE_HZ) : round(8.5 * RATE_HZ)] *= 0.1
    (first, second), (third, fourth) = utterances_of(waveform, RATE_HZ)
    assert second == third == pytest.approx(8.4, abs=0.2)  # no moment is heard twice
    assert first == pytest.approx(0.4, abs=0.08) and fourth == pytest.approx(19.6, abs=0.08)
    assert max(second - first, fourth - third) <= MOST_S


@pytest.mark.parametrize("seconds", [0.01, 0.2, 3.0])
def test_a_recording_without_pauses_is_one_utterance(seconds: float) -> None:
    waveform = recording((0, seconds), seconds=seconds)
    assert utterances_of(waveform, RATE_HZ) == [(0.0, pytest.approx(seconds))]
