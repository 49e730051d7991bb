"""How sure a figure is: intervals by bootstrap over speakers, and paired tests between two arms.

A predictions table has one row a clip with the columns id, corpus, speaker, truth, prediction
(`ser.scoring.predict_clips`). A metric is a function of confusion counts, as in `ser.metrics`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.errors import SerError
from ser.metrics import Counts, counts_of

Weights = npt.NDArray[np.float32]  # (draws, clips): how often each draw holds each clip
Values = npt.NDArray[np.float64]  # (draws,)
Metric = Callable[[Counts], float]

N_DRAWS = 2000  # the 2.5 % point then moves by a hundredth of the interval from seed to seed
LEVEL = 0.95
WHOLE_FROM = 10  # with fewer, whole speakers give too few different draws
FEW_SPEAKERS = 10  # so few or fewer: the intervals are too narrow (`draw_clips`)


class Interval(NamedTuple):
    """Ends of a percentile interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """`metric(a) - metric(b)` on the same clips: as measured, its interval and two-sided p."""

    mean: float
    low: float
    high: float
    p: float


def draw_clips(
    predictions: pd.DataFrame,
    *,
    n_draws: int = N_DRAWS,
    whole_from: int | None = None,
) -> Weights:
    """Bootstrap draws in two stages: speakers with replacement, then clips of each drawn speaker.

    Speakers are drawn within their corpus, since a corpus is chosen and not sampled; one of two
    corpora (RAVDESS' actors speak and sing) is drawn once, with the clips of both. A speaker
    drawn twice gives twice as many clips, drawn anew. With one speaker in a corpus the draws vary
    its clips only: the interval then says nothing of other speakers. In a corpus of `whole_from`
    speakers or more a drawn speaker brings each of its clips once: the second stage is left out.
    (Davison & Hinkley 1997, Bootstrap Methods, section 3.8.)

    A nominal 95 % interval of UAR held the true value of simulated speakers (60 clips each; sd of
    a speaker's effect .3, .7, 1.2 logits) in .98, .95, .94 of 400 sets of 24 speakers, and in .96,
    .93, .91 of 10 and .95, .86, .82 of 4: with few speakers it is too narrow. Without any speaker
    effect it is too wide (.99), since drawing clips again adds their variance a second time.
    Whole speakers are for differences of two arms: of 150 sets of 24 speakers with two equal arms,
    p was < .05 in .03 (with clips drawn again: in none; McNemar: in .03, .09, .31 as arms differ
    more from speaker to speaker). tests/test_statistics.py repeats this.
    """
    if predictions.empty:
        raise SerError("There are no predictions to draw from: a bootstrap needs at least one.")
    random = np.random.default_rng(0)
    weights = np.zeros((n_draws, len(predictions)), dtype=np.float32)
    for rows_of_speakers in _speakers_by_corpus(predictions):
        n_speakers = len(rows_of_speakers)
        times = random.multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), size=n_draws)
        whole = whole_from is not None and n_speakers >= whole_from
        for rows, drawn in zip(rows_of_speakers, times.T, strict=True):
            if whole:
                weights[:, rows] = drawn[:, None]
                continue
            weights[:, rows] = random.multinomial(
                drawn * len(rows), np.full(len(rows), 1 / len(rows))
            )
    return weights


def metric_draws(
    weights: Weights, predictions: pd.DataFrame, classes: Sequence[str], metric: Metric
) -> Values:
    """The metric on each draw: (draws,); its clips are the columns of `weights`, in order.

    A class with no clip in a draw is left out of that draw's UAR, as `ser.metrics` leaves out a
    class with no clip at all. A draw with no clip (of a group within the clips drawn) gives NaN.
    """
    n_classes = len(classes)
    counts_of(predictions, classes)  # names a label that is none of the classes
    number = {name: k for k, name in enumerate(classes)}
    rows, columns = (predictions[key].map(number) for key in ("truth", "prediction"))
    cells = (n_classes * rows + columns).to_numpy(dtype=np.intp)
    used, cell = np.unique(cells, return_inverse=True)
    one_hot = np.eye(len(used), dtype=np.float32)[cell]  # (clips, used cells)
    flat = np.zeros((len(weights), n_classes * n_classes), dtype=np.int64)
    flat[:, used] = weights @ one_hot
    counts = flat.reshape(-1, n_classes, n_classes)
    return np.array([metric(draw) if draw.any() else np.nan for draw in counts])


def interval_of(draws: Values) -> Interval:
    """The percentile interval of bootstrap draws, at LEVEL; NaN draws are left out."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))


def difference_of(observed: float, draws: Values) -> Difference:
    """Interval and p of a difference from its draws.

    p is twice the smaller share of draws on either side of zero, the sample itself counted in, so
    it is never below 2 / (draws + 1).
    """
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    return Difference(observed, *interval_of(draws), float(p))


def mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Exact two-sided p that two arms are right equally often, from the clips one alone gets right.

    It takes clips as independent. Clips of one speaker are not, so p is too small where arms
    differ from speaker to speaker; the draws of `draw_clips` have no such assumption. Raises
    SerError when the tables hold different clips.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_test

    b = align(a, b)
    a_right = (a["truth"] == a["prediction"]).to_numpy()
    b_right = (b["truth"] == b["prediction"]).to_numpy()
    table = [
        [(a_right & b_right).sum(), (a_right & ~b_right).sum()],
        [(~a_right & b_right).sum(), (~a_right & ~b_right).sum()],
    ]
    return float(exact_test(table, exact=True).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected by Holm's step-down method for having made all of these tests."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(ps, method="holm")[1]] if len(ps) else []


def align(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """`b` in the order of `a`'s clips; SerError when ids or truths differ."""
    for name, table in (("first", a), ("second", b)):
        repeated = table["id"][table["id"].duplicated()]
        if len(repeated):
            raise SerError(f"The {name} table has {repeated.iloc[0]} twice: a clip is scored once.")
    odd = sorted(set(a["id"]) ^ set(b["id"]))
    if odd:
        raise SerError(
            f"{len(odd)} clips are in one table only, for example {odd[0]}. A paired test needs "
            "the same clips in both: take runs of one manifest and split."
        )
    ordered = b.set_index("id").loc[a["id"]].reset_index()
    differ = ordered["id"][ordered["truth"].to_numpy() != a["truth"].to_numpy()]
    if len(differ):
        raise SerError(
            f"{len(differ)} clips differ in their true emotion, for example {differ.iloc[0]}. "
            "Compare runs of one label set (dataset.labels)."
        )
    return ordered


def _speakers_by_corpus(predictions: pd.DataFrame) -> Iterator[list[npt.NDArray[np.intp]]]:
    """Row numbers of each speaker, one list a corpus; a speaker is of the first of theirs."""
    places = predictions[["corpus", "speaker"]].reset_index(drop=True)
    home = places.groupby("speaker", dropna=False)["corpus"].transform("min")
    for _, corpus in places.groupby(home, sort=True, dropna=False):
        groups = corpus.groupby("speaker", sort=True, dropna=False)
        yield [rows.index.to_numpy() for _, rows in groups]
