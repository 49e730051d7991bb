"""Figures say what they should, and nothing that they say is cut off."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_nothing_is_cut_off, texts
from matplotlib.colors import to_rgb

from bench import profile
from ser import metrics, plots
from ser.errors import SerError
from ser.robustness_plots import robustness_figure
from ser.whole_files import save_figure

CLASSES = (
    "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "boredom",
)  # fmt: skip


def counts_of(n_classes: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.poisson(6, (n_classes, n_classes)) + np.diag(
        generator.integers(60, 1500, n_classes)
    )


@pytest.mark.parametrize("n_classes", [4, 9])
def test_confusion_shows_counts_shares_and_figures(n_classes: int) -> None:
    counts, classes = counts_of(n_classes), CLASSES[:n_classes]
    figure = plots.confusion_figure(
        counts, classes, "ensemble, ravdess, luna5 fold 2", metrics.score_counts(counts, classes)
    )
    said = texts(figure)
    assert f"ravdess, luna5 fold 2\nUAR {metrics.uar(counts):.3f}" in said[0] + said[-1]
    assert f"{counts[1, 1]:,}" in said
    assert f"{100 * counts[1, 1] / counts[1].sum():.0f}" in said
    assert f"calm ({counts[1].sum():,})" in said
    assert [axes.get_title() for axes in figure.axes] == ["Clips", "Share of each true class, %"]
    check_nothing_is_cut_off(figure)


def test_confusion_of_an_absent_class_is_an_empty_row() -> None:
    counts = counts_of(4)
    counts[2] = 0
    figure = plots.confusion_figure(counts, CLASSES[:4], "tim", {})
    mask = figure.axes[1].collections[0].get_array().mask
    assert mask.reshape(4, 4).tolist() == [[row == 2] * 4 for row in range(4)]
    assert "happy (0)" in texts(figure)


def test_shares_are_rounded_halves_up_and_none_that_is_above_zero_is_0() -> None:
    counts = np.array([[25, 15, 0], [5, 35, 0], [1, 0, 299]])
    figure = plots.confusion_figure(counts, CLASSES[:3], "tim", {})
    shares = [text.get_text() for text in figure.axes[1].texts]
    assert shares == ["63", "38", "", "13", "88", "", "<1", "", ">99"]


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_long_names_and_large_counts_have_room(n_classes: int) -> None:
    names = ["overwhelmingly_disappointed", "passive-aggressive irritation", "sad", "angry"]
    counts = np.full((n_classes, n_classes), 1_234_567)
    figure = plots.confusion_figure(counts, names[:n_classes], "tim", {})
    check_nothing_is_cut_off(figure)
    for axes in figure.axes:
        heading, cell = axes.title.get_window_extent(), axes.get_window_extent().width / n_classes
        assert heading.x0 >= 0 and heading.x1 <= figure.bbox.width
        assert max(text.get_window_extent().width for text in axes.texts) < cell


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("2 runs of ensemble-ravdess-luna50-s0", ["2 runs of", "ensemble-ravdess-luna50-s0"]),
        ("ensemble-demo-speaker_kfold12-s0", ["ensemble-demo-", "speaker_kfold12-s0"]),
        ("ridge-ravdess-luna50-s0_and_more, test", ["ridge-ravdess-luna50-", "s0_and_more, test"]),
        ("seed=0,1,2,3,4,5,6,7,8,9,10,11,12,13", ["seed=0,1,2,3,4,5,6,7,8,9,10,", "11,12,13"]),
        ("MANY_LONG_AND_WIDE_WORDS_JOINED", ["MANY_LONG_AND_WIDE_WORDS_JOINED"]),
    ],
)
def test_a_title_is_cut_at_joints_of_names_only(title: str, lines: list[str]) -> None:
    figure = plots.new_figure(3.4, 2, f"{title}\nUAR 0.5")
    assert figure.get_suptitle().splitlines() == [*lines, "UAR 0.5"]
    check_nothing_is_cut_off(figure)


def test_what_a_title_counts_stays_together() -> None:
    figure = plots.new_figure(
        6, 2, "ensemble-ravdess-luna5-f0-s0 on emodb: 454 clips of 10 speakers"
    )
    cut = ["ensemble-ravdess-luna5-f0-s0 on emodb:", "454 clips of 10 speakers"]
    assert figure.get_suptitle().splitlines() == cut
    weights = "ensemble-ravdess-luna5-f0-s0: learned layer weights (bars: mean of 4 heads)"
    assert plots.new_figure(6, 2, weights).get_suptitle() == weights.replace(": ", ":\n", 1)
    assert len(plots.new_figure(9, 2, " ".join(cut)).get_suptitle().splitlines()) == 1


def test_a_title_with_dollars_is_no_formula(tmp_path: Path) -> None:
    figure = plots.new_figure(6, 4, "$_$.wav: heard as sad")
    save_figure(figure, tmp_path / "figure.png")
    assert figure.get_suptitle() == "$_$.wav: heard as sad"


def test_one_listening_condition_leaves_its_title_room() -> None:
    rows = [("clean", "clean", 0, 0.8, 0, 0, 0), ("mp3", "mp3 32 kbit/s", 32, 0.7, 0.1, 0, 0.2)]
    columns = ["family", "condition", "severity", "uar", "drop", "low", "high"]
    title = "2026-11-28_12-36-33_tim-folder-speaker-s0, test: robustness, 12 clips of 1 speaker"
    figure = robustness_figure(pd.DataFrame(rows, columns=columns), title, 0.25, None, "")
    assert len(figure.get_suptitle().splitlines()) <= 3


def test_a_long_title_takes_nothing_of_the_figure() -> None:
    words = "an ensemble of many arms on ravdess tess crema_d emodb with seven classes, " * 6
    short, long = (plots.confusion_figure(counts_of(4), CLASSES[:4], w, {}) for w in ("x", words))
    check_nothing_is_cut_off(short), check_nothing_is_cut_off(long)
    heights = [f.axes[0].get_window_extent().height for f in (short, long)]
    assert heights[1] == pytest.approx(heights[0], rel=0.02)


@pytest.mark.parametrize(
    ("monitor", "mode", "keep", "kept"),
    [("val/uar", "max", "best", 3), ("val/loss", "min", "best", 2), ("val/uar", "max", "last", 4)],
)
@pytest.mark.parametrize("split_columns", [("train/loss", "train/uar"), ()])
def test_curves_mark_the_epoch_that_was_kept(
    monitor: str, mode: str, keep: str, kept: int, split_columns: tuple[str, ...]
) -> None:
    history = pd.DataFrame(
        {"val/loss": [2, 1.5, 1.0, 1.2, 1.3], "val/uar": [0.2, 0.4, np.nan, 0.6, 0.5]}
    ).assign(**dict.fromkeys(split_columns, 0.5))
    figure = plots.training_figure(history, "tim", monitor, mode, keep)
    words = f"{monitor} {history[monitor][kept]:.3f} at epoch {kept + 1}, the {keep} one"
    assert words in "\n".join(texts(figure))
    for axes in figure.axes:
        drawn = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
        assert list(drawn[f"kept ({kept + 1})"]) == [kept + 1, kept + 1]
        assert list(drawn["val"])[-1] == 5  # counted from 1, as everywhere that is read
        assert ("train" in drawn) == bool(split_columns)
    check_nothing_is_cut_off(figure)


def test_curves_take_epochs_from_a_column() -> None:
    history = pd.DataFrame({"epoch": [5, 6, 7], "val/uar": [0.1, 0.3, 0.2]})
    figure = plots.training_figure(history, "tim", "val/uar", "max", "best")
    assert "at epoch 7" in "\n".join(texts(figure))


@pytest.mark.parametrize(("monitor", "mode"), [("val/uar", "max"), ("val/loss", "min")])
def test_of_equal_epochs_the_latest_is_marked_as_it_is_kept(monitor: str, mode: str) -> None:
    history = pd.DataFrame({"val/uar": [0.3, 0.4, 0.4, 0.2], "val/loss": [2, 1.0, 1.0, 1.5]})
    figure = plots.training_figure(history, "tim", monitor, mode, "best")
    assert "at epoch 3, the best one" in "\n".join(texts(figure))


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_have_whole_epochs_on_their_axis(epochs: int) -> None:
    history = pd.DataFrame({"val/loss": [1.0] * epochs, "val/uar": [0.5] * epochs})
    figure = plots.training_figure(history, "tim", "val/uar", "max", "last")
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)


def test_curves_without_the_monitored_figure_are_an_error() -> None:
    history = pd.DataFrame({"val/uar": [np.nan], "val/loss": [1.0]})
    with pytest.raises(SerError, match=r"has no val/uar: it has val/uar, val/loss\. "):
        plots.training_figure(history, "tim", "val/uar", "max", "best")
    with pytest.raises(SerError, match="has no val/war"):
        plots.training_figure(history, "tim", "val/war", "max", "best")


@pytest.mark.parametrize(
    "arms",
    [
        ["tim"],
        ["tim", "wav2vec2", "ensemble"],
        ["tim", *(f"ensemble experiment=finetune trainer.max_epochs={n}" for n in (6, 8))],
    ],
)
def test_recalls_have_a_bar_for_each_class_and_arm(arms: list[str]) -> None:
    recalls = pd.DataFrame(0.5, index=list(CLASSES[:8]), columns=arms)
    recalls.iloc[1] = np.nan  # no such class in the reference
    recalls.iloc[2, 0] = 0.97
    figure = plots.recall_figure(recalls, "ravdess, luna5")
    said = texts(figure)
    assert f"tim (UAR {recalls['tim'].mean():.3f})" in said
    assert "0.970" in said  # as the tables
    assert figure.axes[0].get_ylim() == (0, 1.05)
    assert "nan" not in said
    assert len(figure.axes[0].containers) == len(arms)
    assert said.count("no clips") == 1
    check_nothing_is_cut_off(figure)
    assert figure.axes[0].get_position().width > 0.7  # a long legend leaves the bars their room


def test_chance_is_over_the_classes_that_have_clips() -> None:
    recalls = pd.DataFrame({"tim": [0.5, np.nan, 0.4, 0.1], "ridge": [0.5, np.nan, 0.7, np.nan]})
    recalls.index = list(CLASSES[:4])
    figure = plots.recall_figure(recalls, "emodb, one speaker")
    (chance,) = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert list(chance.get_ydata()) == [pytest.approx(1 / 3)] * 2
    places = [t.get_position()[0] for t in figure.axes[0].texts if t.get_text() == "no clips"]
    assert sorted(places) == pytest.approx([1, 3.2])  # no arm has the one, ridge has not the other


@pytest.mark.parametrize("arms", [1, 2, 4])
def test_long_names_of_classes_and_recalls_do_not_meet(arms: int) -> None:
    names = ["overwhelmingly_disappointed", "passive-aggressive irritation", "sad", "very happy"]
    recalls = pd.DataFrame(1 / 3, index=names * 2, columns=[f"arm {n}" for n in range(arms)])
    figure = plots.recall_figure(recalls, "tim")
    check_nothing_is_cut_off(figure)
    axes = figure.axes[0]
    assert axes.get_window_extent().height > 2 * plots.DPI
    ends = [tick.get_window_extent().x1 for tick in axes.get_xticklabels()]
    heights = [tick.get_window_extent().height for tick in axes.get_xticklabels()]
    assert min(np.diff(ends)) > 0 and max(heights) > plots.DPI  # side by side, and slanted
    boxes = sorted((text.get_window_extent() for text in axes.texts[:-1]), key=lambda box: box.x0)
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_weights_are_bars_with_their_values() -> None:
    heads = np.array([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    layers = plots.layer_weights_figure(heads, [1, 2, 3], "wav2vec2")
    axes = layers.axes[0]
    assert [bar.get_height() for bar in axes.containers[0]] == pytest.approx([0.3, 0.4, 0.3])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3"]
    dots = [list(line.get_ydata()) for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == heads.tolist()
    assert {"each head", "mean of the heads, in numbers"} <= set(texts(layers))
    check_nothing_is_cut_off(layers)
    scales = plots.scale_weights_figure([0.5, -0.25, 1.0], "tim", hop_ms=100)
    labels = [tick.get_text() for tick in scales.axes[0].get_xticklabels()]
    assert labels == ["1\n300 ms", "2\n700 ms", "4\n1.5 s"]  # 3, 7, 15 frames
    assert "0.500" in texts(scales)
    check_nothing_is_cut_off(scales)


@pytest.mark.parametrize(
    ("spread", "said"), [(0.3, ["0.350", "0.050"]), (0.0006, ["0.2003", "0.1997"])]
)
def test_layer_weights_are_told_apart_and_stand_clear_of_dots(
    spread: float, said: list[str]
) -> None:
    mean = np.array([0.2 + spread / 2, 0.2 - spread / 2, 0.2, 0.2, 0.2])
    heads = mean + spread / 10 * np.array([[1], [-1]])
    axes = plots.layer_weights_figure(heads, range(1, 6), "wav2vec2").axes[0]
    axes.figure.draw_without_rendering()
    labels = [text for text in axes.texts if text.get_text() != "equal"]
    assert [text.get_text() for text in labels[:2]] == said
    assert {text.get_color() for text in labels} == {"black"}  # above the bar, on white
    tops = axes.transData.transform([(0, high) for high in heads.max(axis=0)])[:, 1]
    assert all(t.get_window_extent().y0 > top for t, top in zip(labels, tops, strict=True))


def test_a_profile_shows_what_has_half_a_per_cent_with_readable_numbers() -> None:
    kinds = dict(zip(profile.KINDS, (108, 38, 11, 2, 0.2, 30), strict=True))
    figure = profile.picture({"before": kinds, "after": kinds | {"normalisation": 0}})
    numbers = {text.get_text().strip(): text for text in figure.axes[0].texts}
    assert numbers.keys() == {"108", "38", "11", "2", "30", "189 ms", "151 ms"}
    assert profile.TITLE in texts(figure) and "sums" not in texts(figure)
    inside = dict(zip(["108", "38", "11", "2", "30"], figure.axes[0].containers, strict=True))
    above_in_rows = 1 - numbers["2"].get_position()[1]
    assert above_in_rows > 0.3  # the bar is too narrow for it
    for number in ("108", "38", "11", "30"):
        on = profile.luminance(inside[number][0].get_facecolor()[:3])
        ink = profile.luminance(to_rgb(numbers[number].get_color()))
        assert (max(ink, on) + 0.05) / (min(ink, on) + 0.05) > 4.5  # WCAG 2.1, AA
    check_nothing_is_cut_off(figure)


def test_figures_leave_no_pyplot_state() -> None:
    import matplotlib.pyplot as plt

    plots.layer_weights_figure(np.array([[0.5, 0.5]]), [0, 1], "wav2vec2")
    assert plt.get_fignums() == []
