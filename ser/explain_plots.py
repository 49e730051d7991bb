"""Figures that explain a model: the map of its clips, and the moments that it heard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ser.labels import NATIVE, classes_of
from ser.plots import MARK_COLOUR, VAL_COLOUR, label_bands, new_figure, unframed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.floating]

LEGEND_ENTRIES = 24  # the speakers of RAVDESS; more names would take more room than the map
LEGEND_LETTERS = 65  # of 9 points, in a panel's width
MARKERS = "os^D"  # beside the colours, for those who see fewer of them
EDGE_COLOUR = "#4d4d4d"  # of points: the palette's pink and yellow are hardly seen on white
PANEL_IN, LINE_IN, ROW_IN = 4.9, 0.24, 0.19  # a panel's side, a line of the title, one of a legend
SPECTROGRAM_RANGE_DB = 70


@dataclass(frozen=True, slots=True)
class Colouring:
    """One way to colour the map.

    ``names: (clips,)`` give each clip's group. ``pure`` is the mean share of a clip's neighbours
    that are of its group, ``by_chance`` what neighbours drawn at random would give.
    """

    what: str
    names: Sequence[str]
    pure: float
    by_chance: float

    @property
    def groups(self) -> tuple[str, ...]:
        """Emotions in their own order; speakers and corpora alphabetically."""
        return classes_of(NATIVE, map(str, self.names))

    @property
    def legend_columns(self) -> int:
        """In how many columns its names fit below a panel; 0 where they are too many."""
        widest = max(map(len, self.groups)) + 5  # with the point before it
        few = len(self.groups) <= LEGEND_ENTRIES
        return max(1, min(4, LEGEND_LETTERS // widest)) if few else 0


def map_figure(points: Array, colourings: Sequence[Colouring], k: int, title: str) -> "Figure":
    """The same map of clips, ``points: (clips, 2)``, once for each colouring.

    ``k`` is the number of neighbours behind the purities, which stand in the panels' titles.
    """
    figure = new_figure(PANEL_IN * len(colourings) + 0.4, PANEL_IN, title)
    rows = max(math.ceil(len(c.groups) / (c.legend_columns or math.inf)) for c in colourings)
    lines = 1 + figure.get_suptitle().count("\n")
    figure.set_figheight(PANEL_IN + 1.15 + LINE_IN * lines + ROW_IN * rows)
    panels = figure.subplots(1, len(colourings), squeeze=False)[0]
    for axes, colouring in zip(panels, colourings, strict=True):
        _draw_map(axes, points, colouring)
        axes.set_title(
            f"by {colouring.what}: {100 * colouring.pure:.0f} % of the {k} nearest agree\n"
            f"({100 * colouring.by_chance:.0f} % by chance)",
            fontsize=11,
        )
    return figure


def saliency_figure(
    centres_s: Array,
    drop: Array,
    waveform: Array,
    sample_rate_hz: int,
    logmel_db: Array,
    mel_hz: Sequence[float],
    emotion: str,
    title: str,
) -> "Figure":
    """The curve above the waveform and the spectrogram, on one axis in seconds.

    ``centres_s, drop: (moments,)``; ``waveform: (samples,)``; ``logmel_db: (frames, bands)``, its
    bands centred on ``mel_hz``; ``emotion`` is what was heard.
    """
    figure = new_figure(10, 6.8, title)
    curve, wave, mel = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1, 1.6]}
    )
    end_s = len(waveform) / sample_rate_hz
    _draw_curve(curve, centres_s, drop, emotion)
    wave.plot(np.arange(len(waveform)) / sample_rate_hz, waveform, color="#4d4d4d", linewidth=0.5)
    peak = 1.05 * float(np.abs(waveform).max()) or 1.0  # of silence: full scale
    wave.set_ylim(-peak, peak)
    wave.set_ylabel("waveform", fontsize=10)
    unframed(wave)
    top_db = float(logmel_db.max())
    mel.imshow(
        logmel_db.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
        vmin=top_db - SPECTROGRAM_RANGE_DB, vmax=top_db, extent=(0, end_s, 0, logmel_db.shape[1]),
    )  # fmt: skip
    label_bands(mel, mel_hz)
    mel.set_ylabel("log-mel, Hz", fontsize=10)
    mel.set_xlabel("seconds", fontsize=11)
    mel.set_xlim(0, end_s)
    figure.align_ylabels()
    return figure


def _draw_map(axes: "Axes", points: Array, colouring: Colouring) -> None:
    import seaborn as sns

    names, groups = np.asarray(colouring.names, dtype=str), colouring.groups
    colours = sns.color_palette("colorblind")
    for number, group in enumerate(groups):  # no two of the first forty look alike
        mine = points[names == group]
        turn, place = divmod(number, len(colours))
        axes.scatter(
            mine[:, 0], mine[:, 1], s=20, color=[colours[place]], alpha=0.8, label=group,
            edgecolors=EDGE_COLOUR, linewidths=0.4, marker=MARKERS[(place + turn) % len(MARKERS)],
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    axes.set_anchor("N")
    axes.spines[:].set_color("#cccccc")
    if colouring.legend_columns:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=colouring.legend_columns,
            frameon=False, fontsize=9, handletextpad=0.1, columnspacing=0.8,
        )  # fmt: skip
    else:
        axes.set_xlabel(f"{len(groups)} {colouring.what}s, too many to name here", fontsize=9)


def _draw_curve(axes: "Axes", centres_s: Array, drop: Array, emotion: str) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    sides = (("for", drop >= 0, VAL_COLOUR), ("against", drop < 0, MARK_COLOUR))
    for side, where, colour in sides:
        if where.any():
            axes.fill_between(
                centres_s, drop, 0, where=where, interpolate=True, color=colour, alpha=0.35,
                linewidth=0, label=f"speaks {side} {emotion}",
            )  # fmt: skip
    axes.plot(centres_s, drop, color="#1a1a1a", linewidth=1.2)
    axes.set_ylabel("fall in log-odds\nwhen muted, nats", fontsize=10)
    axes.margins(y=0.1)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98))
    unframed(axes)
