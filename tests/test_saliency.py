"""The curve finds the moment that a model listens to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic

from ser.audio import Waveform
from ser.errors import SerError
from ser.predict import Recognizer
from ser.saliency import RAMP_S, WINDOW_S, log_odds, muted, occlusion_curve, saliency_of

RATE_HZ = 16_000


class Listener:
    """Sure of `angry` by the energy from 0.6 to 0.7 s; notes how many clips come at a time."""

    classes = ("happy", "angry")
    features = ()

    def __init__(self, adapts: bool = False) -> None:
        self.sizes: list[int] = []
        self.model = SimpleNamespace(adapts=adapts)

    def predict_waveforms(
        self, clips: Sequence[Mapping[int, Waveform]], keys: Sequence[str]
    ) -> np.ndarray:
        assert len(set(keys)) == len(clips)
        self.sizes.append(len(clips))
        energy = [np.square(clip[RATE_HZ][9600:11200]).mean() for clip in clips]
        angry = 0.2 + 0.7 * np.array(energy)
        return np.stack([1 - angry, angry], 1)


def test_the_window_is_silent_and_the_rest_untouched() -> None:
    waveform = np.ones(RATE_HZ, dtype=np.float32)
    quiet = muted(waveform, RATE_HZ, 0.5)
    assert quiet.dtype == np.float32
    assert not quiet[6401:9599].any()  # 0.4 to 0.6 s
    assert (quiet[: 6400 - 160] == 1).all() and (quiet[9600 + 160 :] == 1).all()
    ramp = quiet[6240:6401]
    assert (np.diff(ramp) <= 0).all() and ramp[80] == pytest.approx(0.5, abs=0.01)


def test_the_edge_windows_mute_what_there_is() -> None:
    waveform = np.ones(RATE_HZ, dtype=np.float32)
    assert not muted(waveform, RATE_HZ, 0.0)[:1599].any()
    assert not muted(waveform, RATE_HZ, 1.0)[-1599:].any()


def test_the_curve_peaks_where_the_model_listens(tmp_path: Path) -> None:
    path = synthetic.write_clip(tmp_path / "a.wav", 0.99 * np.tile([1, -1], RATE_HZ))
    listener = Listener()
    curve = saliency_of(listener, path)  # type: ignore[arg-type]  # all that it asks of one
    assert curve.emotion == "angry"
    assert curve.probability == pytest.approx(0.2 + 0.7 * 0.99**2, abs=1e-3)
    assert curve.centres_s[[0, 1, -1]] == pytest.approx([0, 0.05, 2.0])
    heard = np.abs(curve.centres_s - 0.65) < WINDOW_S / 2 + 0.05 + RAMP_S
    assert np.abs(curve.drop[~heard]) == pytest.approx(0, abs=1e-9)
    top = curve.drop.max()
    assert curve.centres_s[int(curve.drop.argmax())] == pytest.approx(0.65, abs=0.051)
    assert top == pytest.approx(float(log_odds(curve.probability) - log_odds(0.2)), abs=1e-3)
    assert max(listener.sizes) > 1 and sum(listener.sizes) == 1 + len(curve.centres_s)


def test_a_model_with_enrolment_adapts_to_no_other_version(tmp_path: Path) -> None:
    path = synthetic.write_clip(tmp_path / "a.wav", 0.99 * np.tile([1, -1], RATE_HZ))
    alone, together = Listener(adapts=True), Listener()
    curves = [saliency_of(each, path).drop for each in (alone, together)]  # type: ignore[arg-type]
    assert set(alone.sizes) == {1} and max(together.sizes) > 1
    np.testing.assert_array_equal(*curves)


def test_a_moment_that_speaks_against_is_below_zero() -> None:
    def answers(versions: Sequence[Mapping[int, Waveform]]) -> np.ndarray:
        level = np.array([clip[RATE_HZ][:1600].mean() for clip in versions])
        return np.stack([0.5 + 0.4 * level, 0.5 - 0.4 * level], 1)

    clip = {RATE_HZ: np.ones(RATE_HZ, dtype=np.float32)}
    _, drop = occlusion_curve(answers, clip, answers([clip])[0], 1, 1.0)
    assert drop[1] < -2 and drop[-1] == pytest.approx(0, abs=1e-6)


def test_a_clip_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    path = synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a", seconds=0.1))
    recognizer = Recognizer(model=None, features=(), classes=())  # type: ignore[arg-type]
    with pytest.raises(SerError, match="lasts 100 ms"):
        saliency_of(recognizer, path)


def test_log_odds_are_finite_at_the_ends() -> None:
    assert log_odds([0.0, 0.5, 1.0])[1] == 0
    assert np.isfinite(log_odds([0.0, 1.0])).all()


@pytest.mark.parametrize(("seconds", "step_s"), [(14.95, 0.05), (59.8, 0.2)])
def test_a_longer_clip_is_muted_at_wider_steps(seconds: float, step_s: float) -> None:
    listener = Listener()
    clip = {RATE_HZ: np.zeros(round(seconds * RATE_HZ), dtype=np.float32)}

    def answers(versions: Sequence[Mapping[int, Waveform]]) -> np.ndarray:
        return listener.predict_waveforms(versions, [*map(str, range(len(versions)))])

    centres_s, _ = occlusion_curve(answers, clip, np.array([0.8, 0.2]), 1, seconds)
    assert np.diff(centres_s) == pytest.approx(step_s) and sum(listener.sizes) == 300
    assert centres_s[-1] == pytest.approx(seconds)


def test_a_clip_that_would_take_hours_is_refused(tmp_path: Path) -> None:
    path = synthetic.write_clip(tmp_path / "a.wav", np.tile(synthetic.tone("a", seconds=1), 61))
    recognizer = Recognizer(model=None, features=(), classes=())  # type: ignore[arg-type]
    with pytest.raises(SerError, match=r"a\.wav lasts 61 s, .* 60 s are the most\. Cut out"):
        saliency_of(recognizer, path)
