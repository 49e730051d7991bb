"""How far a model's confidence can be trusted: temperature, calibration error, abstention.

`probabilities: (clips, classes)`, each row summing to 1; `truth: (clips,)` class numbers;
`confidence: (clips,)` the probability of the answer; `right: (clips,)` whether it was the truth.
"""

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ser.errors import SerError

log = logging.getLogger(__name__)

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.intp]

N_BINS = 15  # as in table 1 of Guo et al. 2017
TEMPERATURES = (0.1, 10.0)  # beyond these a softmax over ten classes is one-hot, or flat
SMALLEST = float(np.finfo(np.float32).tiny)  # a float32 softmax rounds what is less to zero
LEAST_GAIN = 1e-6  # nats a clip: less is rounding, as where every temperature fits alike
NEVER = 1.0  # the threshold that no confidence is enough for
LEAST_CLIPS = 10  # an accuracy of 0.9 cannot be told from fewer


class Bins(NamedTuple):
    """Clips gathered by confidence; empty bins are left out."""

    clips: npt.NDArray[np.int64]
    confidence: Values  # mean in the bin
    accuracy: Values  # mean in the bin


class RiskCoverage(NamedTuple):
    """The error among the surest clips, from few of them to all."""

    threshold: Values  # clips with this confidence or more are answered; falling
    coverage: Values  # share of clips that are answered
    risk: Values  # share of those that are wrong


class Abstention(NamedTuple):
    """Below which confidence a clip is left unanswered, and what that gave where it was chosen."""

    below: float  # NEVER where no threshold reaches the target
    coverage: float
    accuracy: float  # NaN where no clip is answered


