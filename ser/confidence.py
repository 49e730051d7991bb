"""Calibration of a predictions table: at which temperature it stands, and how well it fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ser import calibration
from ser.calibration import Abstention, Classes, Flags, Values

PREFIX = "probability_"  # of a class's column in a predictions table


@dataclass(frozen=True)
class Calibrated:
    """What validation says of a model's confidence; it travels in the checkpoint's card."""

    temperature: float
    target_accuracy: float | None
    abstention: Abstention | None  # None where no target was asked for

    @property
    def below(self) -> float | None:
        """The confidence below which a clip is left unanswered."""
        return None if self.abstention is None else self.abstention.below

    def card(self) -> dict[str, float]:
        """The card's entries: temperature, and where one was asked for, the threshold."""
        entries = {"temperature": self.temperature}
        if self.abstention is None or self.target_accuracy is None:
            return entries
        return entries | {
            "abstain_below": self.abstention.below,
            "abstain_coverage": self.abstention.coverage,
            "abstain_target_accuracy": self.target_accuracy,
        }

    def figures(self) -> dict[str, float]:
        """What is logged of it: best/temperature, best/abstain_below, best/abstain_coverage."""
        given = "abstain_target_accuracy"
        return {f"best/{key}": value for key, value in self.card().items() if key != given}


def calibrate(
    predictions: pd.DataFrame, classes: Sequence[str], target_accuracy: float | None
) -> Calibrated:
    """Temperature and abstention threshold from validation clips, in this order.

    The threshold holds for confidences at that temperature.
    """
    given = probabilities_of(predictions, classes)
    temperature = calibration.fit_temperature(given, truth_of(predictions, classes))
    abstention = None
    if target_accuracy is not None:
        scaled = at_temperature(predictions, classes, temperature)
        abstention = calibration.choose_abstention(
            scaled["confidence"], right_of(scaled), target_accuracy
        )
    return Calibrated(temperature, target_accuracy, abstention)


def at_temperature(
    predictions: pd.DataFrame, classes: Sequence[str], temperature: float
) -> pd.DataFrame:
    """The same table with its probabilities at another temperature; the answers stay."""
    factors = temperature / temperature_of(predictions)
    given = probabilities_of(predictions, classes)
    scaled = np.empty_like(given)
    for factor in np.unique(factors):  # folds that were pooled have a temperature each
        rows = factors == factor
        scaled[rows] = calibration.apply_temperature(given[rows], float(factor))
    columns = {f"{PREFIX}{name}": scaled[:, k] for k, name in enumerate(classes)}
    return predictions.assign(confidence=scaled.max(1), temperature=float(temperature), **columns)


def calibration_scores(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """ece (the headline: equal width), ece_adaptive, brier, nll, each also `_uncalibrated`; aurc.

    `_uncalibrated` is the figure at temperature 1.
    """
    raw = _scores(at_temperature(predictions, classes, 1.0), classes)
    confidence = probabilities_of(predictions, classes).max(axis=1)
    return (
        _scores(predictions, classes)
        | {f"{key}_uncalibrated": value for key, value in raw.items()}
        | {"aurc": calibration.aurc(confidence, right_of(predictions))}
    )


def abstention_scores(predictions: pd.DataFrame, below: float | None) -> dict[str, float]:
    """abstain_coverage, and where a clip is answered, abstain_accuracy; empty for no threshold."""
    if below is None:
        return {}
    answered = ~calibration.is_uncertain(predictions["confidence"], below)
    scores = {"abstain_coverage": float(answered.mean())}
    if answered.any():
        scores["abstain_accuracy"] = float(right_of(predictions)[answered].mean())
    return scores


def probabilities_of(predictions: pd.DataFrame, classes: Sequence[str]) -> Values:
    """The probabilities of a table: (clips, classes)."""
    return predictions[[f"{PREFIX}{name}" for name in classes]].to_numpy(dtype=np.float64)


def classes_in(predictions: pd.DataFrame) -> list[str]:
    """The classes that a table has probabilities of, in its order."""
    names = (str(column) for column in predictions.columns)
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]


def temperature_of(predictions: pd.DataFrame) -> Values:
    """The temperature of each clip's probabilities: (clips,); 1 in tables older than this."""
    if "temperature" not in predictions:
        return np.ones(len(predictions))
    return predictions["temperature"].fillna(1.0).to_numpy(dtype=np.float64)


def truth_of(predictions: pd.DataFrame, classes: Sequence[str]) -> Classes:
    """The truth of each clip as the number of its class: (clips,)."""
    return pd.Index(list(classes)).get_indexer(pd.Index(predictions["truth"]))


def right_of(predictions: pd.DataFrame) -> Flags:
    """Which clips were recognised: (clips,)."""
    return (predictions["truth"] == predictions["prediction"]).to_numpy(dtype=bool)


def _scores(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    probabilities = probabilities_of(predictions, classes)
    truth, right = truth_of(predictions, classes), right_of(predictions)
    confidence = probabilities.max(axis=1)
    return {
        "ece": calibration.ece(confidence, right),
        "ece_adaptive": calibration.ece_adaptive(confidence, right),
        "brier": calibration.brier(probabilities, truth),
        "nll": calibration.nll(probabilities, truth),
    }
