"""Figures of a results page: arms as dots with their intervals."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ser.plots import TRAIN_COLOUR, VAL_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_IN, PANEL_IN, LABEL_IN = 0.34, 2.7, 2.6
LINES = [(colour, style) for style in ("--", "-.") for colour in ("#d55e00", "#029e73", "#cc78bc")]


def dot_figure(
    panels: Mapping[str, pd.DataFrame], title: str, lines: Mapping[str, Mapping[str, float]]
) -> "Figure":
    """One panel a figure or part of the clips, one row an arm, its interval as a bar.

    A panel's table has the columns arm, average_of, value, low, high; arms stand in every panel in
    the order of the first, the highest value on top, on one scale. An arm averaged over seeds has a
    hollow dot. `lines` gives values that stand in a panel as dashed lines, each with its name.
    """
    first = next(iter(panels.values()))
    order = list(first.sort_values("value", kind="stable")["arm"])
    height_in = ROW_IN * len(order) + 1.6 + (0.2 * max(map(len, lines.values()), default=0))
    figure = new_figure(LABEL_IN + PANEL_IN * len(panels), height_in, title)
    every = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, table) in zip(every, panels.items(), strict=True):
        _dots(axes, table.set_index("arm").loc[order])
        _lines(axes, lines.get(name, {}))
        axes.set_title(name, fontsize=11, loc="left")
    every[0].set_yticks(range(len(order)), [_wrapped(arm) for arm in order], fontsize=9)
    return figure


def _dots(axes: "Axes", table: pd.DataFrame) -> None:
    for place, (_, row) in enumerate(table.iterrows()):
        axes.plot([row["low"], row["high"]], [place, place], color=VAL_COLOUR, linewidth=2)
        fill = "white" if row["average_of"] else VAL_COLOUR
        axes.plot(
            row["value"], place, "o", color=VAL_COLOUR, markerfacecolor=fill, markersize=6, zorder=4
        )
        axes.annotate(
            f"{row['value']:.3f}", (row["value"], place), (0, 6), textcoords="offset points",
            ha="center", fontsize=7.5, zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip
    axes.set_ylim(-0.6, len(table) - 0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _lines(axes: "Axes", values: Mapping[str, float]) -> None:
    for (name, value), look in zip(values.items(), itertools.cycle(LINES)):
        colour, style = (TRAIN_COLOUR, ":") if name == "chance" else look
        label = f"{name} {value:.3f}"
        axes.axvline(value, color=colour, linestyle=style, linewidth=1.2, label=label, zorder=1)
    if values:
        axes.legend(
            frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(0, -0.16), borderpad=0
        )


def _wrapped(arm: str) -> str:
    """The arm's name over two lines where it is long."""
    option, comma, words = arm.partition(", probabilities")
    return f"{option}\nprobabilities{words}" if comma else option
