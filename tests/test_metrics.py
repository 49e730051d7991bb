"""Every figure against a hand-computed case and against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from ser import metrics
from ser.errors import SerError

CLASSES = ("neutral", "happy", "sad", "angry")


def draw(seed: int, spoken: tuple[str, ...], guessed: tuple[str, ...]) -> tuple[list, list]:
    generator = np.random.default_rng(seed)
    return list(generator.choice(spoken, 60)), list(generator.choice(guessed, 60))


def score(truth: list[str], prediction: list[str]) -> dict[str, float]:
    return metrics.score_counts(metrics.confusion(truth, prediction, CLASSES), CLASSES)


def table(rows: list[tuple[str, str, str, str | None]]) -> pd.DataFrame:
    predictions = pd.DataFrame(rows, columns=["truth", "prediction", "corpus", "sex"])
    return predictions.assign(id=[f"clip_{i}" for i in range(len(rows))])


def test_a_class_that_is_predicted_but_never_spoken_is_not_averaged_in() -> None:
    counts = metrics.confusion(["a", "b", "b"], ["a", "c", "b"], ["a", "b", "c"])
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert metrics.uar(counts) == 0.75  # torchmetrics' macro recall says 0.50
    assert metrics.war(counts) == pytest.approx(2 / 3)
    assert metrics.macro_f1(counts) == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize(
    ("spoken", "guessed"),
    [
        (CLASSES, CLASSES),
        (CLASSES[:3], CLASSES),  # a class with no clip
        (CLASSES, CLASSES[:2]),  # classes never predicted
        (CLASSES[:2], CLASSES[:2]),  # classes in neither
        (CLASSES[:1], CLASSES[3:]),  # nothing right
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_figures_agree_with_scikit_learn(seed: int, spoken: tuple, guessed: tuple) -> None:
    truth, prediction = draw(seed, spoken, guessed)
    figures = score(truth, prediction)
    assert figures["uar"] == pytest.approx(reference.balanced_accuracy_score(truth, prediction))
    assert figures["war"] == pytest.approx(reference.accuracy_score(truth, prediction))
    assert figures["macro_f1"] == pytest.approx(
        reference.f1_score(truth, prediction, average="macro")
    )
    counts = metrics.confusion(truth, prediction, CLASSES)
    expected = reference.confusion_matrix(truth, prediction, labels=CLASSES)
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_report_agrees_with_scikit_learn(seed: int) -> None:
    truth, prediction = draw(seed, CLASSES[:3], CLASSES[1:])
    report = metrics.class_report(metrics.confusion(truth, prediction, CLASSES), CLASSES)
    expected = reference.precision_recall_fscore_support(
        truth, prediction, labels=CLASSES, zero_division=np.nan
    )
    for column, values in zip(report.columns, expected, strict=True):
        np.testing.assert_allclose(report[column].to_numpy(), values, err_msg=column)


def test_absent_classes_have_no_recall_key() -> None:
    figures = score(["sad", "sad"], ["sad", "angry"])
    assert figures == pytest.approx(
        {"uar": 0.5, "war": 0.5, "macro_f1": (2 / 3 + 0) / 2, "recall/sad": 0.5}
    )


def test_counts_accumulated_elsewhere_score_the_same() -> None:
    truth, prediction = draw(3, CLASSES, CLASSES)
    halves = (slice(0, 30), slice(30, 60))
    counts = sum(metrics.confusion(truth[h], prediction[h], CLASSES) for h in halves)
    assert metrics.score_counts(counts, CLASSES) == score(truth, prediction)


def test_groups_are_scored_apart() -> None:
    rows = [
        ("happy", "happy", "tess", "female"),
        ("sad", "sad", "tess", "female"),
        ("happy", "sad", "ravdess", "male"),
        ("sad", "sad", "ravdess", "female"),
        ("happy", "happy", "folder", None),
    ]
    figures = metrics.score_groups(table(rows), CLASSES)
    assert figures["war"] == pytest.approx(0.8)
    assert figures["corpus/tess/uar"] == 1.0
    assert figures["corpus/ravdess/uar"] == 0.5
    assert figures["corpus/folder/war"] == 1.0
    assert figures["sex/male/uar"] == 0.0
    assert figures["sex/female/war"] == 1.0
    assert figures["without_tess/war"] == pytest.approx(2 / 3)
    assert figures["without_tess/uar"] == pytest.approx(0.75)
    assert not [key for key in figures if "None" in key or "nan" in key]


@pytest.mark.parametrize("corpus", ["tess", "ravdess"])
def test_without_tess_needs_tess_and_another_corpus(corpus: str) -> None:
    figures = metrics.score_groups(table([("sad", "sad", corpus, "female")]), CLASSES)
    assert "without_tess/uar" not in figures
    assert figures[f"corpus/{corpus}/uar"] == 1.0


def test_pooled_folds_score_every_clip_once() -> None:
    folds = [table([("sad", "sad", "emodb", "male")] * 3) for _ in range(2)]
    folds[1]["id"] = ["x", "y", "z"]
    pooled = metrics.pool_folds([folds[0], folds[1][folds[1].columns[::-1]]])
    assert len(pooled) == 6
    assert list(pooled.columns) == list(folds[0].columns)
    assert pooled.index.tolist() == list(range(6))


def test_report_text_prints_a_dash_for_what_cannot_be_known() -> None:
    text = metrics.report_text(metrics.confusion(["sad"], ["sad"], CLASSES), CLASSES)
    lines = text.splitlines()
    assert lines[0].split() == ["precision", "recall", "f1", "support"]
    assert lines[1].split() == ["neutral", "-", "-", "-", "0"]
    assert lines[3].split() == ["sad", "1.000", "1.000", "1.000", "1"]
    assert lines[-1] == "UAR 1.000   WAR 1.000   macro F1 1.000   clips 1"


def test_errors_name_the_culprit() -> None:
    with pytest.raises(SerError, match="0 references against 0 predictions"):
        score([], [])
    with pytest.raises(SerError, match="2 references against 1 predictions"):
        score(["sad", "sad"], ["sad"])
    with pytest.raises(SerError, match=r"outside the classes being scored: bored, boredom\. "):
        score(["sad", "boredom"], ["bored", "sad"])
    with pytest.raises(SerError, match=r"shape \(3, 3\) with 0 clips cannot be scored on 4"):
        metrics.score_counts(np.zeros((3, 3), dtype=np.int64), CLASSES)
    fold = table([("sad", "sad", "emodb", "male")])
    with pytest.raises(SerError, match="no predictions to pool"):
        metrics.pool_folds([])
    with pytest.raises(SerError, match="more than one fold, for example clip_0"):
        metrics.pool_folds([fold, fold])
    with pytest.raises(SerError, match="not in all: probability_calm"):
        metrics.pool_folds([fold, fold.assign(probability_calm=0.5)])
