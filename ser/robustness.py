"""What a model loses in bad conditions: figures of each against the clean clips, with intervals."""

import logging
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from ser.augment import Augmented
from ser.babble import TALKERS
from ser.conditions import Degradation
from ser.errors import SerError
from ser.features import Feature
from ser.features.frozen import encoders_kept
from ser.metrics import counts_of, uar, war
from ser.report import clips_and_speakers, markdown
from ser.robustness_plots import robustness_figure
from ser.statistics import FEW_SPEAKERS, Difference, align, difference_of, draw_clips, metric_draws
from ser.tables import DAMAGED, read_table, write_table
from ser.whole_files import save_figure, write_text

log = logging.getLogger(__name__)

Predict = Callable[[Sequence[Feature]], pd.DataFrame]
"""Predictions (ser.scoring.predict_clips) of the clips in question from these features."""

CLEAN = "clean"


def babble_clips(clips: pd.DataFrame, speech: pd.DataFrame) -> pd.DataFrame:
    """The clips that babble is mixed from: those that are scored, each for other speakers' clips.

    Where these have fewer than five speakers (leave one speaker out), all of the speech at hand,
    which may be speech that the model was trained on; the clip's own speaker is never heard.
    """
    if clips["speaker"].nunique() > TALKERS:
        return clips
    log.info(
        "babble: voices of all %d speakers at hand are mixed in, as few are scored (%d)",
        speech["speaker"].nunique(), clips["speaker"].nunique(),
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
    before: Path | None,
) -> dict[str, float]:
    """Predict under each condition, print the table, keep it in `folder`; gives the metrics.

    The degraded clips' features are cached like any other, so a second call computes none.
    `before` is the folder of another run's evaluation to compare with. Raises SerError when it
    does not hold the same clips under the same conditions.
    """
    then = None if before is None else read_answers(before, conditions)
    degraded = []
    with encoders_kept():
        for number, condition in enumerate(conditions, start=1):
            log.info("condition %d of %d: %s", number, len(conditions), condition.label)
            changed = [Augmented(feature, condition, copy=0) for feature in features]
            degraded.append(predict(changed))
    table = compare_conditions(conditions, degraded, clean, classes)
    _keep_others(folder, table)
    answers = write_robustness(folder, table, conditions, degraded, clean)
    sections = {title: robustness_markdown(table)}
    gains = None if then is None else gain_by_condition(then, answers, classes)
    other = "" if before is None else before.parent.parent.name
    if gains is not None:
        sections[f"against {other}"] = gains_markdown(gains)
        write_text(folder / "gains.csv", gains.to_csv(index=False))
    counted = f"{title}, {clips_and_speakers(clean)}"
    chance = 1 / clean["truth"].nunique()
    figure = robustness_figure(table, counted, chance, gains, other)
    save_figure(figure, folder / "robustness.png")
    text = "\n".join(f"## {heading}\n\n{cells}\n" for heading, cells in sections.items())
    text += f"\n{about_intervals(clean)}\n"
    write_text(folder / "robustness.md", text)
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
    return robustness_metrics(table)


def about_intervals(clean: pd.DataFrame) -> str:
    """What the tables' lost UAR, mean and intervals are."""
    told = (
        "UAR lost is against the clean clips; the mean is over the conditions, all weighing the "
        "same. Intervals are from a bootstrap over speakers and their clips."
    )
    fewest = clean.groupby("corpus")["speaker"].nunique().min()
    if fewest == 1:
        told += " A corpus has one speaker here: they are over that speaker's clips alone."
    elif fewest <= FEW_SPEAKERS:
        told += f" {fewest} speakers are few: they are too narrow."
    return told


def _keep_others(folder: Path, table: pd.DataFrame) -> None:
    """Rename what was scored before, where it has conditions that are not scored now."""
    path = folder / "robustness.csv"
    if not path.is_file() or set(pd.read_csv(path)["condition"]) <= set(table["condition"]):
        return
    number = next(n for n in count(1) if not folder.with_name(f"{folder.name}.{n}").exists())
    kept = folder.rename(folder.with_name(f"{folder.name}.{number}"))
    log.info("other conditions were scored before: they are in %s now", kept)


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
    named = [(CLEAN, CLEAN, float("nan"))]
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
    counts = counts_of(predictions, classes)
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
            "95 % interval": _intervals(table),
        }
    )
    clean = table["family"] == CLEAN
    cells.loc[clean, ["UAR lost", "95 % interval"]] = ""
    return markdown(cells)


