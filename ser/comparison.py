"""The table over the runs of a multirun or a sweep: one row an arm, folds pooled, mean ± sd."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ser.confidence import classes_in
from ser.metrics import METRICS, pool_folds
from ser.report import comparison_cells, markdown, show
from ser.run_folder import RunFolder
from ser.scoring import figures_of
from ser.tracking import Tracker, flatten

log = logging.getLogger(__name__)

# Options that repeat an arm, or say where things lie, and do not make another
REPEATS = ("seed", "split.fold", "runs_root", "cache_root", "data_root")
_WORDS = re.compile(r" (?=[~+]*[\w.@/]+=)")  # between two options: values hold spaces, too


def tell_comparison(tracker: Tracker, parent: str, digests: Sequence[str] | None = None) -> None:
    """Print the table over the finished children of a parent run, and keep it there.

    `digests` keeps only the children of these recipes.
    """
    children = (
        tracker.children(parent) if digests is None else finished_runs(tracker, parent, digests)
    )
    if children.empty:
        log.warning("no run has finished: there is nothing to compare")
        return
    rows = compare_rows(children)
    part = "test" if all("test/uar" in row for row in rows) else "best"
    metrics = [f"{part}/{name}" for name in METRICS]
    where = "test part; folds pooled"
    if part == "best":
        where = "validation part, kept checkpoint; mean over folds"
    title = f"{len(children)} runs, {where}, mean ± sd over seeds"
    if (children["synthetic"] == "true").any():
        title += "; SYNTHETIC SPEECH"
    cells = comparison_cells(rows, metrics)
    show(cells, title, Console())
    table = markdown(cells)
    tracker.describe(parent, f"{title}\n\n{table}")
    tracker.log_table(parent, "comparison.md", table)
    tracker.log_table(parent, "runs.csv", pd.DataFrame(rows).to_csv(index=False))


def finished_runs(tracker: Tracker, parent: str, digests: Sequence[str]) -> pd.DataFrame:
    """The finished children of a parent run that follow these recipes, one each.

    The last recipe comes first, whenever its run was done: as in a sweep that nothing cut off.
    """
    children, last_first = tracker.children(parent), list(digests)[::-1]
    if children.empty:
        return children
    children = children[children["config"].isin(last_first)].drop_duplicates("config")
    return children.sort_values("config", key=lambda config: config.map(last_first.index))


def compare_rows(children: pd.DataFrame) -> list[dict[str, str | float]]:
    """One row for each arm and seed; the test clips of its folds are pooled and scored once.

    Validation figures are the mean over the folds, which may validate on the same clips. A row
    of fewer folds than another names them in its arm: its figures are of other clips.
    """
    children = children.assign(arm=arm_names(children)).drop_duplicates(["arm", "seed", "fold"])
    groups = list(children.groupby(["arm", "seed"], sort=False))
    most = max(len(runs) for _, runs in groups)
    rows: list[dict[str, str | float]] = []
    for (arm, seed), runs in groups:
        only = f" (only fold {', '.join(sorted(runs['fold'], key=int))})" * (len(runs) < most)
        name, figures = f"{arm}{only}", _figures(runs)
        rows.append({"arm": name, "seed": str(seed), "folds": len(runs), **figures})
    return rows


def _figures(runs: pd.DataFrame) -> dict[str, float]:
    own = runs.filter(regex="^(test|best)/").mean().dropna()
    figures = {str(key): float(value) for key, value in own.items()}
    if len(runs) == 1:
        return figures
    validation = {key: value for key, value in figures.items() if key.startswith("best/")}
    tested = "test/uar" in runs and runs["test/uar"].notna().all()
    return validation | (_pooled(runs) if tested else {})


def _pooled(folds: pd.DataFrame) -> dict[str, float]:
    tables = [RunFolder(Path(folder)).read_predictions() for folder in folds["run_folder"]]
    together = pool_folds(tables)
    return figures_of(together, classes_in(together), "test")


def arm_names(children: pd.DataFrame) -> list[str]:
    """What distinguishes each run: the options that vary, save those that only repeat.

    An experiment's file is always named.
    """
    options = [
        dict(word.split("=", 1) for word in _WORDS.split(text) if "=" in word)
        for text in children["overrides"].fillna("")
    ]
    keys = [key for row in options for key in row]
    varying = [
        key
        for key in dict.fromkeys(keys)
        if key == "experiment"
        or (key not in REPEATS and len({row.get(key) for row in options}) > 1)
    ]
    names = []
    for row, model in zip(options, children["model"], strict=True):
        words = [
            row[key] if key == "model" else f"{key}={row[key]}" for key in varying if key in row
        ]
        if varying == ["experiment"] or not words:
            words.insert(0, str(model))
        names.append(" ".join(words))
    return names


def model_names(models: Sequence[DictConfig]) -> list[str]:
    """What distinguishes models: the name, and as few of their options as tell all apart.

    Options of the model itself come before those of its parts, which may follow from them. Where an
    encoder lies is no difference, and an option that not all of a name have is not compared.
    """
    every = [flatten(cast(dict[str, Any], OmegaConf.to_container(model))) for model in models]
    names = [str(options["name"]) for options in every]
    keys = dict.fromkeys(key for options in every for key in options if key != "name")
    for key in sorted(keys, key=lambda key: key.count(".")):
        found: dict[str, set[Any]] = {}
        for name, options in zip(names, every, strict=True):
            found.setdefault(name, set()).add(str(options[key]) if key in options else None)
        varying = {name for name, values in found.items() if len(values) > 1 and None not in values}
        if not key.endswith("encoder.path"):
            names = [
                f"{name} {key}={options[key]}" if name in varying else name
                for name, options in zip(names, every, strict=True)
            ]
    return names
