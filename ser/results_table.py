"""A protocol's figures with intervals, figures of each fold, and paired tests: three tables."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.calibration import clip_nll
from ser.confidence import probabilities_of, truth_of
from ser.errors import SerError
from ser.metrics import METRICS, TESS, class_recall, counts_of
from ser.protocol import CHANCE, Arm, Protocol, seed_averaged
from ser.statistics import (
    N_DRAWS,
    WHOLE_FROM,
    Difference,
    Metric,
    Values,
    Weights,
    difference_of,
    draw_clips,
    holm,
    interval_of,
    mcnemar,
    metric_draws,
)

NLL = "nll"
ALL, WITHOUT_TESS = "all", "without_tess"
ENSEMBLE = "ensemble"
Rows = npt.NDArray[np.bool_]
Drawn = tuple[float, Values]
"""A figure as measured, and on each draw."""


@dataclass(frozen=True)
class Results:
    """The tables of a protocol."""

    figures: pd.DataFrame
    """One row an arm, part and metric: arm, model, average_of, seeds, commit, manifest, part,
    clips, metric, value (mean over seeds), low, high, seed_sd, fold_mean, fold_sd (NaN where there
    is one). Parts: all, without_tess, corpus/<name>; metrics: uar, war, macro_f1, and of all clips
    nll (log loss of the calibrated probabilities, in nats) and recall/<emotion>."""
    folds: pd.DataFrame
    """One row an arm, seed and fold: arm, seed, fold, clips, uar, war, macro_f1."""
    tests: pd.DataFrame
    """One row a pair: arm, against, uar_difference, low, high, p, p_holm, mcnemar, mcnemar_holm,
    nll_difference, nll_low, nll_high, nll_p, nll_p_holm."""
    reference: str
    """The arm that is tested against the others."""
    chosen: bool
    """Whether the reference was taken for its UAR, that is, after the fact."""


def compute_results(
    protocol: Protocol, *, reference: str | None = None, n_draws: int = N_DRAWS
) -> Results:
    """Every figure of a protocol; all rows share the same draws of clips.

    `reference` names the arm to test against the others; None takes the ensemble or, where there
    is none, the arm of the highest UAR. Raises SerError when it names no arm.
    """
    arms = [*protocol.arms, *filter(None, map(seed_averaged, protocol.arms))]
    weights = draw_clips(protocol.clips, n_draws=n_draws)
    paired = draw_clips(protocol.clips, n_draws=n_draws, whole_from=WHOLE_FROM)
    folds = _fold_table(arms, protocol)
    draws: dict[str, Drawn] = {}
    losses: dict[str, Drawn] = {}
    rows = []
    for arm in arms:
        over_folds = folds[folds["arm"] == arm.name]
        for part, chosen in _parts(protocol.clips):
            metrics = METRICS if part != ALL else METRICS | _recalls(protocol)
            for name, metric in metrics.items():
                values = _observed(arm, protocol, metric, chosen)
                drawn = _drawn(arm, protocol, metric, chosen, weights)
                if part == ALL and name == "uar":
                    for_tests = _drawn(arm, protocol, metric, chosen, paired)
                    draws[arm.name] = float(np.mean(values)), for_tests
                row = _row(arm, protocol, part, int(chosen.sum()), name)
                row |= _summary(values, drawn)
                if part == ALL and name in METRICS:
                    row |= _over_folds(over_folds, name)
                rows.append(row)
        loss = _losses(arm, protocol)
        row = _row(arm, protocol, ALL, len(protocol.clips), NLL)
        rows.append(row | _summary(list(loss.mean(1)), _mean_draws(weights, loss)))
        losses[arm.name] = float(loss.mean()), _mean_draws(paired, loss)
    known = [arm for arm in protocol.arms if arm.model != CHANCE] or list(protocol.arms)
    leader, chosen_by_uar = _reference(known, reference, draws)
    tests = _test_table(leader, known, arms, draws, losses)
    return Results(pd.DataFrame(rows), folds, tests, leader.name, chosen_by_uar)


def _recalls(protocol: Protocol) -> dict[str, Metric]:
    """A metric for each class that is acted at all."""

    def recall_of(number: int) -> Metric:
        return lambda counts: float(class_recall(counts)[number])

    acted = set(protocol.clips["truth"])
    return {f"recall/{c}": recall_of(k) for k, c in enumerate(protocol.classes) if c in acted}


def _parts(clips: pd.DataFrame) -> Iterator[tuple[str, Rows]]:
    """All clips; and of several corpora, all but TESS, and each."""
    yield ALL, np.ones(len(clips), dtype=bool)
    corpus = clips["corpus"].to_numpy()
    names = sorted(set(corpus))
    if len(names) == 1:
        return
    if TESS in names:
        yield WITHOUT_TESS, corpus != TESS
    for name in names:
        yield f"corpus/{name}", corpus == name


def _observed(arm: Arm, protocol: Protocol, metric: Metric, rows: Rows) -> list[float]:
    return [metric(counts_of(table[rows], protocol.classes)) for table in arm.tables]


def _drawn(arm: Arm, protocol: Protocol, metric: Metric, rows: Rows, weights: Weights) -> Values:
    """The metric's mean over the seeds on each draw: (draws,)."""
    of_rows = weights if rows.all() else weights[:, rows]
    seeds = [metric_draws(of_rows, t[rows], protocol.classes, metric) for t in arm.tables]
    return np.asarray(np.mean(seeds, axis=0))


