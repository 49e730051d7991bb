"""Calibration of a predictions table: answers stay, folds keep their own temperature."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from ser import calibration
from ser.confidence import (
    Calibrated,
    abstention_scores,
    at_temperature,
    calibrate,
    calibration_scores,
    probabilities_of,
)
from ser.metrics import pool_folds

CLASSES = ("neutral", "happy", "sad")


def table(n_clips: int = 400, sharpness: float = 3.0, seed: int = 0) -> pd.DataFrame:
    """Clips whose truth follows the probabilities, which are then sharpened: too sure."""
    random = np.random.default_rng(seed)
    true = random.dirichlet([0.8] * 3, n_clips)
    truth = (true.cumsum(1) < random.random((n_clips, 1))).sum(1).clip(max=2)
    given = true**sharpness / (true**sharpness).sum(1, keepdims=True)
    columns = {f"probability_{name}": given[:, k] for k, name in enumerate(CLASSES)}
    names = np.array(CLASSES)
    return pd.DataFrame(
        {"id": [f"{seed}/{k}" for k in range(n_clips)], "truth": names[truth],
         "prediction": names[given.argmax(1)], "confidence": given.max(1), **columns}
    )  # fmt: skip


def test_scaling_keeps_answers_and_mends_the_confidence():
    raw = table(3000)
    found = calibrate(raw, CLASSES, 0.9)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    scaled = at_temperature(raw, CLASSES, found.temperature)
    given = probabilities_of(scaled, CLASSES)
    assert [CLASSES[k] for k in given.argmax(1)] == raw["prediction"].tolist()
    assert scaled["confidence"].tolist() == given.max(1).tolist()
    figures = calibration_scores(scaled, CLASSES)
    assert figures["ece"] < 0.04 < 0.1 < figures["ece_uncalibrated"]
    for key in ("ece_adaptive", "brier", "nll"):
        assert figures[key] < figures[f"{key}_uncalibrated"]


def test_uncalibrated_figures_are_those_before_scaling():
    raw = table()
    before = calibration_scores(raw, CLASSES)
    after = calibration_scores(at_temperature(raw, CLASSES, 2.2), CLASSES)
    for key in ("ece", "ece_adaptive", "brier", "nll"):
        assert before[key] == before[f"{key}_uncalibrated"]
        assert after[f"{key}_uncalibrated"] == pytest.approx(before[key])
    order = sorted(CLASSES)
    columns = raw[[f"probability_{name}" for name in order]].to_numpy()
    assert before["nll"] == pytest.approx(log_loss(raw["truth"], columns, labels=order))


def test_temperatures_do_not_add_up():
    raw = table(20)
    twice = at_temperature(at_temperature(raw, CLASSES, 3.0), CLASSES, 2.0)
    once = at_temperature(raw, CLASSES, 2.0)
    np.testing.assert_allclose(
        probabilities_of(twice, CLASSES), probabilities_of(once, CLASSES), atol=1e-12
    )
    assert twice["temperature"].tolist() == [2.0] * 20


def test_pooled_folds_keep_their_own_temperature_even_beside_older_ones():
    first, second, older = (table(200, seed=seed) for seed in range(3))
    folds = [at_temperature(first, CLASSES, 3.0), at_temperature(second, CLASSES, 2.0), older]
    pooled = at_temperature(pool_folds(folds), CLASSES, 1.0)
    raw = pd.concat([first, second, older], ignore_index=True)
    np.testing.assert_allclose(
        probabilities_of(pooled, CLASSES), probabilities_of(raw, CLASSES), atol=1e-12
    )


def test_the_card_says_what_was_found():
    found = calibrate(table(3000), CLASSES, 0.8)
    assert found.card() == {
        "temperature": found.temperature,
        "abstain_below": found.below,
        "abstain_coverage": found.abstention.coverage,
        "abstain_target_accuracy": 0.8,
    }
    logged = found.figures()
    assert set(logged) == {"best/temperature", "best/abstain_below", "best/abstain_coverage"}
    assert found.abstention.accuracy >= 0.8 and 0.3 < found.abstention.coverage < 1


def test_without_a_target_there_is_no_threshold():
    found = calibrate(table(), CLASSES, None)
    assert found.below is None and set(found.card()) == {"temperature"}
    assert abstention_scores(table(), found.below) == {}


def test_abstention_on_other_clips():
    clips = pd.DataFrame(
        {"truth": list("aaab"), "prediction": list("abab"), "confidence": [0.9, 0.4, 0.8, 0.6]}
    )
    assert abstention_scores(clips, 0.7) == {"abstain_coverage": 0.5, "abstain_accuracy": 1.0}
    assert abstention_scores(clips, calibration.NEVER) == {"abstain_coverage": 0.0}


def test_chance_has_figures_and_no_threshold():
    constant = table().assign(
        prediction="neutral", confidence=0.5, probability_neutral=0.5, probability_happy=0.3,
        probability_sad=0.2,
    )  # fmt: skip
    found = calibrate(constant, CLASSES, 0.9)
    assert isinstance(found, Calibrated) and found.below == calibration.NEVER
    figures = calibration_scores(at_temperature(constant, CLASSES, found.temperature), CLASSES)
    assert all(np.isfinite(value) for value in figures.values())
    error = (constant["truth"] != "neutral").mean()
    assert figures["aurc"] == pytest.approx(error)
