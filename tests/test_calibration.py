"""Calibration figures against scikit-learn and by hand; the temperature against known ones."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from ser import calibration
from ser.calibration import NEVER
from ser.errors import SerError

CLASSES = 5


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(n_clips: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities, and classes drawn by them: perfectly calibrated."""
    random = np.random.default_rng(seed)
    true = softmax(random.normal(0, 2, (n_clips, CLASSES)))
    truth = (true.cumsum(1) < random.random((n_clips, 1))).sum(1).clip(max=CLASSES - 1)
    return true, truth


def test_nll_and_brier_are_scikit_learns():
    probabilities, truth = drawn(300)
    labels = list(range(CLASSES))
    assert calibration.nll(probabilities, truth) == pytest.approx(
        log_loss(truth, probabilities, labels=labels)
    )
    assert calibration.brier(probabilities, truth) == pytest.approx(
        brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False)
    )


def test_brier_of_certain_answers():
    certain = np.eye(3)
    assert calibration.brier(certain, [0, 1, 2]) == 0
    assert calibration.brier(certain, [1, 2, 0]) == 2


def test_ece_by_hand():
    # bins (12/15, 13/15] and (7/15, 8/15]: |0.5 - 0.85| on two clips, |1 - 0.5| on two
    confidence, right = [0.84, 0.86, 0.48, 0.52], [True, False, True, True]
    assert calibration.ece(confidence, right) == pytest.approx(0.5 * 0.35 + 0.5 * 0.5)


def test_a_confidence_on_an_edge_is_in_the_bin_below():
    bins = calibration.width_bins([1 / 15, 1 / 15 + 1e-9, 1.0, 0.0], [1, 1, 1, 0])
    assert bins.clips.tolist() == [2, 1, 1]


def test_adaptive_ece_has_equally_many_clips_a_bin():
    confidence = np.linspace(0.5, 0.99, 30)
    right = np.arange(30) % 2 == 0  # two clips a bin: accuracy 0.5 in each
    pairs = confidence.reshape(15, 2).mean(1)
    assert calibration.ece_adaptive(confidence, right) == pytest.approx(np.mean(pairs - 0.5))


def test_adaptive_ece_keeps_ties_together():
    right = np.arange(40) < 10
    assert calibration.ece_adaptive(np.full(40, 0.25), right) == pytest.approx(0)
    assert calibration.ece_adaptive(np.full(40, 0.4), right) == pytest.approx(0.15)


@pytest.mark.parametrize("distortion", [0.4, 1.0, 2.5])
def test_the_temperature_of_a_known_distortion_comes_back(distortion):
    true, truth = drawn(20_000)
    distorted = softmax(np.log(true) * distortion)  # as of logits that are `distortion` too large
    temperature = calibration.fit_temperature(distorted, truth)
    assert temperature == pytest.approx(distortion, rel=0.03)
    mended = calibration.apply_temperature(distorted, temperature)
    np.testing.assert_allclose(mended, true, atol=0.02)
    confidence, right = mended.max(1), mended.argmax(1) == truth
    assert calibration.ece(confidence, right) < 0.012
    assert calibration.ece_adaptive(confidence, right) < 0.012


def test_the_temperature_minimises_the_loss():
    true, truth = drawn(500, seed=3)
    distorted = softmax(np.log(true) * 1.7)
    best = calibration.fit_temperature(distorted, truth)
    losses = {
        t: calibration.nll(calibration.apply_temperature(distorted, t), truth)
        for t in (0.9 * best, best, 1.1 * best, 1.0)
    }
    assert min(losses, key=lambda t: losses[t]) == best


@pytest.mark.parametrize("temperature", [0.1, 0.7, 3.0, 10.0])
def test_a_temperature_changes_no_answer(temperature):
    probabilities = drawn(2000)[0].astype(np.float32)
    probabilities[0] = [0.5, 0.5, 0, 0, 0]
    scaled = calibration.apply_temperature(probabilities, temperature)
    np.testing.assert_array_equal(scaled.argmax(1), probabilities.argmax(1))
    np.testing.assert_allclose(scaled.sum(1), 1)


def test_temperature_one_is_exactly_nothing():
    probabilities = drawn(50)[0].astype(np.float32)
    np.testing.assert_array_equal(calibration.apply_temperature(probabilities, 1.0), probabilities)


def test_temperatures_multiply():
    probabilities = drawn(50)[0]
    there = calibration.apply_temperature(probabilities, 2.5)
    np.testing.assert_allclose(
        calibration.apply_temperature(there, 1 / 2.5), probabilities, atol=1e-12
    )


