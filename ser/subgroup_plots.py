"""The recall gap of each group as a dot with its interval."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from ser.plots import MARK_COLOUR, TRAIN_COLOUR, VAL_COLOUR, new_figure, unframed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_IN, HEAD_IN = 0.27, 1.9  # height of a row; of title, axis and legend
LABEL_CHARACTERS = 34
DASHES = (0, (2, 1.5))
WORSE, BETTER, NEITHER = "worse than the rest", "better", "interval holds zero"
COLOURS = {WORSE: MARK_COLOUR, BETTER: VAL_COLOUR, NEITHER: TRAIN_COLOUR}
BY_CLIPS, CONFOUNDED = "clips drawn, one speaker", "confounded group"
SHOWN = 12  # groups of an attribute: the lowest and the highest


def subgroups_figure(table: pd.DataFrame, title: str) -> "Figure":
    """A row for each group of `ser.subgroups.subgroup_table`, attribute by attribute.

    Of an attribute with many groups the lowest and the highest are drawn. Hollow dots are groups
    that are confounded with another attribute.
    """
    table = table.dropna(subset=["gap"])
    parts = [(str(name), rows) for name, rows in table.groupby("attribute", sort=False)]
    n_rows = sum(min(len(rows), SHOWN) + 1 for _, rows in parts)
    figure = new_figure(9.0, ROW_IN * max(n_rows, 4) + HEAD_IN, f"{title}\nrecall gap by group")
    axes = figure.subplots()
    place, ticks, names = 0.0, [], []
    drawn: set[str] = set()
    for attribute, rows in parts:
        shown = extremes(rows, SHOWN)
        note = f" ({len(shown)} of {len(rows)}: the extremes)" if len(shown) < len(rows) else ""
        axes.text(
            0.005, place, f"{attribute}{note}", transform=axes.get_yaxis_transform(),
            fontsize=10, fontweight="bold", va="center",
        )  # fmt: skip
        axes.axhspan(place - 0.5, place + 0.5, color="#f0f0f0", linewidth=0)
        for _, row in shown.iterrows():
            place += 1
            drawn |= _interval(axes, place, row)
            ticks.append(place)
            names.append(f"{_shortened(str(row['group']))}  ({row['clips']:,})")
        place += 1
    _finish(axes, ticks, names, place)
    _legend(figure, drawn)
    return figure


def extremes(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows: the first and the last of them."""
    half = most // 2
    return rows if len(rows) <= most else pd.concat([rows.head(half), rows.tail(most - half)])


def _interval(axes: "Axes", place: float, row: "pd.Series[Any]") -> set[str]:
    """A dot and a line; gives what the legend has to tell of them."""
    gap, low, high = (100 * float(row[name]) for name in ("gap", "gap_low", "gap_high"))
    told = WORSE if high < 0 else BETTER if low > 0 else NEITHER
    colour, style = COLOURS[told], "-" if row["resampled"] == "speakers" else DASHES
    axes.plot([low, high], [place, place], color=colour, linewidth=2, linestyle=style)
    face = "white" if row["confounded_with"] else colour
    axes.plot(gap, place, "o", color=colour, markerfacecolor=face, markersize=6.5, zorder=4)
    return {told, *[BY_CLIPS] * (style == DASHES), *[CONFOUNDED] * bool(row["confounded_with"])}


def _finish(axes: "Axes", ticks: list[float], names: list[str], end: float) -> None:
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(end - 0.4, -0.6)
    axes.set_xlabel(
        "recall minus that of all other clips (percentage points, with 95 % interval)", fontsize=11
    )
    unframed(axes, "x")


def _legend(figure: "Figure", drawn: set[str]) -> None:
    """What is drawn, and nothing else."""
    from matplotlib.lines import Line2D

    hollow = {"marker": "o", "markerfacecolor": "white", "linestyle": ""}
    looks: dict[str, dict[str, Any]] = {
        **{told: {"color": colour, "marker": "o"} for told, colour in COLOURS.items()},
        BY_CLIPS: {"color": "black", "linestyle": DASHES},
        CONFOUNDED: {"color": "black", **hollow},
    }
    handles = [Line2D([], [], label=told, **look) for told, look in looks.items() if told in drawn]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False
        )


def _shortened(name: str) -> str:
    """The beginning of a long sentence."""
    return name if len(name) <= LABEL_CHARACTERS else f"{name[: LABEL_CHARACTERS - 1].rstrip()}…"
