"""Figures of confidence: the reliability diagram, and risk against coverage."""

from typing import TYPE_CHECKING

import numpy as np

from ser.calibration import (
    N_BINS,
    NEVER,
    Bins,
    Flags,
    Values,
    aurc,
    ece,
    is_uncertain,
    risk_coverage,
    width_bins,
)
from ser.plots import MARK_COLOUR, OVER_LINES, TRAIN_COLOUR, VAL_COLOUR, new_figure, unframed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # that have a mark, surest first
LEAST_APART = 4.0  # per cent of the clips between two marks
SURE_SHARE = 10.0  # per cent: the error of fewer is that of a clip or two, and may leave the axes
BAR_WIDTH = 0.9 / N_BINS
OVER_COLOUR, UNDER_COLOUR = "#de8f05", "#56b4e9"  # colour-blind safe beside VAL_COLOUR


def reliability_figure(
    raw: Values, scaled: Values, right: Flags, temperature: float | None, title: str
) -> "Figure":
    """Accuracy by confidence before and after temperature scaling, over how many clips there are.

    `raw`, `scaled`, `right: (clips,)`. One panel where nothing was scaled. `temperature` is None
    where the clips come from several models, each with its own.
    """
    figure = new_figure(9.6, 6.4, title)
    panels = [("before scaling (T = 1)", raw)]
    after = "its own T for each fold" if temperature is None else f"T = {temperature:.2f}"
    if not np.array_equal(raw, scaled):
        panels.append((f"after scaling ({after})", scaled))
    tops, bottoms = figure.subplots(
        2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for (name, confidence), top, bottom in zip(panels, tops, bottoms, strict=True):
        _reliability(top, confidence, right)
        top.set_title(f"{name}: ECE {ece(confidence, right):.3f}", fontsize=11)
        _histogram(bottom, confidence, right)
    tops[0].set_ylabel("accuracy in the bin", fontsize=11)
    bottoms[0].set_ylabel("share of clips\n(their number)", fontsize=11)
    _legend_below(tops[0], -0.02, 3)
    return figure


def risk_coverage_figure(
    confidence: Values, right: Flags, below: float | None, title: str
) -> "Figure":
    """Error among the clips answered, surest first, against their share; and where to stop.

    `confidence`, `right: (clips,)`. The grey curve is that of a confidence which puts every right
    clip before every wrong one; the numbers along the curve are other thresholds. `below` is
    the abstention threshold, None where there is none.
    """
    curve = risk_coverage(confidence, right)
    error = 100 * float(np.mean(~right))
    area = aurc(confidence, right)
    means = f"AURC {area:.3g}, a mean risk of {100 * area:.3g} %"
    none_wrong = "" if error else ", none of them wrong"
    figure = new_figure(7.2, 4.8, f"{title}{none_wrong}\n{means}")
    axes = figure.subplots()
    coverage = 100 * np.append(0, curve.coverage)
    risk = 100 * np.append(curve.risk[0], curve.risk)  # up to the surest clips it is theirs
    axes.fill_between(coverage, risk, step="pre", color=VAL_COLOUR, alpha=0.12, linewidth=0)
    axes.plot(
        coverage, risk, drawstyle="steps-pre", color=VAL_COLOUR, linewidth=2.5,
        label="this confidence",
    )  # fmt: skip
    axes.plot(*_ideal(error), color=TRAIN_COLOUR, label="the best order there is")
    axes.axhline(error, color="black", linestyle=":", linewidth=1, label="no order at all")
    _mark_confidences(axes, confidence, right)
    if below is not None:
        _mark_threshold(axes, confidence, right, below)
    axes.set_xlabel("coverage: share of clips that are answered, %", fontsize=11)
    axes.set_ylabel("risk: share of those that are wrong, %", fontsize=11)
    reached = float(risk[coverage >= SURE_SHARE].max())
    top = min(100.0, max(5.0, 1.35 * error, reached))
    axes.set(xlim=(0, 101), ylim=(-0.02 * top, 1.02 * top))  # lines at 0 and at 100 are seen
    _legend_below(axes, -0.15, 2)
    unframed(axes)
    return figure


def _reliability(axes: "Axes", confidence: Values, right: Flags) -> None:
    bins = width_bins(confidence, right)
    centre, width = _centres(bins), BAR_WIDTH
    low, gap = np.minimum(bins.accuracy, bins.confidence), bins.confidence - bins.accuracy
    axes.bar(centre, low, width, color=VAL_COLOUR, label="as right as sure")
    sides = (
        ("too sure", np.maximum(gap, 0), OVER_COLOUR),
        ("not sure enough", np.maximum(-gap, 0), UNDER_COLOUR),
    )
    for name, height, colour in sides:
        axes.bar(centre, height, width, bottom=low, color=colour, label=name)
    axes.hlines(
        bins.accuracy, centre - width / 2, centre + width / 2, color="black", linewidth=1.6,
        label="accuracy",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1, label="calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    unframed(axes)


def _centres(bins: Bins) -> Values:
    """The middle of each bin that has clips."""
    number = np.clip(np.ceil(bins.confidence * N_BINS) - 1, 0, N_BINS - 1)
    return np.asarray((number + 0.5) / N_BINS)


def _histogram(axes: "Axes", confidence: Values, right: Flags) -> None:
    bins = width_bins(confidence, right)
    bars = axes.bar(_centres(bins), bins.clips / len(confidence), BAR_WIDTH, color="#949494")
    numbers = [f"{n:,}" for n in bins.clips]  # a bar of three clips says little
    axes.bar_label(bars, numbers, fontsize=7, padding=1.5, zorder=3, bbox=OVER_LINES)
    axes.margins(y=0.3)
    means = (
        ("accuracy", float(right.mean()), VAL_COLOUR),
        ("mean confidence", float(confidence.mean()), OVER_COLOUR),
    )
    for name, value, colour in means:
        axes.axvline(value, color=colour, linewidth=1.6, label=f"{name} {value:.3f}")
    axes.set_xlabel("confidence", fontsize=11)
    _legend_below(axes, -0.45, 2)
    unframed(axes)


def _legend_below(axes: "Axes", top: float, ncols: int) -> None:
    """Under the axes, where it hides nothing: its upper edge at `top` of their height."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, top), ncols=ncols, fontsize=9, frameon=False,
        columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip


def _ideal(error: float) -> tuple[Values, Values]:
    """Coverage and risk in percent where every right clip comes first."""
    right_share = 1 - error / 100
    coverage = np.linspace(max(right_share, 1e-9), 1, 50)
    risk = 1 - right_share / coverage
    return 100 * np.concatenate([[0], coverage]), 100 * np.concatenate([[0], risk])


def _mark_confidences(axes: "Axes", confidence: Values, right: Flags) -> None:
    """Where on the curve other thresholds lie, as numbers: what `ser predict --below` takes."""
    last = 0.0
    for below in THRESHOLDS:
        answered = ~is_uncertain(confidence, below)
        share = 100 * float(answered.mean())
        if share - last < LEAST_APART or answered.all():
            continue
        last, risk = share, 100 * float(np.mean(~right[answered]))
        label = "answered down to this confidence" if len(axes.texts) == 0 else None
        axes.plot(
            share, risk, "o", color="white", markeredgecolor=VAL_COLOUR, zorder=4, label=label
        )
        axes.annotate(
            f"{below:.1f}", (share, risk), (0, 7), textcoords="offset points", ha="right",
            fontsize=9, color=VAL_COLOUR, bbox=OVER_LINES, zorder=4,
        )  # fmt: skip


def _mark_threshold(axes: "Axes", confidence: Values, right: Flags, below: float) -> None:
    answered = ~is_uncertain(confidence, below)
    if below >= NEVER or not answered.any():
        text = "validation gave no threshold" if below >= NEVER else f"no clip reaches {below:.2f}"
        axes.plot([], [], " ", label=f"{text}: every clip is uncertain")
        return
    share, risk = 100 * answered.mean(), 100 * float(np.mean(~right[answered]))
    label = f"abstain below {below:.2f}: {share:.0f} % answered, {risk:.1f} % of them wrong"
    axes.plot(
        share, risk, "o", color=MARK_COLOUR, markersize=9, zorder=5, clip_on=False, label=label
    )
    axes.vlines(share, 0, risk, color=MARK_COLOUR, linestyle="--", linewidth=1)