def test_a_temperature_that_divides_by_nothing_is_refused():
    with pytest.raises(SerError, match=r"temperature=0: .* must be above zero"):
        calibration.apply_temperature([[0.5, 0.5]], 0)


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.full((40, 4), 0.25), np.arange(40) % 4),  # flat: every temperature alike
        (np.tile([0.7, 0.2, 0.1], (30, 1)), np.arange(30) % 3),  # unrelated: best T is infinite
        (np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])),  # one-hot and all right
    ],
)
def test_what_determines_no_temperature_leaves_all_as_it_is(probabilities, truth):
    assert calibration.fit_temperature(probabilities, truth) == 1.0


@pytest.mark.parametrize("certainty", [0.6, 0.97, 0.9999])
def test_of_thirty_clips_that_are_all_right_the_next_may_be_wrong(certainty):
    rest = (1 - certainty) / 2
    probabilities, truth = np.tile([certainty, rest, rest], (30, 1)), np.zeros(30, int)
    temperature = calibration.fit_temperature(probabilities, truth)
    mended = calibration.apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(mended[:, 0], 31 / 32, atol=1e-4)


def test_risk_coverage_by_hand():
    curve = calibration.risk_coverage([0.6, 0.9, 0.6, 0.8], [False, True, True, False])
    assert curve.threshold.tolist() == [0.9, 0.8, 0.6]
    assert curve.coverage.tolist() == [0.25, 0.5, 1.0]
    assert curve.risk.tolist() == [0, 0.5, 0.5]


def test_aurc_by_hand_and_with_ties():
    # one, two, three, four answered: 0/1, 1/2, 1/3, 2/4
    right = [True, False, True, False]
    assert calibration.aurc([0.9, 0.8, 0.7, 0.6], right) == pytest.approx(
        (1 / 2 + 1 / 3 + 1 / 2) / 4
    )
    assert calibration.aurc([0.5] * 4, right) == pytest.approx(0.5)  # constant: the error rate
    assert calibration.aurc([0.5] * 4, right[::-1]) == calibration.aurc([0.5] * 4, right)


def test_the_threshold_answers_as_many_as_the_target_allows():
    confidence = np.linspace(0.99, 0.5, 50)
    right = np.ones(50, dtype=bool)
    right[[12, 30, 31, 32, 33, 34, 40]] = False
    chosen = calibration.choose_abstention(confidence, right, 0.9)
    brute = max(k for k in range(10, 51) if right[:k].mean() >= 0.9)
    assert chosen.coverage == pytest.approx(brute / 50)
    assert chosen.below == confidence[brute - 1]
    assert chosen.accuracy == pytest.approx(right[:brute].mean())
    kept = ~calibration.is_uncertain(confidence, chosen.below)
    assert kept.mean() == chosen.coverage and right[kept].mean() == pytest.approx(chosen.accuracy)


def test_a_target_out_of_reach_leaves_every_clip_uncertain(caplog):
    confidence, right = np.linspace(0.9, 0.5, 30), np.arange(30) % 2 == 0
    chosen = calibration.choose_abstention(confidence, right, 0.95)
    assert chosen.below == NEVER and chosen.coverage == 0 and np.isnan(chosen.accuracy)
    assert "no confidence gives an accuracy of 0.95" in caplog.text
    assert calibration.is_uncertain([1.0, 0.3], chosen.below).all()
    assert calibration.is_uncertain([np.nan, 0.6, 0.4], 0.5).tolist() == [True, False, True]


def test_nine_lucky_clips_are_no_threshold_and_ten_are():
    confidence = np.linspace(0.9, 0.5, 29)
    chosen = calibration.choose_abstention(confidence, np.arange(29) < 9, 0.95)
    assert chosen.below == NEVER
    chosen = calibration.choose_abstention(confidence, np.arange(29) < 10, 1.0)
    assert chosen == (confidence[9], 10 / 29, 1.0)


def test_a_confidence_of_one_is_no_threshold():
    confidence, right = np.array([1.0] * 12 + [0.9] * 4), np.ones(16, dtype=bool)
    assert calibration.choose_abstention(confidence[:12], right[:12], 0.9).below == NEVER
    assert calibration.choose_abstention(confidence, right, 0.9).below == 0.9


def test_ties_are_answered_or_left_together():
    right = np.array([True] * 12 + [False, True] * 10)
    confidence = np.array([0.9] * 12 + [0.5] * 20)
    chosen = calibration.choose_abstention(confidence, right, 0.75)
    assert (chosen.below, chosen.coverage) == (0.9, 12 / 32)


@pytest.mark.parametrize("target", [0, -0.1, 1.1, 90])
def test_a_target_that_is_no_accuracy_is_refused(target):
    with pytest.raises(SerError, match=r"abstain\.target_accuracy=.* not above 1"):
        calibration.check_target(target)
    calibration.check_target(None)
    calibration.check_target(1.0)
