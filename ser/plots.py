"""Figures of a run, drawn to be read: confusion, training, recall by class, learned weights.

Every function returns a matplotlib Figure of its own (no pyplot state, nothing is shown), so the
caller saves it, logs it, or displays it in a notebook.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.errors import SerError
from ser.figure_text import text_width_in, title_lines, widest_in, wrapped
from ser.metrics import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

DPI = 150  # sharp on a doubled screen, under 200 kB a file
TITLE_LINE_IN, TITLE_SIDES_IN = 0.22, 0.4
SHARES_HEADING = "Share of each true class, %"
CELL_IN, CELL_PAD_IN = 0.62, 0.07  # a matrix cell in inches, and what is left beside its digits
BAR_IN, NARROW_BAR_IN = 0.4, 0.2  # its recall at 7.5 points above it, and the same upright
UPRIGHT_ARMS = 2  # of more than these the figure would be too wide to read
BARS_SHARE = 0.8  # of a class's slot
FLAT_NAME_IN = 1.0  # a class's name that is longer is slanted
OVER_LINES = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
MEL_TICKS_HZ = (250, 1000, 4000)
LEGEND_HANDLE_IN = 0.7  # what stands before and between the names
TRAIN_COLOUR, VAL_COLOUR, MARK_COLOUR = "#7f7f7f", "#0173b2", "#d55e00"  # colour-blind safe
DOTS = {"color": MARK_COLOUR, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
TRAIN_AND_VAL = (
    "train: the trained parts as they learn, with the run's dropout and augmentation (in the loss "
    "also\nsmoothing and weights); val: the whole model as it answers, without them. "
    "A train loss above val is no fault."
)


def new_figure(width_in: float, height_in: float, title: str) -> "Figure":
    """An empty figure that makes room for its own labels, with ``title`` over all of it.

    It is as much higher as cutting a long title takes.
    """
    from matplotlib.figure import Figure

    lines, points = title_lines(title, width_in - TITLE_SIDES_IN)
    height_in += TITLE_LINE_IN * (len(lines) - len(title.splitlines()))
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    figure.suptitle("\n".join(lines), fontsize=points, fontweight="bold")
    return figure


def confusion_figure(
    counts: npt.NDArray[np.int64], classes: Sequence[str], title: str, figures: Mapping[str, float]
) -> "Figure":
    """Confusion matrix as clips and as shares of each true class, side by side.

    ``counts: (classes, classes)``, rows the reference; those of ``figures`` that are overall (uar,
    war, macro_f1) follow ``title``. A class with no clip has an empty grey row.
    """
    support = counts.sum(axis=1)
    clips, shares = np.vectorize("{:,}".format, otypes=[object])(counts), _shares(counts)
    rows = [f"{c} ({n:,})" for c, n in zip(classes, support, strict=True)]
    fit_in = widest_in(clips.ravel(), 10) + 2 * CELL_PAD_IN
    side_in = max(len(classes) * max(CELL_IN, fit_in), text_width_in(SHARES_HEADING, 12))
    overall = "   ".join(
        f"{METRIC_NAMES[key]} {figures[key]:.3f}" for key in METRIC_NAMES if key in figures
    )
    slanted_in = 0.75 * widest_in(classes, 10)  # both across and down, at 40 degrees
    names_in = sum(max(widest_in(names, 10), slanted_in) for names in (rows, classes))
    width_in, height_in = 2 * side_in + names_in + 1.2, side_in + slanted_in + 1.7
    figure = new_figure(width_in, height_in, f"{title}\n{overall}")
    left, right = figure.subplots(1, 2)
    _matrix(left, counts, clips, classes, max(1, int(counts.max())))
    _matrix(right, counts / np.where(support, support, 1)[:, None], shares, classes, 1)
    left.set_title("Clips", fontsize=12)
    right.set_title(SHARES_HEADING, fontsize=12)
    left.set_yticklabels(rows)
    left.set_ylabel("true emotion (clips)", fontsize=11)
    return figure


def training_figure(
    history: pd.DataFrame, title: str, monitor: str, mode: str, keep: str
) -> "Figure":
    """Loss and UAR of train and validation by epoch, the kept epoch marked.

    ``history`` has one row an epoch (a column ``epoch``, or the index, counted from 0 and drawn
    from 1, as console and cards count) and any of the columns train/loss, val/loss, train/uar,
    val/uar; ``monitor`` is the monitored column, ``mode`` "max" or "min", ``keep`` "last" or "best"
    by these. Raises SerError when the monitored column is absent or empty.
    """
    if monitor not in history or history[monitor].isna().all():
        raise SerError(
            f"The training history has no {monitor}: it has {', '.join(history.columns)}. "
            "Train for at least one whole epoch, or monitor one of these."
        )
    epochs = history.set_index("epoch") if "epoch" in history else history
    epochs = epochs.set_axis(epochs.index + 1)
    watched = epochs[monitor]
    backwards = watched[::-1]  # of equals the latest is kept (`ser.callbacks.BestCheckpoint`)
    since = int(backwards.argmax() if mode == "max" else backwards.argmin())
    row = len(watched) - 1 - (since if keep == "best" else 0)
    kept = int(epochs.index[row])
    what = f"{monitor} {watched.iloc[row]:.3f} at epoch {kept}, the {keep} one"
    figure = new_figure(10, 4.4, f"{title}\n{what}")
    figure.supxlabel(TRAIN_AND_VAL, fontsize=9, color="#595959")
    for axes, metric, label in zip(
        figure.subplots(1, 2), ("loss", "uar"), ("loss", "UAR"), strict=True
    ):
        _curves(axes, epochs, metric, kept)
        axes.set_ylabel(label, fontsize=11)
    return figure


def recall_figure(recalls: pd.DataFrame, title: str) -> "Figure":
    """Recall by class as bars, one colour an arm, with each arm's mean (UAR) in the legend.

    ``recalls`` has one row a class and one column an arm, values from 0 to 1, NaN where the
    reference has no such class. Chance is over the classes that have clips.
    """
    import seaborn as sns

    n_classes, n_arms = recalls.shape
    present = recalls.notna().any(axis=1).to_numpy()
    upright = n_arms > UPRIGHT_ARMS
    bars_in = n_arms * (NARROW_BAR_IN if upright else BAR_IN) / BARS_SHARE
    names_in = widest_in(recalls.index, 10)
    slanted = names_in > FLAT_NAME_IN
    slot_in = bars_in if slanted else max(bars_in, names_in + 0.15)
    height_in = 4.4 + (0.64 * names_in if slanted else 0)  # the sine of 40 degrees
    figure = new_figure(max(7.0, n_classes * slot_in + 1.8), height_in, title)
    axes = figure.subplots()
    middles, width = np.arange(n_classes), BARS_SHARE / n_arms
    colours = sns.color_palette("colorblind", n_arms)
    for number, (colour, (arm, values)) in enumerate(zip(colours, recalls.items(), strict=True)):
        places = middles + (number - (n_arms - 1) / 2) * width
        label = wrapped(f"{arm} (UAR {values.mean():.3f})", figure.get_figwidth() - 1, 10)
        bars = axes.bar(places, values, width, color=[colour], label=label)
        texts = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
        turn = 90 if upright else 0
        axes.bar_label(bars, texts, fontsize=7.5, padding=2, rotation=turn, bbox=OVER_LINES)
        _say_no_clips(axes, places[values.isna() & present])
    _say_no_clips(axes, middles[~present])
    chance = 1 / present.sum()
    axes.axhline(chance, color="black", linestyle=":", linewidth=1)
    axes.text(1.005, chance, "chance", transform=axes.get_yaxis_transform(), va="center")
    axes.set(ylabel="recall", ylim=(0, 1.05), xlim=(-0.5, n_classes - 0.5))
    axes.set_xticks(middles, list(recalls.index))
    if slanted:
        _slant(axes)
    handles, labels = axes.get_legend_handles_labels()
    entry_in = LEGEND_HANDLE_IN + widest_in("\n".join(labels).splitlines(), 10)
    columns = int(min(max(1, (figure.get_figwidth() - 0.5) // entry_in), 3))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    unframed(axes)
    return figure


def _say_no_clips(axes: "Axes", places: npt.NDArray[np.number]) -> None:
    for place in places:
        axes.text(
            place, 0.02, "no clips", color="#595959", fontsize=8, rotation=90, ha="center",
            va="bottom", bbox=OVER_LINES,
        )  # fmt: skip


def layer_weights_figure(
    weights: npt.NDArray[np.floating], layers: Sequence[int], title: str
) -> "Figure":
    """What share each encoder layer has in the clip's summary: bars the mean, dots each head.

    ``weights: (heads, layers)`` after the softmax, each head's summing to 1; ``layers`` are their
    numbers in the encoder, layer 0 being its input.
    """
    mean, decimals = weights.mean(axis=0), _decimals(weights)
    figure = _bars(mean, [str(layer) for layer in layers], title)
    axes = figure.axes[0]
    for place, (value, highest) in enumerate(zip(mean, weights.max(axis=0), strict=True)):
        axes.annotate(
            f"{value:.{decimals}f}", (place, highest), (0, 6), textcoords="offset points",
            ha="center", fontsize=9, bbox=OVER_LINES,
        )  # fmt: skip
    if len(weights) > 1:
        for head in weights:
            axes.plot(range(len(layers)), head, "o", **DOTS)  # type: ignore[arg-type]
        axes.containers[0].set_label("mean of the heads, in numbers")
        axes.get_lines()[-1].set_label("each head")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.set(xlabel="encoder layer (0 = input to the first)", ylabel="weight")
    axes.axhline(1 / len(layers), color="black", linestyle=":", linewidth=1)
    axes.text(1.005, 1 / len(layers), "equal", transform=axes.get_yaxis_transform(), va="center")
    return figure


def scale_weights_figure(weights: Sequence[float], title: str, hop_ms: float) -> "Figure":
    """How much TIM-Net's fusion draws on each temporal scale.

    ``weights: (blocks,)``, unbounded; block j (from 1) has dilation 2^(j-1) and has seen
    1 + 2 (2^j - 1) frames, ``hop_ms`` apart: two convolutions of kernel 2 each.
    """
    spans_s = [(1 + 2 * (2**block - 1)) * hop_ms / 1000 for block in range(1, len(weights) + 1)]
    heard = [f"{s:.1f} s" if s >= 1 else f"{1000 * s:.0f} ms" for s in spans_s]
    labels = [f"{2**block}\n{span}" for block, span in enumerate(heard)]
    figure = _bars(weights, labels, title)
    axes = figure.axes[0]
    axes.bar_label(axes.containers[0], fmt=f"%.{_decimals(weights)}f", fontsize=9, padding=2)  # type: ignore[arg-type]
    axes.set(xlabel="dilation of the block, and what it hears", ylabel="weight")
    return figure


def _shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """Per cent of each row's clips as text: halves rounded up, and 0 and 100 only where exact."""
    support = np.maximum(counts.sum(axis=1), 1)[:, None]
    per_cent = (200 * counts + support) // (2 * support)  # in integers, which round exactly
    texts: npt.NDArray[np.object_] = per_cent.astype(str).astype(object)
    texts[(per_cent == 0) & (counts > 0)] = "<1"
    texts[(per_cent == 100) & (counts < support)] = ">99"
    return texts


