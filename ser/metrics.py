"""The one definition of every figure we print: confusion counts first, then what follows from them.

A confusion matrix here is ``counts: (classes, classes)``, rows the reference and columns the
prediction, so a loop that accumulates counts on the device scores exactly as one that keeps names.

Keys of a score: ``uar``, ``war``, ``macro_f1``, ``recall/<emotion>``; of a group:
``corpus/<name>/uar``, ``sex/<sex>/war``, ``without_tess/uar`` and so on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.errors import SerError

Counts = npt.NDArray[np.int64]  # (classes, classes), rows the reference
Figures = npt.NDArray[np.float64]  # (classes,)

ADDED = {"age", "temperature"}  # columns that tables of older runs do not have
TESS = "tess"  # near 99 % for any encoder: it hides what the other corpora say (EmoBox, 2024)


def confusion(truth: Iterable[str], prediction: Iterable[str], classes: Sequence[str]) -> Counts:
    """Count (reference, prediction) pairs over ``classes``, in their order.

    Raises SerError for no clips, unequal lengths, or a name outside ``classes``.
    """
    true_names, predicted_names = pd.Index(list(truth)), pd.Index(list(prediction))
    if not len(true_names) or len(true_names) != len(predicted_names):
        raise SerError(
            f"Cannot score {len(true_names)} references against {len(predicted_names)} "
            "predictions: each clip needs one of both, and there must be at least one clip."
        )
    index = pd.Index(list(classes))
    rows, columns = index.get_indexer(true_names), index.get_indexer(predicted_names)
    unknown = {*true_names[rows < 0], *predicted_names[columns < 0]}
    if unknown:
        raise SerError(
            f"Emotions outside the classes being scored: {', '.join(sorted(map(str, unknown)))}. "
            f"The classes are {', '.join(classes)}. Map or drop the others before scoring "
            "(dataset.labels does)."
        )
    counts = np.zeros((len(index), len(index)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def counts_of(predictions: pd.DataFrame, classes: Sequence[str]) -> Counts:
    """`confusion` of a predictions table's columns truth and prediction."""
    return confusion(predictions["truth"], predictions["prediction"], classes)


def class_recall(counts: Counts) -> Figures:
    """Share of each reference class that was recognised; NaN for a class with no clip."""
    return _ratio(np.diag(counts), counts.sum(axis=1))


def class_precision(counts: Counts) -> Figures:
    """Share of each predicted class that was right; NaN for a class never predicted."""
    return _ratio(np.diag(counts), counts.sum(axis=0))


def class_f1(counts: Counts) -> Figures:
    """2 TP / (2 TP + FP + FN) of each class; NaN for one in neither reference nor prediction."""
    return _ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def uar(counts: Counts) -> float:
    """Unweighted average recall: the mean over the classes that are present in the reference.

    This is scikit-learn's balanced accuracy. torchmetrics' macro recall also averages in a zero
    for a class that was predicted but never spoken (truth 0 1 1, prediction 0 2 1: 0.75 against
    0.50), which is why nothing else may compute this.
    """
    return float(np.nanmean(class_recall(counts)))


def war(counts: Counts) -> float:
    """Weighted average recall, that is accuracy: the share of clips that were recognised."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: Counts) -> float:
    """Mean F1 over the classes present in the reference or the prediction.

    The same classes as scikit-learn's ``f1_score(average="macro")`` without ``labels``.
    """
    return float(np.nanmean(class_f1(counts)))


METRICS: dict[str, Callable[[Counts], float]] = {"uar": uar, "war": war, "macro_f1": macro_f1}
METRIC_NAMES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro F1"}
"""What is taken over all classes, and what people read it as."""


def score_counts(counts: Counts, classes: Sequence[str]) -> dict[str, float]:
    """Every figure of one confusion matrix; a class with no clip has no ``recall/`` key.

    Raises SerError when the matrix is empty or its shape does not fit ``classes``.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(classes), len(classes)) or not counts.sum():
        raise SerError(
            f"A confusion matrix of shape {counts.shape} with {int(counts.sum())} clips cannot be "
            f"scored on {len(classes)} classes ({', '.join(classes)}): it needs one row and one "
            "column a class, and at least one clip."
        )
    figures = {key: metric(counts) for key, metric in METRICS.items()}
    recalls = zip(classes, class_recall(counts), strict=True)
    return figures | {f"recall/{name}": float(r) for name, r in recalls if not np.isnan(r)}


def score_groups(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """The overall score, then UAR and WAR by corpus, by sex, and pooled without TESS.

    ``predictions`` has one row a clip with columns truth, prediction, corpus, sex. Clips whose
    sex is unknown belong to no sex; ``without_tess`` is there when TESS is one of several corpora.
    """
    figures = score_counts(counts_of(predictions, classes), classes)
    for name, group in split_groups(predictions):
        counts = counts_of(group, classes)
        figures |= {f"{name}/uar": uar(counts), f"{name}/war": war(counts)}
    return figures


def split_groups(predictions: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts of a predictions table that are scored apart, each with its key's prefix.

    ``corpus/<name>``, ``sex/<sex>``, and ``without_tess`` when TESS is one of several corpora.
    """
    for column in ("corpus", "sex"):
        for name, group in predictions.groupby(column, sort=True, dropna=True):
            yield f"{column}/{name}", group
    is_tess = predictions["corpus"] == TESS
    if is_tess.any() and not is_tess.all():
        yield "without_tess", predictions[~is_tess]


def class_report(counts: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and support, one row a class; NaN where a figure has no denominator."""
    columns = {
        "precision": class_precision(counts),
        "recall": class_recall(counts),
        "f1": class_f1(counts),
        "support": counts.sum(axis=1),
    }
    return pd.DataFrame(columns, index=pd.Index(list(classes), name="emotion"))


def report_text(counts: Counts, classes: Sequence[str]) -> str:
    """The per-class report and the three overall figures as plain text."""
    table = class_report(counts, classes).to_string(
        float_format="{:.3f}".format, na_rep="-", index_names=False
    )
    summary = "   ".join(
        f"{METRIC_NAMES[key]} {metric(counts):.3f}" for key, metric in METRICS.items()
    )
    return f"{table}\n\n{summary}   clips {int(counts.sum())}\n"


def pool_folds(folds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One predictions table out of the folds' own, so that every clip is scored once.

    Raises SerError when there is none, when their columns differ (other classes), or when a clip
    was tested in more than one fold.
    """
    if not folds:
        raise SerError("There are no predictions to pool: give at least one fold's table.")
    odd = set().union(*(set(fold.columns) ^ set(folds[0].columns) for fold in folds)) - ADDED
    if odd:
        raise SerError(
            f"The folds differ in columns; these are not in all: {', '.join(sorted(odd))}. "
            "Pool only folds of one recipe: same dataset, label set and split."
        )
    pooled = pd.concat(folds, ignore_index=True)
    repeated = pooled["id"][pooled["id"].duplicated()].unique()
    if len(repeated):
        raise SerError(
            f"{len(repeated)} clips are in more than one fold, for example {repeated[0]}: a clip "
            "may be scored once. Pool the folds of one split and one seed."
        )
    return pooled


def _ratio(part: Counts, whole: Counts) -> Figures:
    """Divide class by class; NaN where there is nothing to divide by."""
    ratios = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratios, where=whole > 0)
    return ratios
