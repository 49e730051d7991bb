"""Intervals and paired tests: by hand, against scipy, and coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
from bootstrap import bootstrap_difference, bootstrap_interval
from scipy import stats

from ser.errors import SerError
from ser.metrics import confusion, macro_f1, uar, war
from ser.statistics import (
    Interval,
    align,
    difference_of,
    draw_clips,
    holm,
    interval_of,
    mcnemar,
    metric_draws,
)

CLASSES = ("angry", "happy", "neutral", "sad")
CHANCES = (0.88, 0.82, 0.73, 0.57)  # recall of each class by a speaker without an effect


def speech(seed: int, speakers: int, clips: int, spread: float = 0.5) -> pd.DataFrame:
    """Balanced clips; a speaker moves every recall by a normal effect (logits, sd `spread`)."""
    random = np.random.default_rng(seed)
    size = speakers * clips
    truth, speaker = np.arange(size) % len(CLASSES), np.arange(size) // clips
    logit = np.log(np.array(CHANCES) / (1 - np.array(CHANCES)))[truth]
    chance = 1 / (1 + np.exp(-logit - random.normal(0, spread, speakers)[speaker]))
    other = (truth + random.integers(1, len(CLASSES), size)) % len(CLASSES)
    names = np.array(CLASSES)
    return pd.DataFrame(
        {
            "id": [f"clip_{row}" for row in range(size)],
            "corpus": "made_up",
            "speaker": [f"s{number}" for number in speaker],
            "truth": names[truth],
            "prediction": names[np.where(random.random(size) < chance, truth, other)],
        }
    )


def true_uar(spread: float) -> float:
    """Expected UAR over speakers, by Gauss-Hermite quadrature."""
    points, shares = np.polynomial.hermite_e.hermegauss(61)
    logit = np.log(np.array(CHANCES) / (1 - np.array(CHANCES)))
    recalls = 1 / (1 + np.exp(-logit[:, None] - spread * points))
    return float((recalls @ (shares / shares.sum())).mean())


def coverage(speakers: int, clips: int, spread: float, data_sets: int) -> float:
    truth = true_uar(spread)
    intervals = [
        bootstrap_interval(speech(seed, speakers, clips, spread), CLASSES, uar, n_draws=200)
        for seed in range(data_sets)
    ]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_the_interval_holds_the_true_uar_about_as_often_as_it_says():
    assert 0.90 <= coverage(24, 40, 0.7, data_sets=60) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speakers", "spread", "low", "high"),
    [(24, 0, 0.97, 1), (24, 0.7, 0.92, 0.97), (10, 0.7, 0.89, 0.95), (4, 0.7, 0.82, 0.9)],
)
def test_coverage_as_the_docstring_has_it(speakers, spread, low, high):
    assert low <= coverage(speakers, 60, spread, data_sets=400) <= high


def test_with_four_speakers_it_holds_it_less_often():
    assert coverage(4, 60, 1.2, data_sets=60) < 0.90


def test_a_draw_holds_speakers_with_replacement_and_their_clips_anew():
    table = speech(0, speakers=6, clips=8)
    weights = draw_clips(table, n_draws=3000)
    assert (weights.sum(axis=1) == len(table)).all()
    of_speaker = weights.reshape(3000, 6, 8).sum(axis=2) / 8
    assert (of_speaker == of_speaker.round()).all()  # whole speakers, each as often as drawn
    assert of_speaker.mean() == 1 and set(np.unique(of_speaker)) >= {0, 1, 2, 3}
    once = weights.reshape(3000, 6, 8)[of_speaker == 1]
    assert once.var() == pytest.approx(1 - 1 / 8, rel=0.05)  # and clips with replacement within


def in_corpus(corpus: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(corpus=corpus, speaker=f"{corpus}_" + table["speaker"])


def test_speakers_are_drawn_within_their_corpus():
    other = in_corpus("other", speech(1, speakers=2, clips=40))
    weights = draw_clips(pd.concat([speech(0, speakers=5, clips=4), other]), n_draws=50)
    assert (weights[:, :20].sum(axis=1) == 20).all() and (weights[:, 20:].sum(axis=1) == 80).all()


def test_a_speaker_with_clips_in_two_corpora_is_drawn_once_with_all_of_them():
    spoken, sung = speech(0, speakers=12, clips=4), speech(1, speakers=12, clips=8)
    both = pd.concat([spoken, sung.assign(corpus="song")])
    weights = draw_clips(both, n_draws=50, whole_from=10)
    times, again = weights[:, :48].reshape(50, 12, 4), weights[:, 48:].reshape(50, 12, 8)
    assert (times[:, :, 0] == again[:, :, 0]).all() and (weights.sum(axis=1) == len(both)).all()


def test_whole_speakers_bring_each_of_their_clips_once_for_each_time_drawn():
    table = pd.concat([speech(0, 10, 4), in_corpus("small", speech(1, 2, 4))])
    weights = draw_clips(table, n_draws=100, whole_from=10)
    large, small = weights[:, :40].reshape(100, 10, 4), weights[:, 40:].reshape(100, 2, 4)
    assert (large == large[:, :, :1]).all() and (large.sum(axis=(1, 2)) == 40).all()
    assert (small != small[:, :, :1]).any()  # two speakers alone: clips are drawn, too


def test_draws_of_speakers_do_not_depend_on_the_order_of_the_clips():
    table = pd.concat([speech(0, speakers=5, clips=4), in_corpus("other", speech(1, 3, 4))])
    mixed = table.reset_index(drop=True).sample(frac=1, random_state=0)
    weights, again = (draw_clips(one, n_draws=50, whole_from=2) for one in (table, mixed))
    assert (weights[:, mixed.index] == again).all() and not (weights[0] == weights).all()


@pytest.mark.parametrize("metric", [uar, war, macro_f1])
def test_the_metric_of_a_draw_is_that_of_the_clips_it_holds(metric):
    table = speech(0, speakers=4, clips=12)
    weights = draw_clips(table, n_draws=20)
    for draw, value in zip(weights, metric_draws(weights, table, CLASSES, metric), strict=True):
        clips = table.loc[table.index.repeat(draw.astype(int))]
        assert value == metric(confusion(clips["truth"], clips["prediction"], CLASSES))


def test_one_clip_a_speaker_is_the_plain_bootstrap_of_scipy():
    table = speech(3, speakers=300, clips=1)
    right = (table["truth"] == table["prediction"]).to_numpy()
    ours = bootstrap_interval(table, CLASSES, war, n_draws=4000)
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    # both stages draw: the second changes nothing where a speaker has one clip
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_a_class_absent_from_a_draw_is_left_out_of_its_uar():
    table = speech(0, speakers=2, clips=4)
    weights = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [0] * 8], dtype=np.float32)
    first = table.iloc[:3]
    value, empty = metric_draws(weights, table, CLASSES, uar)
    assert value == (first["truth"] == first["prediction"]).mean() and np.isnan(empty)
    assert interval_of(np.array([value, np.nan])) == (value, value)


def test_a_rare_class_widens_the_interval_and_breaks_nothing():
    table = speech(0, speakers=12, clips=8)
    rare = table[(table["truth"] != "sad") | (table["speaker"] == "s0")].reset_index(drop=True)
    whole, thin = (bootstrap_interval(t, CLASSES, uar) for t in (table, rare))
    assert thin.high - thin.low > whole.high - whole.low


def test_percentiles_of_draws():
    interval = interval_of(np.arange(1001.0))
    assert isinstance(interval, Interval) and interval == pytest.approx((25, 975))


def test_a_difference_is_paired_by_clip_and_not_by_row():
    a = speech(0, speakers=10, clips=8)
    same = bootstrap_difference(a, a.sample(frac=1, random_state=0), CLASSES, uar)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_has_the_sign_of_a_minus_b_and_a_p():
    b = speech(0, speakers=20, clips=20)
    a = b.copy()
    mended = a.index[(a["truth"] != a["prediction"])][::2]
    a.loc[mended, "prediction"] = a.loc[mended, "truth"]
    better = bootstrap_difference(a, b, CLASSES, war)
    assert better.mean == pytest.approx(len(mended) / len(a)) and better.low > 0
    assert better.low < better.mean < better.high and better.p == pytest.approx(2 / 2001)
    assert bootstrap_difference(b, a, CLASSES, war).mean == -better.mean


def test_the_p_of_a_difference_is_twice_the_smaller_share():
    draws = np.array([-1.0] * 4 + [1.0] * 95)
    assert difference_of(0.9, draws).p == pytest.approx(2 * 5 / 100)
    assert difference_of(0.0, np.array([-1.0, 1.0])).p == 1.0


def test_two_equal_arms_seldom_differ():
    ps = []
    for seed in range(60):
        a = speech(seed, speakers=12, clips=12)
        b = a.assign(prediction=speech(1000 + seed, 12, 12)["prediction"])
        ps.append(bootstrap_difference(a, b, CLASSES, war, n_draws=200).p)
    assert np.mean(np.array(ps) < 0.05) <= 0.1


def right_and_wrong(a_only: int, b_only: int, both: int = 7, neither: int = 5) -> list:
    right = ([1, 0], [0, 1], [1, 1], [0, 0])
    rows = [
        pair
        for pair, n in zip(right, (a_only, b_only, both, neither), strict=True)
        for _ in range(n)
    ]
    ids = [f"clip_{number}" for number in range(len(rows))]
    names = {1: "sad", 0: "happy"}
    return [
        pd.DataFrame({"id": ids, "truth": "sad", "prediction": [names[r[arm]] for r in rows]})
        for arm in (0, 1)
    ]


@pytest.mark.parametrize(("a_only", "b_only"), [(9, 2), (2, 9), (5, 5), (40, 20), (1, 0)])
def test_mcnemar_is_the_binomial_test_of_the_clips_that_differ(a_only, b_only):
    a, b = right_and_wrong(a_only, b_only)
    expected = stats.binomtest(a_only, a_only + b_only).pvalue
    assert mcnemar(a, b) == pytest.approx(expected)
    assert mcnemar(a, b.iloc[::-1]) == pytest.approx(expected)


def test_mcnemar_by_hand_and_without_a_difference():
    assert mcnemar(*right_and_wrong(5, 0)) == pytest.approx(2 / 2**5)
    assert mcnemar(*right_and_wrong(0, 0)) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_tables_of_other_clips_are_refused():
    a = speech(0, speakers=2, clips=4)
    with pytest.raises(SerError, match=r"1 clips are in one table only, for example clip_7"):
        align(a, a.iloc[:-1])
    with pytest.raises(SerError, match=r"1 clips differ in their true emotion, .* clip_0"):
        align(a, a.assign(truth=["sad", *a["truth"][1:]]))
    with pytest.raises(SerError, match=r"second table has clip_7 twice"):
        align(a, pd.concat([a, a.iloc[-1:]]))


def test_no_clips_and_foreign_labels_are_refused():
    table = speech(0, speakers=2, clips=4)
    with pytest.raises(SerError, match="no predictions"):
        draw_clips(table.iloc[:0])
    with pytest.raises(SerError, match="Emotions outside the classes"):
        bootstrap_interval(table, CLASSES[1:], uar)
