"""What a split is, what a policy must answer, and the checks that every split passes."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, NamedTuple

import pandas as pd

from ser.errors import SerError

COLUMNS = ("id", "corpus", "speaker", "sex", "label", "sha256")
SHOWN_OFFENDERS = 5


class LeakError(SerError):
    """A speaker or a recording is in two parts of a split: any score on it would be too good."""


@dataclass(frozen=True)
class Split:
    """The clip ids of each part, each part sorted.

    `shares_speakers`: the protocol lets the test speakers be heard in training.
    `val_shares_speakers`: too few train speakers to spare one, so validation is other clips of
    the train speakers (the test part is still apart from both unless `shares_speakers`).
    """

    name: str
    fold: int
    n_folds: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    shares_speakers: bool
    val_shares_speakers: bool = False

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The ids by part name: train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted ids of each part: equal if and only if the parts are equal."""
        lines = [f"{part}:{clip}" for part, ids in self.parts.items() for clip in sorted(ids)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Division(NamedTuple):
    """The ids that a policy takes out of the table, in any order; the rest is train."""

    val: Collection[str]
    test: Collection[str]
    val_shares_speakers: bool


class SplitPolicy(ABC):
    """A rule that divides a table of clips into train, val and test, fold by fold."""

    shares_speakers: ClassVar[bool] = False

    def __init__(self, name: str, fold: int, **fractions: float) -> None:
        """`name` as in conf/split/<name>.yaml; `fold` counts from 0.

        `fractions` are the shares that the policy draws; they are checked when a table is split.
        """
        self.name, self.fold, self.fractions = name, fold, fractions

    @abstractmethod
    def count_folds(self, table: pd.DataFrame) -> int:
        """How many folds the policy has on this table; SerError where it does not apply to it."""

    @abstractmethod
    def divide(self, table: pd.DataFrame) -> Division:
        """The val and test ids of `self.fold`; `table` is sorted by id and `fold` is in range."""

    def split(self, table: pd.DataFrame) -> Split:
        """Divide `table` (columns id, corpus, speaker, sex, label, sha256; usable clips only).

        Raises SerError where the policy does not fit the table, LeakError where two speakers that
        land in different parts hold the same recording.
        """
        check_fractions(self.name, self.fractions)
        rows = sorted_rows(table)
        n_folds = self.count_folds(rows)
        self._check_fold(n_folds)
        division = self.divide(rows)
        val, test = frozenset(division.val), frozenset(division.test)
        split = Split(
            name=self.name,
            fold=self.fold,
            n_folds=n_folds,
            train=tuple(i for i in rows["id"] if i not in val | test),
            val=tuple(sorted(val)),
            test=tuple(sorted(test)),
            shares_speakers=self.shares_speakers,
            val_shares_speakers=division.val_shares_speakers,
        )
        check_leaks(split, rows)
        return split

    def folds_of(self, table: pd.DataFrame) -> int:
        """How many folds the policy has on `table`, as `split` takes it."""
        return self.count_folds(sorted_rows(table))

    def _check_fold(self, n_folds: int) -> None:
        if 0 <= self.fold < n_folds:
            return
        allowed = "0 only" if n_folds == 1 else f"0 to {n_folds - 1}"
        folds = "1 fold" if n_folds == 1 else f"{n_folds} folds"
        raise SerError(f"split.fold={self.fold}: {self.name} has {folds}, {allowed}.")


def sorted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that splits read, sorted by id, unknown sexes named; SerError on a bad table.

    Adds `home`: the first corpus of the row's speaker. RAVDESS' actors also sing in ravdess_song;
    such corpora are divided together, as one.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise SerError(
            f"The table to split lacks the column(s) {', '.join(missing)}: a split reads "
            f"{', '.join(COLUMNS)}. Build it with ser.manifest and add `label`."
        )
    if table.empty:
        raise SerError(
            "The table to split holds no clip: nothing is left after the label set and the "
            "problem filter. Choose another dataset or label set."
        )
    if table["id"].duplicated().any():
        twice = sorted(set(table.loc[table["id"].duplicated(), "id"]))
        raise SerError(f"Clip ids must be unique; in the table twice: {shorten(twice)}.")
    rows = table.loc[:, list(COLUMNS)].sort_values("id", ignore_index=True)
    return rows.assign(
        sex=rows["sex"].astype(object).where(rows["sex"].notna(), "unknown"),
        home=rows.groupby("speaker")["corpus"].transform("min"),
    )


def check_fractions(policy: str, fractions: Mapping[str, float]) -> None:
    """SerError unless each fraction is in (0, 1) and together they leave something to train on."""
    for key, value in fractions.items():
        if not 0 < value < 1:
            raise SerError(f"split.{key}={value}: {policy} takes a fraction between 0 and 1.")
    if sum(fractions.values()) >= 1:
        keys = " + ".join(f"split.{key}" for key in fractions)
        raise SerError(
            f"{keys} = {sum(fractions.values()):g}: {policy} leaves nothing to train on. "
            "Make them sum to less than 1."
        )


def shorten(names: Sequence[str]) -> str:
    """The first few names, and how many there are in all where some are left out."""
    shown = ", ".join(names[:SHOWN_OFFENDERS])
    return shown if len(names) <= SHOWN_OFFENDERS else f"{shown}, ... ({len(names)} in all)"


def check_leaks(split: Split, table: pd.DataFrame) -> None:
    """Raise LeakError where parts share a clip, a speaker or a recording (equal sha256).

    Speakers may be shared where the protocol says so (`shares_speakers`, and between train and
    val `val_shares_speakers`); a recording may never be in two parts.
    """
    rows = table.set_index("id")
    unknown = sorted({clip for ids in split.parts.values() for clip in ids} - set(rows.index))
    if unknown:
        raise SerError(
            f"split={split.name}, fold {split.fold} names clips that the table lacks: "
            f"{shorten(unknown)}. Check a split against the table that it was made from."
        )
    for one, other in combinations(split.parts, 2):
        ids, other_ids = split.parts[one], split.parts[other]
        where = f"split={split.name}, fold {split.fold}: {one} and {other} share"
        _raise_if_shared(set(ids), set(other_ids), f"{where} the clip(s)", "A clip is in one part.")
        if not (split.shares_speakers or (split.val_shares_speakers and other == "val")):
            _raise_if_shared(
                set(rows.loc[list(ids), "speaker"]),
                set(rows.loc[list(other_ids), "speaker"]),
                f"{where} the speaker(s)",
                "Each speaker must be in one part only: move all of a speaker's clips together.",
            )
        _check_content(rows.loc[list(ids)], rows.loc[list(other_ids)], where)


def _check_content(one: pd.DataFrame, other: pd.DataFrame, where: str) -> None:
    shared = set(one["sha256"]) & set(other["sha256"])
    if not shared:
        return
    offenders = [*one.index[one["sha256"].isin(shared)], *other.index[other["sha256"].isin(shared)]]
    raise LeakError(
        f"{where} {len(shared)} recording(s), sample for sample the same: "
        f"{shorten(sorted(offenders))}. A recording must be in one part only: "
        "remove the copies from the corpus, or give them the same speaker."
    )


def _raise_if_shared(one: set[str], other: set[str], what: str, fix: str) -> None:
    shared = sorted(one & other)
    if shared:
        raise LeakError(f"{what} {shorten(shared)}. {fix}")


def check_classes(split: Split, table: pd.DataFrame, classes: Collection[str]) -> None:
    """Raise SerError for a single class, an empty part, or a class with no clip to train on."""
    if len(classes) < 2:
        raise SerError(
            f"All clips are of one class ({', '.join(classes)}), so there is nothing to tell "
            "apart: give speech of two emotions or more, or another label set (dataset.labels)."
        )
    where = f"split={split.name}, fold {split.fold}"
    for part, ids in split.parts.items():
        if not ids:
            raise SerError(
                f"{where}: the {part} part is empty. Every part needs a clip: add speakers or "
                "corpora, or choose another split, for example split=random."
            )
    trained = set(table.loc[table["id"].isin(split.train), "label"])
    untrained = [label for label in classes if label not in trained]
    if untrained:
        raise SerError(
            f"{where}: no training clip of the class(es) {', '.join(untrained)}. A class must be "
            "trained to be predicted: choose a label set without it (dataset.labels=native has "
            "those that there are), another fold or more corpora."
        )
