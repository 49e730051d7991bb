"""The figure of a robustness evaluation."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from ser.plots import VAL_COLOUR, new_figure, unframed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "noise": ("babble", "white", "pink"), "reverberation": ("reverb",), "MP3": ("mp3",),
    "clipping": ("clipping",),
}  # fmt: skip
OTHER = "other"  # the panel of all other families
AXIS = {
    "noise": "SNR, dB",
    "reverberation": "RT60, s",
    "MP3": "kbit/s",
    "clipping": "share of peak",
}
LINES: dict[str, dict[str, Any]] = {
    "clean": {"linestyle": "--"},
    "clean, hollow": {"linestyle": "--", "alpha": 0.4},
    "chance": {"linestyle": ":"},
}
LEAST_IN = 8.0  # one panel is narrower than a title that can be read
RING = 7  # hollow points: wider than the full ones of 4, which else hide those at the same UAR
COLOURS = {"babble": "#d55e00", "white": "#0173b2", "pink": "#cc78bc"}  # colour-blind safe


def robustness_figure(
    table: pd.DataFrame, title: str, chance: float, gains: pd.DataFrame | None, other: str
) -> "Figure":
    """UAR against severity, a panel for each kind of severity, worse to the right.

    Bars are the 95 % interval of the drop; the dashed line is the clean clips' UAR. Hollow points
    are `before` of `gains`, the UAR of the run `other` under the same condition.
    """
    title += "\nbars: 95 % interval of the UAR lost against clean clips"
    heights = {"chance": chance}
    if gains is not None:
        table = table.merge(gains[["condition", "before"]], on="condition", how="left")
        title += f"\nhollow: {other}"
        heights["clean, hollow"] = _clean(table, "before")
    heights["clean"] = _clean(table, "uar")
    scored = table[~table["family"].isin(("clean", "mean"))]
    panel_of = {family: name for name, families in PANELS.items() for family in families}
    names = scored["family"].map(panel_of).fillna(OTHER)
    panels = {name: scored[names == name] for name in (*PANELS, OTHER) if (names == name).any()}
    widths = [
        max(1.6, 0.7 * len(rows) if name == OTHER else 0.8 * rows["severity"].nunique())
        for name, rows in panels.items()
    ]
    figure = new_figure(max(LEAST_IN, sum(widths) + 3.0), 4.6, title)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)
    for axes, (name, rows) in zip(grid[0], panels.items(), strict=True):
        for word, height in heights.items():
            axes.axhline(height, color="black", linewidth=1, **LINES[word])
        _draw_points(axes, rows) if name == OTHER else _draw_lines(axes, rows)
        axes.set_title(name, fontsize=11)
        axes.set_xlabel(AXIS.get(name, ""), fontsize=10)
        unframed(axes)
    grid[0][0].set_ylabel("UAR", fontsize=11)
    top = max(
        _reach(table)[1].add(table["uar"]).max(), *table.filter(["before"]).max(), *heights.values()
    )
    grid[0][0].set_ylim(0, top + 0.05)
    last, least = grid[0][-1], 0.065 * (top + 0.05)
    lowest = 0.0
    for word, height in sorted(heights.items(), key=lambda item: item[1]):
        lowest = max(height, lowest + least)
        last.text(1.02, lowest, word, transform=last.get_yaxis_transform(), va="center")
    return figure


def _clean(table: pd.DataFrame, column: str) -> float:
    return float(table.loc[table["family"] == "clean", column].iloc[0])


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
        if "before" in line:
            axes.plot(x, line["before"], color=colour, ls=":", marker="o", mfc="white", ms=RING)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
    if set(families) & set(COLOURS):  # the panel's name does not say which noise
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(families), frameon=False,
            fontsize=9, columnspacing=1.0, handletextpad=0.4,
        )  # fmt: skip


def _draw_points(axes: "Axes", rows: pd.DataFrame) -> None:
    """A point for each condition, named under it."""
    labels = [label.replace(" ", "\n", 1) for label in rows["condition"]]
    axes.errorbar(range(len(rows)), rows["uar"], _reach(rows), color=VAL_COLOUR, fmt="o", ms=4)
    if "before" in rows:
        axes.plot(range(len(rows)), rows["before"], "o", color=VAL_COLOUR, mfc="white", ms=RING)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(rows)), labels, fontsize=8.5)


def _reach(rows: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    """The interval of UAR as far as the drop's goes, from 0 to 1: lengths below and above."""
    lower = (rows["high"] - rows["drop"]).clip(lower=0)
    upper = (rows["drop"] - rows["low"]).clip(lower=0)
    return lower.clip(upper=rows["uar"]), upper.clip(upper=1 - rows["uar"])
