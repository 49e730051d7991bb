"""A protocol's figures against scikit-learn and ser.statistics; who is tested against whom."""

import numpy as np
import pandas as pd
import pytest
from bootstrap import bootstrap_difference, bootstrap_interval
from protocol_runs import CLASSES, finished_children
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, recall_score

from ser import statistics
from ser.errors import SerError
from ser.metrics import uar
from ser.protocol import AVERAGED, Arm, Protocol, read_protocol, seed_averaged
from ser.results_table import Results, compute_results

ARMS = {"chance": 0.0, "linear": 0.5, "tim": 0.4, "ensemble": 0.8}
N_DRAWS = 100


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Protocol:
    corpora = {"ravdess": 12, "tess": 2}  # of the one whole speakers are drawn, not of the other
    root = tmp_path_factory.mktemp("runs")
    return read_protocol(finished_children(root, ARMS, seeds=2, corpora=corpora), "mine", "")


@pytest.fixture(scope="module")
def results(protocol) -> Results:
    return compute_results(protocol, n_draws=N_DRAWS)


def row(results: Results, arm: str, metric: str, part: str = "all") -> "pd.Series[float]":
    figures = results.figures
    chosen = (figures["arm"] == arm) & (figures["metric"] == metric) & (figures["part"] == part)
    (found,) = figures.index[chosen]
    return figures.loc[found]


def tables(protocol: Protocol, name: str) -> tuple[pd.DataFrame, ...]:
    (arm,) = [arm for arm in protocol.arms if arm.name == name]
    return arm.tables


def test_figures_are_means_over_seeds_and_agree_with_scikit_learn(protocol, results):
    scores = {
        "uar": balanced_accuracy_score,
        "war": lambda truth, prediction: (truth == prediction).mean(),
        "macro_f1": lambda truth, prediction: f1_score(truth, prediction, average="macro"),
        "recall/sad": lambda truth, prediction: recall_score(
            truth, prediction, labels=["sad"], average="macro"
        ),
    }
    for name, score in scores.items():
        values = pd.Series([score(t["truth"], t["prediction"]) for t in tables(protocol, "tim")])
        found = row(results, "tim", name)
        assert found["value"] == pytest.approx(values.mean())
        assert found["seed_sd"] == pytest.approx(values.std())
        assert found["low"] < found["value"] < found["high"]


def test_corpora_and_all_but_tess_are_scored_apart(protocol, results):
    parts = set(results.figures["part"])
    assert parts == {"all", "without_tess", "corpus/ravdess", "corpus/tess"}
    of_tess = results.figures[results.figures["part"] == "corpus/tess"]
    assert set(of_tess["metric"]) == {"uar", "war", "macro_f1"}
    seeds = [t[t["corpus"] == "tess"] for t in tables(protocol, "ensemble")]
    values = [balanced_accuracy_score(t["truth"], t["prediction"]) for t in seeds]
    found = row(results, "ensemble", "uar", "corpus/tess")
    assert found["value"] == pytest.approx(sum(values) / 2) and found["clips"] == 24
    without, ravdess = (
        row(results, "ensemble", "war", part) for part in ("without_tess", "corpus/ravdess")
    )
    assert (without["value"], without["low"]) == (ravdess["value"], ravdess["low"])


def test_the_interval_of_a_single_table_is_that_of_ser_statistics(protocol, results):
    (mean,) = average_of(protocol, "tim").tables
    expected = bootstrap_interval(mean, CLASSES, uar, n_draws=N_DRAWS)
    found = row(results, "tim" + AVERAGED, "uar")
    assert (found["low"], found["high"]) == pytest.approx(expected)


def average_of(protocol: Protocol, name: str) -> Arm:
    (arm,) = [arm for arm in protocol.arms if arm.name == name]
    averaged = seed_averaged(arm)
    assert averaged is not None
    return averaged


def test_folds_are_scored_by_themselves(protocol, results):
    folds = results.folds[results.folds["arm"] == "linear"]
    assert len(folds) == 4 and set(folds["clips"]) == {84}
    first = tables(protocol, "linear")[0]
    own = first[first["fold"] == 1]
    (value,) = folds[(folds["seed"] == "0") & (folds["fold"] == 1)]["uar"]
    assert value == pytest.approx(balanced_accuracy_score(own["truth"], own["prediction"]))
    by_fold = folds.groupby("fold")["uar"].mean()
    found = row(results, "linear", "uar")
    assert found["fold_mean"] == pytest.approx(by_fold.mean())
    assert found["fold_sd"] == pytest.approx(by_fold.std())


