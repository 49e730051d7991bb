"""Reliability, risk-coverage and subgroup figures say what they should, and nothing is cut off."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_nothing_is_cut_off
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from ser.calibration_plots import reliability_figure, risk_coverage_figure
from ser.subgroup_plots import SHOWN, extremes, subgroups_figure
from ser.subgroups import COLUMNS


def said(figure: Figure) -> str:
    """All text of a figure, which must lie within its page."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    width_in, height_in = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= width_in + 0.01 and drawn.y1 <= height_in + 0.01
    return " | ".join(text.get_text() for text in figure.findobj(Text))


def answers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 0.99, 300)
    return confidence, random.random(300) < confidence


def test_reliability_before_and_after():
    confidence, right = answers()
    text = said(reliability_figure(confidence**2, confidence, right, 0.7, "a run, test"))
    assert "before scaling (T = 1): ECE" in text and "after scaling (T = 0.70): ECE" in text
    assert "not sure enough" in text and "mean confidence" in text
    assert "a run, test" in text


def test_every_colour_of_the_reliability_bars_is_in_the_legend():
    confidence, right = answers()
    axes = reliability_figure(confidence, confidence, right, 1.0, "a run, test").axes[0]
    named = {handle.get_facecolor() for handle in axes.get_legend().get_patches()}
    assert {bar.get_facecolor() for bar in axes.patches} == named and len(named) == 3


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_legends_lie_over_no_axes(temperature):
    confidence, right = answers()
    raw = confidence**2 if temperature < 1 else confidence
    figures = [
        reliability_figure(raw, confidence, right, temperature, "a run, test"),
        risk_coverage_figure(confidence, right, 0.6, "a run, test"),
    ]
    for figure in figures:
        said(figure)
        boxes = [legend.get_window_extent() for legend in figure.findobj(Legend)]
        assert boxes
        assert not any(box.overlaps(axes.bbox) for box in boxes for axes in figure.axes)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_bars_of_the_reliability_diagram_say_how_many_clips_they_rest_on():
    confidence, right = np.array([0.31, 0.95, 0.96, 0.97]), np.array([True, True, True, False])
    figure = reliability_figure(confidence, confidence, right, 1.0, "a run, test")
    numbers = {t.get_text(): t.get_position()[0] for t in figure.axes[1].texts if t.get_text()}
    assert list(numbers) == ["1", "3"]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0.25, 0.75]
    said(figure)


def test_the_curve_of_risk_stays_within_its_axes_beyond_the_surest_clips():
    right = np.array([True, True, True, True, False, True, True, True])
    axes = risk_coverage_figure(np.linspace(0.9, 0.2, 8), right, None, "a run, test").axes[0]
    assert axes.get_ylim()[1] >= 20 > 1.35 * 12.5  # one of the five surest is wrong


def test_nothing_scaled_is_one_panel():
    confidence, right = answers()
    figure = reliability_figure(confidence, confidence, right, 1.0, "a run, test")
    assert len(figure.axes) == 2 and "after scaling" not in said(figure)


def test_folds_with_a_temperature_each_are_said_to_have_it():
    confidence, right = answers()
    assert "its own T for each fold" in said(
        reliability_figure(confidence**2, confidence, right, None, "five folds")
    )


@pytest.mark.parametrize(
    ("below", "text"),
    [
        (0.6, "abstain below 0.60: "),
        (1.0, "validation gave no threshold: every clip is uncertain"),
        (0.995, "no clip reaches 0.99"),
        (None, "AURC"),
    ],
)
def test_risk_coverage_marks_the_threshold(below, text):
    confidence, right = answers()
    assert text in said(risk_coverage_figure(confidence, right, below, "a run, test"))


def test_risk_coverage_has_the_confidence_at_which_each_share_is_answered():
    confidence = np.linspace(0.2, 0.999, 200)
    figure = risk_coverage_figure(confidence, confidence > 0.5, None, "a run, test")
    marks = {text.get_text(): text.xy for text in figure.axes[0].texts}
    assert list(marks) == ["0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3"]
    share = 100 * np.mean(confidence >= 0.4)
    assert marks["0.4"] == pytest.approx((share, 100 - 1e4 * np.mean(confidence > 0.5) / share))
    assert "answered down to this confidence" in said(figure)


def test_one_confidence_for_all_clips_is_a_line_at_their_error():
    right = np.arange(20) < 5
    figure = risk_coverage_figure(np.full(20, 0.4), right, None, "chance, test")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 75], [100, 75]]
    assert "chance, test\nAURC 0.75, a mean risk of 75 %" in said(figure)


def test_a_small_risk_is_not_said_to_be_none():
    right = np.arange(96) < 95
    figure = risk_coverage_figure(np.linspace(0.99, 0.4, 96), right, None, "a run")
    assert "AURC 0.000109, a mean risk of 0.0109 %" in said(figure)


@pytest.mark.parametrize("right", [np.ones(20, bool), np.zeros(20, bool)])
def test_all_right_and_all_wrong_are_seen_and_all_right_is_said(right):
    confidence = np.linspace(0.3, 1.0, 20)
    figure = risk_coverage_figure(confidence, right, 0.5, "a run")
    assert ("a run, none of them wrong" in said(figure)) == right.all()
    (low, high), risk = figure.axes[0].get_ylim(), figure.axes[0].lines[0].get_ydata()
    assert low < risk.min() and risk.max() < high <= 102
    assert "ECE" in said(reliability_figure(confidence, confidence, right, 1.0, "a run"))


def groups(n_speakers: int) -> pd.DataFrame:
    sexes = [("sex", "male", -0.1, "corpus"), ("sex", "female", 0.1, "corpus")]
    gaps = np.linspace(-0.2, 0.2, n_speakers)
    rows = sexes + [("speaker", f"actor {k:02}", gap, "") for k, gap in enumerate(gaps)]
    table = pd.DataFrame(rows, columns=["attribute", "group", "gap", "confounded_with"])
    table = table.assign(gap_low=table["gap"] - 0.05, gap_high=table["gap"] + 0.05, clips=60)
    return table.assign(resampled=["speakers"] * 2 + ["clips"] * n_speakers)


def test_groups_are_named_and_long_lists_cut_to_their_extremes():
    text = said(subgroups_figure(groups(30), "a run, test"))
    assert f"speaker ({SHOWN} of 30: the extremes)" in text
    assert "actor 00  (60)" in text and "actor 29  (60)" in text and "actor 15" not in text
    assert "male  (60)" in text and "confounded group" in text
    assert "recall minus that of all other clips (percentage points" in text


def test_the_legend_tells_what_is_drawn_and_nothing_else():
    everything = ["worse than the rest", "better", "interval holds zero"]
    everything += ["clips drawn, one speaker", "confounded group"]
    figure = subgroups_figure(groups(11), "a run")
    check_nothing_is_cut_off(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == everything
    few = groups(30).iloc[16:18].assign(resampled="speakers")  # gaps about zero
    (legend,) = subgroups_figure(few, "a run").legends
    assert [text.get_text() for text in legend.get_texts()] == ["interval holds zero"]


def test_extremes_are_the_first_and_last():
    assert extremes(groups(30).iloc[2:], 4)["group"].tolist() == [
        "actor 00", "actor 01", "actor 28", "actor 29",
    ]  # fmt: skip


def test_no_group_at_all_is_an_empty_figure_and_no_error():
    assert "a run" in said(subgroups_figure(pd.DataFrame(columns=list(COLUMNS)), "a run"))