def _matrix(
    axes: "Axes",
    values: npt.NDArray[np.number],
    texts: npt.NDArray[np.object_],
    classes: Sequence[str],
    top: int,
) -> None:
    """Draw one annotated matrix; zeros are left blank so that the confusions stand out."""
    import seaborn as sns

    empty = np.repeat(values.sum(axis=1, keepdims=True) == 0, len(classes), axis=1)
    sns.heatmap(
        values, mask=empty, annot=np.where(values, texts, ""), fmt="", cmap="Blues", vmin=0,
        vmax=top, cbar=False, square=True, linewidths=0.5, linecolor="#e6e6e6",
        annot_kws={"size": 10}, ax=axes, xticklabels=list(classes), yticklabels=list(classes),
    )  # fmt: skip
    axes.set_facecolor("#d9d9d9")
    axes.tick_params(labelsize=10, length=0)
    _slant(axes)
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    axes.set_xlabel("predicted emotion", fontsize=11)


def _slant(axes: "Axes") -> None:
    """Turn the names under the axis so that long ones do not meet."""
    axes.set_xticklabels(axes.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")


def _curves(axes: "Axes", history: pd.DataFrame, metric: str, kept: int) -> None:
    """Draw train and validation of one metric, and the epoch whose checkpoint was kept."""
    marker = "o" if len(history) <= 30 else ""  # single epochs are visible up to about thirty
    for split, colour in (("train", TRAIN_COLOUR), ("val", VAL_COLOUR)):
        column = history.get(f"{split}/{metric}")
        if column is not None and column.notna().any():
            known = column.dropna()
            axes.plot(known.index, known, color=colour, marker=marker, markersize=3.5, label=split)
    axes.axvline(kept, color=MARK_COLOUR, linestyle="--", linewidth=1, label=f"kept ({kept})")
    axes.set_xlabel("epoch", fontsize=11)
    first, last = history.index.min(), history.index.max()
    axes.set_xlim(first - 0.5, last + max(0.5, 0.03 * len(history)))  # one epoch has an axis, too
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.legend(frameon=False)
    unframed(axes)


def _bars(weights: Sequence[float] | Array, labels: Sequence[str], title: str) -> "Figure":
    """One bar a weight."""
    figure = new_figure(max(6.0, 0.62 * len(weights) + 1.8), 3.8, title)
    axes = figure.subplots()
    axes.bar(range(len(labels)), np.asarray(weights, dtype=float), color=VAL_COLOUR)
    axes.set_xticks(range(len(labels)), labels)
    axes.margins(y=0.12)
    axes.axhline(0, color="black", linewidth=0.8)
    unframed(axes)
    return figure


def _decimals(weights: npt.ArrayLike) -> int:
    """As many as figures have, or one more where training has changed little."""
    return 3 if np.ptp(weights) >= 0.01 else 4


def unframed(axes: "Axes", guides: Literal["x", "y"] = "y") -> None:
    """No frame at the top and right, and faint guides from an axis, behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=guides, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def label_bands(axes: "Axes", mel_hz: Sequence[float]) -> None:
    """Name mel bands, which are drawn from 0 up, by their frequency."""
    bands = [int(np.argmin(np.abs(np.asarray(mel_hz) - hz))) for hz in MEL_TICKS_HZ]
    axes.set_yticks([band + 0.5 for band in bands], [f"{hz:,}" for hz in MEL_TICKS_HZ])