def test_the_ensemble_is_tested_against_every_arm_and_seed_average(results):
    pairs = set(zip(results.tests["arm"], results.tests["against"], strict=True))
    mine, others = "ensemble", ("linear", "tim")
    expected = {(mine, other + end) for other in others for end in ("", AVERAGED)}
    expected |= {(mine + AVERAGED, other + AVERAGED) for other in others}
    assert pairs == expected and results.reference == "ensemble" and not results.chosen


def test_tests_are_those_of_ser_statistics_corrected_over_the_table(protocol, results):
    ours, theirs = (average_of(protocol, name).tables[0] for name in ("ensemble", "tim"))
    tests = results.tests.set_index(["arm", "against"])
    found = tests.loc[("ensemble" + AVERAGED, "tim" + AVERAGED)]
    difference = bootstrap_difference(ours, theirs, CLASSES, uar, n_draws=N_DRAWS)
    columns = ["uar_difference", "low", "high", "p"]
    assert tuple(found[columns]) == pytest.approx(tuple(difference))
    assert found["mcnemar"] == pytest.approx(statistics.mcnemar(ours, theirs))
    assert list(results.tests["p_holm"]) == statistics.holm(list(results.tests["p"]))
    seeds = zip(tables(protocol, "ensemble"), tables(protocol, "tim"), strict=True)
    largest = max(statistics.mcnemar(a, b) for a, b in seeds)
    assert tests.loc[("ensemble", "tim")]["mcnemar"] == pytest.approx(largest)


def test_nll_agrees_with_scikit_learn_and_is_tested_too(protocol, results):
    names = sorted(CLASSES)
    columns = [f"probability_{name}" for name in names]

    def mean_over_seeds(arm: str) -> float:
        losses = [log_loss(t["truth"], t[columns], labels=names) for t in tables(protocol, arm)]
        return sum(losses) / len(losses)

    def on_draws(arm: str, whole_from: int | None) -> np.ndarray:
        drawn = statistics.draw_clips(protocol.clips, n_draws=N_DRAWS, whole_from=whole_from)
        truth = protocol.clips["truth"].map(names.index)
        losses = [-np.log(t[columns].to_numpy()[t.index, truth]) for t in tables(protocol, arm)]
        return np.array([np.average(np.mean(losses, 0), weights=draw) for draw in drawn])

    found = row(results, "tim", "nll")
    assert found["value"] == pytest.approx(mean_over_seeds("tim"))
    interval = statistics.interval_of(on_draws("tim", None))
    assert (found["low"], found["high"]) == pytest.approx(interval)
    pair = results.tests.set_index(["arm", "against"]).loc[("ensemble", "tim")]
    difference = mean_over_seeds("ensemble") - mean_over_seeds("tim")
    draws = (on_draws(arm, statistics.WHOLE_FROM) for arm in ("ensemble", "tim"))
    expected = statistics.difference_of(difference, np.subtract(*draws))
    assert tuple(pair[["nll_difference", "nll_low", "nll_high", "nll_p"]]) == pytest.approx(
        tuple(expected)
    )
    assert expected.p < 0.02 and expected.high < 0
    tests = results.tests
    assert list(tests["nll_p_holm"]) == statistics.holm(list(tests["nll_p"]))


def test_controls_whose_seeds_agree_have_no_average_and_chance_no_test(results):
    assert "chance" + AVERAGED not in set(results.figures["arm"])
    assert row(results, "chance", "uar")["seed_sd"] == 0
    assert not results.tests["against"].str.startswith("chance").any()


def test_another_reference_and_one_that_is_no_arm(protocol):
    results = compute_results(protocol, reference="linear", n_draws=20)
    assert set(results.tests["arm"]) == {"linear", "linear" + AVERAGED}
    with pytest.raises(SerError, match=r"sweep.reference=cnn is no arm .* linear, tim, ensemble"):
        compute_results(protocol, reference="cnn", n_draws=20)


def test_without_an_ensemble_the_best_arm_is_taken_and_said_to_be(tmp_path):
    children = finished_children(tmp_path, {"tim": 0.3, "linear": 0.9}, folds=1)
    results = compute_results(read_protocol(children, "mine", ""), n_draws=20)
    assert results.reference == "linear" and results.chosen and len(results.tests) == 1
    assert set(results.figures["part"]) == {"all"}
    assert results.figures["fold_sd"].isna().all() and results.figures["seed_sd"].isna().all()


def test_one_arm_alone_has_no_test(tmp_path):
    children = finished_children(tmp_path, {"tim": 0.3})
    results = compute_results(read_protocol(children, "mine", ""), n_draws=20)
    assert results.tests.empty and len(results.folds) == 2