def write_robustness(
    folder: Path,
    table: pd.DataFrame,
    conditions: Sequence[Degradation],
    degraded: Sequence[pd.DataFrame],
    clean: pd.DataFrame,
) -> pd.DataFrame:
    """robustness.csv and predictions.parquet in `folder`; gives the latter.

    A row for each clip and condition, which the column `condition` names, `clean` among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "robustness.csv", table.to_csv(index=False))
    labels = [CLEAN, *(condition.label for condition in conditions)]
    answers = pd.concat(
        [
            rows.assign(condition=label)
            for label, rows in zip(labels, [clean, *degraded], strict=True)
        ],
        ignore_index=True,
    )
    write_table(answers, folder / "predictions.parquet")
    return answers


def read_answers(folder: Path, conditions: Sequence[Degradation]) -> pd.DataFrame:
    """What `write_robustness` kept there of these conditions; SerError when one is not there."""
    path = folder / "predictions.parquet"
    if not path.is_file():
        raise SerError(
            f"against: {folder} does not exist, so there is nothing to compare with. Score that "
            "run first, with the same robustness, severities, part and dataset."
        )
    try:
        answers = read_table(path)
    except DAMAGED as error:
        raise SerError(
            f"against: {path} cannot be read ({error}). Score that run again."
        ) from error
    wanted = [CLEAN, *(condition.label for condition in conditions)]
    lacking = [label for label in wanted if label not in set(answers["condition"])]
    if lacking:
        raise SerError(
            f"against: {folder} was not scored under {', '.join(lacking)}. Score that run again "
            "with the same robustness and severities."
        )
    return answers[answers["condition"].isin(wanted)]


def gain_by_condition(
    before: pd.DataFrame, after: pd.DataFrame, classes: Sequence[str]
) -> pd.DataFrame:
    """UAR of each condition before and after, the gain and its 95 % interval; then their mean.

    Both hold `write_robustness`'s rows of the same conditions. The mean leaves clean out. Draws
    are paired: the same clips of both. Raises SerError when the clips differ.
    """
    rows, draws = [], []
    clean = after[after["condition"] == CLEAN]
    weights = draw_clips(clean)
    for label in after["condition"].unique():
        pair = [align(clean, table[table["condition"] == label]) for table in (before, after)]
        then, now = (_figures(table, classes)["uar"] for table in pair)
        old, new = (metric_draws(weights, table, classes, uar) for table in pair)
        draws.append(new - old)
        rows.append({"condition": label, "before": then, "after": now})
    before_mean, after_mean = (np.mean([row[k] for row in rows[1:]]) for k in ("before", "after"))
    rows.append({"condition": "mean", "before": before_mean, "after": after_mean})
    draws.append(np.mean(draws[1:], axis=0))
    gains = [
        difference_of(row["after"] - row["before"], drawn)
        for row, drawn in zip(rows, draws, strict=True)
    ]
    return pd.DataFrame(rows).assign(
        gain=[g.mean for g in gains], low=[g.low for g in gains], high=[g.high for g in gains]
    )


def gains_markdown(gains: pd.DataFrame) -> str:
    """The table of `gain_by_condition` in Markdown."""
    cells = gains[["condition"]].assign(
        before=gains["before"].map("{:.3f}".format),
        after=gains["after"].map("{:.3f}".format),
        gain=gains["gain"].map("{:+.3f}".format),
        interval=_intervals(gains),
    )
    return markdown(cells.rename(columns={"interval": "95 % interval"}))


def _intervals(table: pd.DataFrame) -> list[str]:
    ends = zip(table["low"], table["high"], strict=True)
    return [f"{low:.3f} to {high:.3f}" for low, high in ends]
