"""What a model loses in bad conditions: figures of each against the clean clips, with intervals."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from ser.augment import Augmented
from ser.babble import TALKERS
from ser.conditions import Degradation
from ser.features import Feature
from ser.metrics import confusion, uar, war
from ser.plots import VAL_COLOUR, new_figure, unframed
from ser.report import markdown
from ser.statistics import Difference, align, difference_of, draw_clips, metric_draws

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Predict = Callable[[Sequence[Feature]], pd.DataFrame]
"""Predictions (ser.scoring.predict_clips) of the clips in question from these features."""

PANELS = {
    "noise": ("babble", "white", "pink"), "reverberation": ("reverb",), "MP3": ("mp3",),
    "clipping": ("clipping",), "other": ("telephone", "level", "speed"),
}  # fmt: skip
AXIS = {
    "noise": "SNR, dB",
    "reverberation": "RT60, s",
    "MP3": "kbit/s",
    "clipping": "share of peak",
}
COLOURS = {"babble": "#d55e00", "white": "#0173b2", "pink": "#cc78bc"}  # colour-blind safe


def babble_clips(clips: pd.DataFrame, speech: pd.DataFrame) -> pd.DataFrame:
    """The clips that babble is mixed from: those that are scored, each for other speakers' clips.

    Where these have fewer than five speakers (leave one speaker out), all of the speech at hand,
    which may be speech that the model was trained on; the clip's own speaker is never heard.
    """
    if clips["speaker"].nunique() > TALKERS:
        return clips
    log.info(
        "babble: %d speakers are scored, so voices of all %d speakers at hand are mixed in",
        clips["speaker"].nunique(), speech["speaker"].nunique(),
    )  # fmt: skip
    return speech


def score_robustness(
    conditions: Sequence[Degradation],
    features: Sequence[Feature],
    predict: Predict,
    clean: pd.DataFrame,
    classes: Sequence[str],
    folder: Path,
    title: str,
) -> dict[str, float]:
    """Predict under each condition, print the table, keep it in `folder`; gives the metrics.

    The degraded clips' features are cached like any other, so a second call computes none.
    """
    degraded = []
    for number, condition in enumerate(conditions, start=1):
        log.info("condition %d of %d: %s", number, len(conditions), condition.label)
        degraded.append(predict([Augmented(feature, condition, copy=0) for feature in features]))
    table = compare_conditions(conditions, degraded, clean, classes)
    write_robustness(folder, table, conditions, degraded, title, len(classes))
    text = f"{title}\n\n{robustness_markdown(table)}\n"
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
    return robustness_metrics(table)


def compare_conditions(
    conditions: Sequence[Degradation],
    degraded: Sequence[pd.DataFrame],
    clean: pd.DataFrame,
    classes: Sequence[str],
) -> pd.DataFrame:
    """A row for each condition, after `clean` and before `mean`, the mean over the conditions.

    Columns: condition, family, severity, uar, war, drop (UAR lost against the clean clips), and
    low and high, its 95 % interval by the draws of ser.statistics, the same for every row.
    """
    weights = draw_clips(clean)
    at_best = metric_draws(weights, clean, classes, uar)
    figures, draws = [_figures(clean, classes)], []
    for predictions in degraded:
        same = align(clean, predictions)
        figures.append(_figures(same, classes))
        draws.append(metric_draws(weights, same, classes, uar))
    best_uar = figures[0]["uar"]
    drops = [
        difference_of(best_uar - row["uar"], at_best - lost)
        for row, lost in zip(figures[1:], draws, strict=True)
    ]
    mean = {key: sum(row[key] for row in figures[1:]) / len(degraded) for key in ("uar", "war")}
    figures.append(mean)
    drops = [
        Difference(0.0, 0.0, 0.0, 1.0),
        *drops,
        difference_of(best_uar - mean["uar"], at_best - sum(draws) / len(draws)),
    ]
    named = [("clean", "clean", float("nan"))]
    named += [(condition.label, condition.family, condition.severity) for condition in conditions]
    named += [("mean", "mean", float("nan"))]
    return pd.DataFrame(
        {
            "condition": label, "family": family, "severity": severity, **row,
            "drop": drop.mean, "low": drop.low, "high": drop.high,
        }
        for (label, family, severity), row, drop in zip(named, figures, drops, strict=True)
    )  # fmt: skip


def _figures(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    counts = confusion(predictions["truth"], predictions["prediction"], classes)
    return {"uar": uar(counts), "war": war(counts)}


def robustness_metrics(table: pd.DataFrame) -> dict[str, float]:
    """`robustness/<family>/<severity>/uar` and `/drop`; `clean` and `mean` have no severity."""
    metrics = {}
    for family, severity, *figures in zip(
        *(table[name] for name in ("family", "severity", "uar", "war", "drop")), strict=True
    ):
        key = family if pd.isna(severity) else f"{family}/{severity:g}"
        for name, figure in zip(("uar", "war", "drop"), figures, strict=True):
            metrics[f"robustness/{key}/{name}"] = float(figure)
    return metrics


def robustness_markdown(table: pd.DataFrame) -> str:
    """The table of `compare_conditions` in Markdown."""
    cells = pd.DataFrame(
        {
            "condition": table["condition"],
            "UAR": table["uar"].map("{:.3f}".format),
            "WAR": table["war"].map("{:.3f}".format),
            "UAR lost": table["drop"].map("{:.3f}".format),
            "95 % interval": [
                f"{low:.3f} to {high:.3f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
        }
    )
    clean = table["family"] == "clean"
    cells.loc[clean, ["UAR lost", "95 % interval"]] = ""
    return markdown(cells)


def write_robustness(
    folder: Path,
    table: pd.DataFrame,
    conditions: Sequence[Degradation],
    degraded: Sequence[pd.DataFrame],
    title: str,
    n_classes: int,
) -> None:
    """robustness.md, .csv and .png, and every prediction by condition, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robustness.md").write_text(
        f"## {title}\n\n{robustness_markdown(table)}\n", encoding="utf-8"
    )
    table.to_csv(folder / "robustness.csv", index=False)
    labelled = [
        predictions.assign(condition=condition.label)
        for condition, predictions in zip(conditions, degraded, strict=True)
    ]
    pd.concat(labelled, ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)
    robustness_figure(table, title, n_classes).savefig(folder / "robustness.png")