def fit_temperature(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The T at which softmax(log p / T) fits held-out clips best (Guo et al. 2017).

    Of n clips the truth counts (n + 1) / (n + 2), the other classes share the rest (Platt 1999,
    Probabilistic outputs for support vector machines, section 2.2): so few clips that are all
    right do not say that the model is never wrong. It is 1.0, with a log line, where the clips do
    not determine one: answers unrelated to the truth (the best T has no end), or every T alike.
    """
    from scipy.optimize import minimize_scalar

    logs, classes = _logs(probabilities), np.asarray(truth, dtype=np.intp)
    n_clips, n_classes = logs.shape
    target = np.full(logs.shape, 1 / (n_clips + 2) / (n_classes - 1))
    target[np.arange(n_clips), classes] = 1 - 1 / (n_clips + 2)

    def loss(log_temperature: float) -> float:
        fitted = _logs(_softmax(logs / np.exp(log_temperature)))
        return float(-(target * fitted).sum(axis=1).mean())

    low, high = np.log(TEMPERATURES)
    solved = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    undetermined = min(solved.x - low, high - solved.x) < 1e-3
    if undetermined or loss(0.0) - solved.fun < LEAST_GAIN:
        if undetermined:
            log.info("validation determines no temperature: probabilities stay as they are (T=1)")
        return 1.0
    return float(np.exp(solved.x))


def apply_temperature(probabilities: npt.ArrayLike, temperature: float) -> Values:
    """softmax(log p / T) of each row; at T = 1 the very same figures. The order never changes."""
    if not temperature > 0:
        raise SerError(f"temperature={temperature}: it divides logits, so it must be above zero.")
    if temperature == 1:
        return np.asarray(probabilities, dtype=np.float64)
    return _softmax(_logs(probabilities) / temperature)


def nll(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean negative log-likelihood of the truth, in nats (scikit-learn's log_loss)."""
    return float(clip_nll(probabilities, truth).mean())


def clip_nll(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Values:
    """The negative log-likelihood of each clip's truth, in nats (clips,)."""
    logs = _logs(probabilities)
    return np.asarray(-logs[np.arange(len(logs)), np.asarray(truth, dtype=np.intp)])


def brier(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean squared distance of the probabilities to the truth's one-hot, from 0 to 2 (Brier 1950).

    Summed over the classes and not halved.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    wanted = np.eye(given.shape[1])[np.asarray(truth, dtype=np.intp)]
    return float(((given - wanted) ** 2).sum(axis=1).mean())


def ece(confidence: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Expected calibration error over 15 bins of equal width: the headline figure, as published.

    The mean over clips of |accuracy - mean confidence| of the clip's bin (Guo et al. 2017).
    """
    return _gap(width_bins(confidence, right))


def ece_adaptive(confidence: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """The same over 15 bins of equally many clips (Nixon et al. 2019).

    Clips of one confidence share a bin, so ties make fewer and larger bins.
    """
    given = np.asarray(confidence, dtype=np.float64)
    edges = np.unique(np.quantile(given, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf"))
    return _gap(_bins(given, right, np.searchsorted(edges, given)))


def width_bins(confidence: npt.ArrayLike, right: npt.ArrayLike) -> Bins:
    """Clips by confidence in 15 bins (k/15, (k+1)/15] of equal width."""
    given = np.asarray(confidence, dtype=np.float64)
    return _bins(given, right, np.clip(np.ceil(given * N_BINS) - 1, 0, N_BINS - 1))


def risk_coverage(confidence: npt.ArrayLike, right: npt.ArrayLike) -> RiskCoverage:
    """One point for each confidence that occurs (El-Yaniv & Wiener 2010)."""
    given, wrong = np.asarray(confidence, dtype=np.float64), ~np.asarray(right, dtype=bool)
    order = np.argsort(-given, kind="stable")
    last = np.flatnonzero(np.append(np.diff(given[order]) != 0, True))  # of each run of ties
    answered = last + 1
    return RiskCoverage(
        given[order][last], answered / len(given), wrong[order].cumsum()[last] / answered
    )


def aurc(confidence: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Area under risk-coverage: the mean risk over answering 1, 2, … all clips, surest first.

    Among clips of one confidence the errors count as evenly spread, so that the order of the
    table does not matter (Geifman, Uziel & El-Yaniv, ICLR 2019).
    """
    curve = risk_coverage(confidence, right)
    n_clips = np.size(confidence)
    ends = np.concatenate([[0.0], curve.coverage * n_clips])
    errors = np.concatenate([[0.0], curve.risk * curve.coverage * n_clips])
    answered = np.arange(1, n_clips + 1)
    return float((np.interp(answered, ends, errors) / answered).mean())


def choose_abstention(
    confidence: npt.ArrayLike, right: npt.ArrayLike, target_accuracy: float
) -> Abstention:
    """The least confidence at which the clips answered reach an accuracy, at ten clips or more.

    Where none does, `below` is NEVER: every clip is to be left unanswered, which is logged.
    """
    curve = risk_coverage(confidence, right)
    enough = curve.coverage * np.size(confidence) >= LEAST_CLIPS - 0.5
    reached = enough & (1 - curve.risk >= target_accuracy - 1e-12) & (curve.threshold < NEVER)
    if not reached.any():
        log.warning(
            "no confidence gives an accuracy of %.2f on %d validation clips or more: "
            "with --abstain every clip is uncertain",
            target_accuracy,
            LEAST_CLIPS,
        )
        return Abstention(NEVER, 0.0, float("nan"))
    k = int(np.flatnonzero(reached)[-1])
    return Abstention(float(curve.threshold[k]), float(curve.coverage[k]), float(1 - curve.risk[k]))


def is_uncertain(confidence: npt.ArrayLike, below: float) -> Flags:
    """Which clips are left unanswered: NaN too, and all of them at NEVER."""
    return np.asarray(~(np.asarray(confidence) >= below) | (below >= NEVER), dtype=bool)


def check_target(target_accuracy: float | None) -> None:
    """SerError for an accuracy that cannot be one; None asks for no threshold."""
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise SerError(
            f"abstain.target_accuracy={target_accuracy}: an accuracy lies above 0 and not above 1 "
            "(0.9 is the default); null stores no threshold."
        )


def _bins(confidence: Values, right: npt.ArrayLike, number: npt.NDArray[np.generic]) -> Bins:
    _, bin_of = np.unique(number, return_inverse=True)
    clips = np.bincount(bin_of)
    hits = np.bincount(bin_of, weights=np.asarray(right, dtype=np.float64))
    return Bins(clips, np.bincount(bin_of, weights=confidence) / clips, hits / clips)


def _gap(bins: Bins) -> float:
    return float(np.average(np.abs(bins.accuracy - bins.confidence), weights=bins.clips))


def _logs(probabilities: npt.ArrayLike) -> Values:
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), SMALLEST)))


def _softmax(logits: Values) -> Values:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
