"""The finished runs of one protocol, checked to be comparable: arms × seeds, folds pooled."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ser.comparison import arm_names
from ser.confidence import PREFIX, classes_in
from ser.errors import SerError
from ser.metrics import pool_folds
from ser.report import counted
from ser.run_folder import RunFolder
from ser.statistics import align

CHANCE = "chance"
AVERAGED = ", probabilities averaged over seeds"
SAME = ("dataset", "corpora", "labels", "split", "manifest", "shares_speakers", "synthetic")


@dataclass(frozen=True)
class Arm:
    """One recipe's test clips, a table a seed: the same clips in the same order for every arm."""

    name: str
    model: str
    tables: tuple[pd.DataFrame, ...]
    """Predictions of each seed with the column `fold`, sorted by id."""
    seeds: tuple[str, ...]
    commits: tuple[str, ...] = ()
    average_of: str = ""
    """The arm over whose seeds the one table's probabilities are the mean."""
    enrolment: str = "0"
    """Unlabelled clips of each test speaker that it was adapted to: a number, or `all`."""


@dataclass(frozen=True)
class Protocol:
    """What the runs have in common, and the arms."""

    name: str
    command: str
    dataset: str
    root: str
    """`dataset.root`: the corpora's folder, or the one that they lie in."""
    corpora: tuple[str, ...]
    labels: str
    split: str
    manifest: str
    split_hashes: tuple[str, ...]
    shares_speakers: bool
    synthetic: bool
    encoders: tuple[str, ...]
    folds: tuple[int, ...]
    n_folds: int
    """Of the split; `folds` may be some of them."""
    classes: tuple[str, ...]
    arms: tuple[Arm, ...]
    incomplete: tuple[str, ...]
    """Arms and seeds left out, with the folds they lack."""
    failed: tuple[str, ...] = ()
    """Arms whose runs failed, with how many of them and why."""

    @property
    def clips(self) -> pd.DataFrame:
        """One arm's table: whose the clips are and what is acted in them."""
        return self.arms[0].tables[0]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Every seed of any arm."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}, key=int))

    @property
    def whole(self) -> bool:
        """Whether every fold of the split was run."""
        return len(self.folds) == self.n_folds

    @property
    def chance(self) -> float:
        """UAR of one answer for all clips, over the classes that are tested."""
        return 1 / int(self.clips["truth"].nunique())


def read_protocol(
    children: pd.DataFrame, name: str, command: str, failures: pd.DataFrame | None = None
) -> Protocol:
    """The protocol of these finished runs (`Tracker.children`).

    `failures` has a row for each run that failed: overrides, model, reason. Raises SerError when
    two runs are of different clips, labels or splits, when a recipe was run twice, or when no arm
    has all of its folds.
    """
    every = pd.concat([children, failures])
    every["arm"] = arm_names(every)
    children, failures = every.iloc[: len(children)], every.iloc[len(children) :]
    _check_comparable(children)
    folds = tuple(sorted(map(int, children["fold"].unique())))
    arms, incomplete = _read_arms(children, folds)
    if not arms:
        raise SerError(
            f"{name}: no arm has finished all of its {len(folds)} folds ({'; '.join(incomplete)}). "
            "Start the sweep again under its name: it does what is missing."
        )
    first = children.iloc[0]
    clips = arms[0].tables[0]
    return Protocol(
        name,
        command,
        str(first["dataset"]),
        str(first["dataset.root"]),
        tuple(str(first["corpora"]).split(",")),
        str(first["labels"]),
        str(first["split"]),
        str(first["manifest"]),
        tuple(children.drop_duplicates("fold").sort_values("fold")["split_hash"]),
        first["shares_speakers"] == "true",
        first["synthetic"] == "true",
        tuple(sorted(set(children["encoder"]) - {"none"})),
        folds,
        _n_folds(children, folds),
        tuple(classes_in(clips)),
        tuple(arms),
        tuple(incomplete),
        _told(failures),
    )