def _losses(arm: Arm, protocol: Protocol) -> Values:
    """Each clip's negative log-likelihood under each seed: (seeds, clips)."""
    classes = protocol.classes
    truth = truth_of(protocol.clips, classes)
    return np.stack([clip_nll(probabilities_of(table, classes), truth) for table in arm.tables])


def _mean_draws(weights: Weights, values: Values) -> Values:
    """The mean over the clips and seeds (seeds, clips) on each draw."""
    return np.asarray(weights @ values.mean(0) / weights.sum(1))


def _row(arm: Arm, protocol: Protocol, part: str, clips: int, metric: str) -> dict[str, object]:
    return {
        "arm": arm.name,
        "model": arm.model,
        "average_of": arm.average_of,
        "seeds": len(arm.seeds),
        "commit": " ".join(arm.commits),
        "manifest": protocol.manifest,
        "part": part,
        "clips": clips,
        "metric": metric,
    }


def _summary(values: list[float], drawn: Values) -> dict[str, object]:
    low, high = interval_of(drawn)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return {"value": float(np.mean(values)), "low": low, "high": high, "seed_sd": spread}


def _over_folds(folds: pd.DataFrame, metric: str) -> dict[str, object]:
    """Mean and deviation over the folds, each the mean over its seeds."""
    by_fold = folds.groupby("fold")[metric].mean()
    return {"fold_mean": float(by_fold.mean()), "fold_sd": float(by_fold.std())}


def _fold_table(arms: Sequence[Arm], protocol: Protocol) -> pd.DataFrame:
    rows = []
    for arm in arms:
        seeds = ["averaged"] if arm.average_of else arm.seeds
        for seed, table in zip(seeds, arm.tables, strict=True):
            for fold, clips in table.groupby("fold"):
                counts = counts_of(clips, protocol.classes)
                figures = {name: metric(counts) for name, metric in METRICS.items()}
                row = {"arm": arm.name, "seed": seed, "fold": fold, "clips": len(clips)}
                rows.append(row | figures)
    return pd.DataFrame(rows)


def _reference(arms: list[Arm], named: str | None, draws: dict[str, Drawn]) -> tuple[Arm, bool]:
    """The arm to test, and whether its UAR chose it."""
    wanted = [arm for arm in arms if arm.name == (named or ENSEMBLE)]
    if wanted:
        return wanted[0], False
    if named is not None:
        raise SerError(
            f"sweep.reference={named} is no arm of this sweep: choose "
            f"{', '.join(arm.name for arm in arms)}, or null for the ensemble."
        )
    return max(arms, key=lambda arm: draws[arm.name][0]), True


def _test_table(
    leader: Arm,
    known: list[Arm],
    arms: list[Arm],
    uars: dict[str, Drawn],
    losses: dict[str, Drawn],
) -> pd.DataFrame:
    """The reference against every other arm and its seed average; average against average, too.

    An arm whose seeds agree (one seed, a control) is its own average.
    """
    average = {arm.average_of: arm for arm in arms if arm.average_of}
    others = [arm for arm in known if arm.name != leader.name]
    rivals = [average[arm.name] for arm in others if arm.name in average]
    pairs = [(leader, other) for other in [*others, *rivals]]
    if leader.name in average:
        pairs += [(average[leader.name], average.get(arm.name, arm)) for arm in others]
    of_uar = ["uar_difference", "low", "high", "p"]
    of_loss = ["nll_difference", "nll_low", "nll_high", "nll_p"]
    rows = []
    for a, b in pairs:
        row = {"arm": a.name, "against": b.name, "mcnemar": _mcnemar(a, b)}
        row |= zip(of_uar, _difference(uars, a, b), strict=True)
        row |= zip(of_loss, _difference(losses, a, b), strict=True)
        rows.append(row)
    table = pd.DataFrame(rows, columns=["arm", "against", *of_uar, "mcnemar", *of_loss])
    for column in ("p", "mcnemar", "nll_p"):
        table[f"{column}_holm"] = holm(list(table[column]))
    return table


def _difference(of: dict[str, Drawn], a: Arm, b: Arm) -> Difference:
    (value_a, draws_a), (value_b, draws_b) = of[a.name], of[b.name]
    return difference_of(value_a - value_b, draws_a - draws_b)


def _mcnemar(a: Arm, b: Arm) -> float:
    """The largest p over the seeds, equal seeds paired; one table meets every seed of the other."""
    ours, theirs = (dict(zip(arm.seeds, arm.tables, strict=False)) for arm in (a, b))
    if set(ours) == set(theirs):
        return max(mcnemar(ours[seed], theirs[seed]) for seed in ours)
    return max(mcnemar(*pair) for pair in itertools.product(a.tables, b.tables))
