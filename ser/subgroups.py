"""Whom a model serves worse: recall by sex, speaker, age, intensity, sentence, corpus, duration.

The recall gap of a group is its mean recall over the classes that both it and the rest of the
clips have, less the rest's: UAR where all classes are in both. Its interval is by bootstrap over
speakers (`ser.statistics.draw_clips`, both sides from the same draws); a side that has one speaker
cannot be drawn so, and has its clips drawn instead.
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations
from textwrap import shorten
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.confidence import right_of, truth_of
from ser.metrics import counts_of, uar, war
from ser.report import markdown
from ser.statistics import Values, Weights, draw_clips, interval_of

N_DRAWS = 1000  # half of the tables': a run has a hundred groups, and waits for them
MOST_ROWS = 40  # of an attribute in the Markdown: the lowest
LEAST_CLIPS = 10  # a recall of fewer says nothing
NAMED = 3  # pairs of groups that a warning names
LEAST_SHARE = 0.1  # of a group's clips: less moves its recall by less than its interval
LEAST_EXPECTED = 5  # clips in a cell under independence, for its emptiness to mean something
AGE_EDGES, AGE_BANDS = (0, 30, 45, 60, 150), ("under 30", "30 to 44", "45 to 59", "60 on")  # years
DURATION_EDGES = (0.0, 2.0, 3.0, 4.0, np.inf)  # seconds; the corpora's medians lie in 2 to 4
DURATION_BANDS = ("under 2 s", "2 to 3 s", "3 to 4 s", "4 s on")
ATTRIBUTES = ("corpus", "sex", "age", "intensity", "duration", "sentence", "speaker")
COLUMNS = (
    "attribute", "group", "clips", "speakers", "classes", "uar", "war", "gap", "gap_low",
    "gap_high", "resampled", "confounded_with",
)  # fmt: skip

Rows = npt.NDArray[np.bool_]  # (clips,)
Sums = npt.NDArray[np.float32]  # (2, draws, classes): clips spoken, clips recognised


class Confound(NamedTuple):
    """Two attributes that the clips do not let tell apart."""

    first: str
    second: str
    absent: tuple[tuple[str, str], ...]  # pairs of groups with no clip, most expected first
    groups: tuple[frozenset[str], frozenset[str]]  # of either attribute, whose gaps it touches

    @property
    def text(self) -> str:
        """One sentence that says what follows."""
        pairs = [f"{shorten(a, 30)} × {shorten(b, 30)}" for a, b in self.absent[:NAMED]]
        more = f" and {len(self.absent) - NAMED} more" if len(self.absent) > NAMED else ""
        return (
            f"{self.first} and {self.second} are confounded (no clip of {', '.join(pairs)}{more}): "
            "what sets these groups apart may be either."
        )


def subgroup_table(
    predictions: pd.DataFrame, classes: Sequence[str], *, n_draws: int = N_DRAWS
) -> pd.DataFrame:
    """A row for each group of each attribute that varies, columns `COLUMNS`.

    The worst gap comes first, but bands of age and duration stand in their own order.
    Groups of fewer than ten clips are left out (they count in the rest of the others), and so is
    a group beside which fewer remain. `uar` is over the classes that the group has.
    """
    groups = groups_of(predictions)
    weights = draw_clips(predictions, n_draws=n_draws)
    bootstrap = _Gaps(predictions, classes, weights)
    met = confounds(groups)
    rows = []
    for attribute, labels in groups.items():
        known = labels.notna().to_numpy(dtype=bool)
        known_sums = bootstrap.sums(known)
        for name in labels.dropna().unique():
            inside = (labels == name).to_numpy(dtype=bool)
            rest = known & ~inside
            if min(inside.sum(), rest.sum()) < LEAST_CLIPS:
                continue
            row = _scores(predictions[inside], classes) | bootstrap.gap(inside, rest, known_sums)
            with_ = ", ".join(_confounded(met, str(attribute), str(name)))
            rows.append({"attribute": attribute, "group": name, "confounded_with": with_} | row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    place = table["attribute"].map({name: k for k, name in enumerate(ATTRIBUTES)})
    bands = {band: k for k, band in enumerate((*AGE_BANDS, *DURATION_BANDS))}
    banded = table["group"].map(bands).where(table["attribute"].isin(("age", "duration")))
    table = table.assign(place=place, rank=banded.fillna(table["gap"]))
    ordered = table.sort_values(["place", "rank", "group"], kind="stable")
    return ordered.drop(columns=["place", "rank"]).reset_index(drop=True)


def groups_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """The group of each clip by each attribute; missing where it is not known.

    Attributes with fewer than two groups are left out. Tables without the column age have none.
    """
    age = predictions.get("age", pd.Series(pd.NA, index=predictions.index))
    years = pd.to_numeric(age).astype("float64")
    columns = {
        "corpus": predictions["corpus"],
        "sex": predictions["sex"],
        "age": pd.cut(years, AGE_EDGES, right=False, labels=AGE_BANDS),
        "intensity": predictions["intensity"],
        "duration": pd.cut(
            predictions["duration_s"], DURATION_EDGES, right=False, labels=DURATION_BANDS
        ),
        "sentence": predictions["text"],
        "speaker": predictions["speaker"],
    }
    table = pd.DataFrame({name: column.astype("object") for name, column in columns.items()})
    return table.loc[:, table.nunique() > 1]


def confounds(groups: pd.DataFrame) -> list[Confound]:
    """Pairs of attributes of which some groups never meet, as TESS never meets men.

    A group of ten clips or more is confounded when five of its clips, and a tenth, were to be
    expected where it has none, by the sizes of the groups as if the attributes were independent.
    With it is its counterpart in an attribute of two groups: their gaps are one. Speakers are left
    out: each has one sex, age and corpus, so they are confounded with all of these by nature.
    """
    found = []
    for first, second in combinations([name for name in groups if name != "speaker"], 2):
        known = groups[[first, second]].dropna()
        if known.empty:
            continue
        clips = pd.crosstab(known[first], known[second])
        large = clips.loc[clips.sum(axis=1) >= LEAST_CLIPS, clips.sum(axis=0) >= LEAST_CLIPS]
        if large.size:
            found += _confounds_of(large, str(first), str(second))
    return found


def _confounds_of(clips: pd.DataFrame, first: str, second: str) -> list[Confound]:
    """The confound of two attributes, if there is one, from the clips in each pair of groups."""
    counts = clips.to_numpy()
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    missing = np.where(counts == 0, expected, 0.0)
    marks = []
    for axis in (1, 0):
        lost, size = missing.sum(axis), counts.sum(axis)
        marks.append((lost >= LEAST_EXPECTED) & (lost >= LEAST_SHARE * size))
    telling = (counts == 0) & (marks[0][:, None] | marks[1][None])
    if not telling.any():
        return []
    cells = sorted(np.argwhere(telling).tolist(), key=lambda cell: -expected[tuple(cell)])
    absent = tuple((str(clips.index[i]), str(clips.columns[j])) for i, j in cells)
    touched = [
        frozenset(map(str, names if len(names) == 2 and marked.any() else names[marked]))
        for names, marked in zip((clips.index, clips.columns), marks, strict=True)
    ]
    return [Confound(first, second, absent, (touched[0], touched[1]))]


def subgroups_markdown(table: pd.DataFrame, met: Sequence[Confound], title: str) -> str:
    """The table for people: the warnings first, then a table for each attribute."""
    parts = [f"# Subgroups: {title}", INTRODUCTION]
    if met:
        parts.append("\n".join(f"- **Warning:** {confound.text}" for confound in met))
    for attribute, rows in table.groupby("attribute", sort=False):
        cells = markdown(_cells(rows.head(MOST_ROWS)))
        more = f"\n\nand {len(rows) - MOST_ROWS} more in subgroups.csv" * (len(rows) > MOST_ROWS)
        parts.append(f"## {attribute}\n\n{cells}{more}")
    if table.empty:
        parts.append("No attribute has two groups of ten clips or more.")
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
The gap is the group's mean recall less that of all other clips whose group is known, over the
classes that both have, in percentage points. Its 95 % interval is by bootstrap over speakers and
their clips (`speakers`), or over clips only (`clips`) where the group or the rest has one speaker:
such an interval says nothing of other speakers. UAR is over the classes that the group has, their
number in `classes`. Each speaker has one sex, age and corpus, so a gap between these is one between
speakers too. Groups of fewer than ten clips are left out. The intervals are not corrected
for their number: of twenty groups that differ in nothing, one is expected to exclude zero."""


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Figures as text: recalls with three decimals, gaps in points."""
    points = [
        "-" if np.isnan(gap) else f"{100 * gap:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        for gap, low, high in rows[["gap", "gap_low", "gap_high"]].itertuples(index=False)
    ]
    cells = pd.DataFrame(
        {
            "group": rows["group"].astype(str),
            "clips": rows["clips"].astype(str),
            "speakers": rows["speakers"].astype(str),
            "classes": rows["classes"].astype(str),
            "UAR": rows["uar"].map("{:.3f}".format),
            "WAR": rows["war"].map("{:.3f}".format),
            "gap [95 %]": points,
            "drawn": rows["resampled"],
            "confounded with": rows["confounded_with"],
        }
    )
    return cells if rows["confounded_with"].any() else cells.drop(columns="confounded with")


def _scores(clips: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    counts = counts_of(clips, classes)
    return {
        "clips": len(clips),
        "speakers": clips["speaker"].nunique(),
        "classes": int((counts.sum(axis=1) > 0).sum()),
        "uar": uar(counts),
        "war": war(counts),
    }


def _confounded(met: Sequence[Confound], attribute: str, group: str) -> Iterator[str]:
    """The attributes that this very group is confounded with."""
    for confound in met:
        if attribute == confound.first and group in confound.groups[0]:
            yield confound.second
        if attribute == confound.second and group in confound.groups[1]:
            yield confound.first


class _Gaps:
    """Recall gaps of any groups, all from the same draws."""

    def __init__(self, predictions: pd.DataFrame, classes: Sequence[str], weights: Weights) -> None:
        self.predictions, self.weights = predictions, weights
        self.speaker = predictions["speaker"].to_numpy()
        spoken = np.eye(len(classes), dtype=np.float32)[truth_of(predictions, classes)]
        self.clips = np.stack(
            [spoken, spoken * right_of(predictions)[:, None]]
        )  # (2, clips, classes)

    def sums(self, rows: Rows) -> Sums:
        """Spoken and recognised clips of each class in each draw of speakers."""
        return self.weights[:, rows] @ self.clips[:, rows]

    def gap(self, inside: Rows, rest: Rows, known: Sums) -> dict[str, float | str]:
        """gap, gap_low, gap_high, and what was resampled; NaN where no class is in both.

        `known` is `sums` of both together.
        """
        here, there = (_recalls(self.clips[:, rows].sum(1)) for rows in (inside, rest))
        shared = ~np.isnan(here) & ~np.isnan(there)
        if not shared.any():
            return {"gap": np.nan, "gap_low": np.nan, "gap_high": np.nan, "resampled": "-"}
        own = self.sums(inside)
        sides = ((inside, own), (rest, known - own))
        singles = [len(set(self.speaker[rows])) == 1 for rows, _ in sides]
        drawn = [
            self._sums_of_clips(rows) if single else sums
            for (rows, sums), single in zip(sides, singles, strict=True)
        ]
        first, second = (_mean_recall(sums[..., shared]) for sums in drawn)
        low, high = interval_of(first - second)
        return {
            "gap": float((here - there)[shared].mean()),
            "gap_low": low,
            "gap_high": high,
            "resampled": "clips" if any(singles) else "speakers",
        }

    def _sums_of_clips(self, rows: Rows) -> Sums:
        """The same of one speaker, whose clips alone are drawn."""
        weights = draw_clips(self.predictions[rows], n_draws=len(self.weights))
        return weights @ self.clips[:, rows]


def _recalls(sums: Sums) -> Values:
    """Spoken and recognised (2, …, classes) to recall (…, classes); NaN for what was not spoken."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[1] / sums[0], dtype=np.float64)


def _mean_recall(sums: Sums) -> Values:
    """The mean over the classes spoken in each draw: (draws,); NaN for a draw with no clip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without the group
        return np.asarray(np.nanmean(_recalls(sums), axis=1))