def _told(failures: pd.DataFrame) -> tuple[str, ...]:
    """Each arm and reason once."""
    if failures.empty:
        return ()
    told = "`" + failures["arm"] + "` failed: " + failures["reason"]
    return tuple(f"{words} ({counted(n, 'run')})" for words, n in Counter(told).items())


def _n_folds(children: pd.DataFrame, folds: Sequence[int]) -> int:
    """How many folds the split has; runs from before this was kept say no more than their own."""
    told = [] if "n_folds" not in children else children["n_folds"].dropna().tolist()
    return max(map(int, told), default=len(folds))


def seed_averaged(arm: Arm) -> Arm | None:
    """The arm whose probabilities are the mean over this one's seeds.

    None where there is one seed, or where the seeds give the same probabilities (controls).
    """
    first, *others = arm.tables
    classes = classes_in(first)
    columns = [f"{PREFIX}{name}" for name in classes]
    if all(first[columns].equals(other[columns]) for other in others):
        return None
    mean = sum(table[columns] for table in arm.tables) / len(arm.tables)
    assert isinstance(mean, pd.DataFrame)
    table = first.copy()
    table[columns] = mean
    table["confidence"] = mean.max(axis=1)
    table["prediction"] = pd.Index(classes)[mean.to_numpy().argmax(axis=1)]
    return Arm(arm.name + AVERAGED, arm.model, (table,), arm.seeds, arm.commits, arm.name)


def _check_comparable(children: pd.DataFrame) -> None:
    for tag in SAME:
        values = sorted(map(str, children[tag].unique()))
        if len(values) > 1:
            raise SerError(
                f"The runs differ in {tag}: {', '.join(v[:24] for v in values)}. A table of "
                "results holds runs on the same clips, labels and split only: give each its own "
                "sweep.name."
            )
    for fold, runs in children.groupby("fold"):
        if runs["split_hash"].nunique() > 1:
            raise SerError(
                f"Fold {fold} has {runs['split_hash'].nunique()} splits (split_hash differs): its "
                "speech or split options changed between the runs. Use another sweep.name."
            )
    keys = ["arm", "seed", "fold"]
    repeated = children[children.duplicated(keys)]
    if len(repeated):
        arm, seed, fold = repeated.iloc[0][keys]
        raise SerError(
            f"Arm {arm} has two runs of seed {seed}, fold {fold}: their options differ, and not in "
            "a way that names the arm. Use another sweep.name."
        )


def _read_arms(children: pd.DataFrame, folds: Sequence[int]) -> tuple[list[Arm], list[str]]:
    arms: list[Arm] = []
    incomplete = []
    for name, runs in children.groupby("arm", sort=False):
        tables: list[pd.DataFrame] = []
        seeds: list[str] = []
        for seed in sorted(runs["seed"].unique(), key=int):
            of_seed = runs[runs["seed"] == seed]
            lacking = sorted(set(folds) - set(map(int, of_seed["fold"])))
            if lacking:
                incomplete.append(f"{name} seed {seed} lacks fold {', '.join(map(str, lacking))}")
                continue
            table = _pooled(of_seed)
            tables.append(align((arms[0].tables if arms else [*tables, table])[0], table))
            seeds.append(str(seed))
        if tables:
            commits = tuple(dict.fromkeys(runs["git_commit"]))
            model = str(runs["model"].iloc[0])
            heard = "0" if "enrolment" not in runs else str(runs["enrolment"].iloc[0])
            arms.append(
                Arm(str(name), model, tuple(tables), tuple(seeds), commits, enrolment=heard)
            )
    return arms, incomplete


def _pooled(runs: pd.DataFrame) -> pd.DataFrame:
    tables = [
        RunFolder(Path(folder)).read_predictions().assign(fold=int(fold))
        for folder, fold in zip(runs["run_folder"], runs["fold"], strict=True)
    ]
    return pool_folds(tables).sort_values("id", ignore_index=True)