def robustness_figure(table: pd.DataFrame, title: str, n_classes: int) -> "Figure":
    """UAR against severity, a panel for each kind of severity, worse to the right.

    Bars are the 95 % interval of the drop; the dashed line is the clean clips' UAR.
    """
    panels = {
        name: table[table["family"].isin(families)]
        for name, families in PANELS.items()
        if table["family"].isin(families).any()
    }
    widths = [max(1.6, 0.45 * rows["condition"].nunique()) for rows in panels.values()]
    figure = new_figure(sum(widths) + 3.5, 4.2, title)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)
    best = float(table.loc[table["family"] == "clean", "uar"].iloc[0])
    for axes, (name, rows) in zip(grid[0], panels.items(), strict=True):
        axes.axhline(best, color="black", linestyle="--", linewidth=1)
        axes.axhline(1 / n_classes, color="black", linestyle=":", linewidth=1)
        _draw_points(axes, rows) if name == "other" else _draw_lines(axes, rows)
        axes.set_title(name, fontsize=11)
        axes.set_xlabel(AXIS.get(name, ""), fontsize=10)
        axes.margins(x=0.15)
        unframed(axes)
    grid[0][0].set_ylabel("UAR", fontsize=11)
    grid[0][0].set_ylim(0, min(1.0, best + 0.15))
    last = grid[0][-1]
    for height, word in ((best, "clean"), (1 / n_classes, "chance")):
        last.text(1.02, height, word, transform=last.get_yaxis_transform(), va="center")
    return figure


def _draw_lines(axes: "Axes", rows: pd.DataFrame) -> None:
    """A line for each family over its severities as equal steps, in the order of the table."""
    steps = list(dict.fromkeys(rows["severity"]))
    families = list(dict.fromkeys(rows["family"]))
    for number, family in enumerate(families):
        line = rows[rows["family"] == family]
        shift = 0.06 * (number - (len(families) - 1) / 2)  # so that intervals do not hide another
        x = [steps.index(severity) + shift for severity in line["severity"]]
        colour = COLOURS.get(family, VAL_COLOUR)
        axes.errorbar(x, line["uar"], _reach(line), color=colour, marker="o", ms=4, label=family)
    axes.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
    if len(families) > 1:
        axes.legend(frameon=False, loc="lower left", fontsize=9)


def _draw_points(axes: "Axes", rows: pd.DataFrame) -> None:
    """A point for each condition, named under it."""
    labels = [label.replace(" ", "\n", 1) for label in rows["condition"]]
    axes.errorbar(range(len(rows)), rows["uar"], _reach(rows), color=VAL_COLOUR, fmt="o", ms=4)
    axes.set_xticks(range(len(rows)), labels, fontsize=8.5)


def _reach(rows: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    """The interval of UAR as far as the drop's goes: lengths below and above the point."""
    return (rows["high"] - rows["drop"]).clip(lower=0), (rows["drop"] - rows["low"]).clip(lower=0)
