"""Figures of the speech itself: how emotions look, how long clips are, how the classes balance.

Plain arrays and tables in, a matplotlib Figure out; nothing here reads audio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ser.figure_text import widest_in
from ser.plots import VAL_COLOUR, label_bands, new_figure, unframed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = npt.NDArray[np.float32]

ROW_IN = 1.15  # height of an emotion's row of pictures
LOGMEL_RANGE_DB = 80  # below the loudest point shown; the rest is the room
OVER_COLOUR = "#c4c4c4"  # past a clip's end: on no colour scale here
HEADINGS = (
    "waveform (full scale = 1)",
    "log-mel spectrogram (mel bands, Hz)",
    "MFCC (coefficient)",
)
MFCC_DEVIATIONS = 2.5  # colour scale of standardised coefficients


@dataclass(frozen=True, slots=True)
class SpeechPicture:
    """One clip and its features, all from the same samples.

    ``waveform: (samples,)``, ``logmel_db: (frames, bands)``, ``mfcc: (frames, coefficients)``,
    the frames ``hop_ms`` apart.
    """

    waveform: Array
    sample_rate_hz: int
    logmel_db: Array
    mfcc: Array
    hop_ms: float

    @property
    def duration_s(self) -> float:
        """Length of the waveform."""
        return len(self.waveform) / self.sample_rate_hz


def speech_figure(
    clips: Mapping[str, SpeechPicture], title: str, mel_hz: Sequence[float]
) -> "Figure":
    """Waveform, log-mel and MFCC, one row an emotion, on shared axes and colour scales.

    ``clips`` maps emotion to a clip, best of one speaker and one sentence, so that what differs is
    the emotion; ``mel_hz: (bands,)`` are the centres of the mel bands. MFCCs are standardised per
    coefficient over the clips shown: the zeroth, the level, would hide the others.
    """
    names_in = max(1.0, 1.15 * widest_in(clips, 11))  # bold is wider
    figure = new_figure(11.5 + names_in, ROW_IN * len(clips) + 1.8, title)
    figure.get_layout_engine().set(h_pad=0.04)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(len(clips), 3, sharex=True, sharey="col", squeeze=False)
    top_db = max(float(clip.logmel_db.max()) for clip in clips.values())
    mfcc = np.concatenate([clip.mfcc for clip in clips.values()])
    mean, deviation = mfcc.mean(axis=0), np.maximum(mfcc.std(axis=0), 1e-8)
    for row, (emotion, clip) in zip(grid, clips.items(), strict=True):
        _draw_waveform(row[0], clip, emotion)
        logmel = _draw_frames(row[1], clip.logmel_db - top_db, clip, "magma", -LOGMEL_RANGE_DB, 0)
        standard = (clip.mfcc - mean) / deviation
        mfcc_image = _draw_frames(
            row[2], standard, clip, "RdBu_r", -MFCC_DEVIATIONS, MFCC_DEVIATIONS
        )
    label_bands(grid[0, 1], mel_hz)
    grid[0, 0].set_xlim(0, max(clip.duration_s for clip in clips.values()))
    for column, heading in enumerate(HEADINGS):
        grid[0, column].set_title(heading, fontsize=11)
        over = " (grey: the clip is over)" if column else ""
        grid[-1, column].set_xlabel(f"seconds{over}", fontsize=10)
    _colour_bar(figure, logmel, list(grid[:, 1]), "dB from the loudest point of these clips")
    _colour_bar(
        figure, mfcc_image, list(grid[:, 2]), "standard deviations from the coefficient's mean"
    )
    return figure


def durations_figure(table: pd.DataFrame, classes: Sequence[str], title: str) -> "Figure":
    """Clip length by emotion, one panel a corpus, on one time axis.

    ``table`` has one row a clip with columns corpus, emotion, duration_s. Boxes are quartiles,
    whiskers the 5th and 95th percentile; the panel's title gives clips, hours and the median.
    """
    corpora = sorted(table["corpus"].unique())
    figure = new_figure(2.9 * len(corpora) + 2.0, 0.36 * len(classes) + 2.2, title)
    panels = figure.subplots(1, len(corpora), sharex=True, sharey=True, squeeze=False)[0]
    for axes, corpus in zip(panels, corpora, strict=True):
        _draw_durations(axes, table[table["corpus"] == corpus], classes)
    panels[0].set_yticks(range(1, len(classes) + 1), list(classes))
    panels[0].set_ylim(len(classes) + 0.5, 0.5)
    panels[0].set_xlim(left=0)
    told = "boxes: quartiles and median; whiskers: 5th and 95th percentile"
    figure.supxlabel(told, fontsize=9, color="#595959")
    return figure


def balance_figure(table: pd.DataFrame, classes: Sequence[str], title: str) -> "Figure":
    """Clips of each emotion, stacked by corpus, with the class's total and share beside the bar.

    ``table`` has one row a clip with columns corpus and emotion.
    """
    import seaborn as sns

    counts = pd.crosstab(table["emotion"], table["corpus"]).reindex(list(classes), fill_value=0)
    figure = new_figure(9, 0.42 * len(classes) + 1.9, title)
    axes = figure.subplots()
    start = np.zeros(len(counts))
    for corpus, colour in zip(counts, sns.color_palette("colorblind"), strict=False):
        label = f"{corpus} ({counts[corpus].sum():,})"
        axes.barh(list(classes), counts[corpus], left=start, color=colour, label=label)
        start = start + counts[corpus].to_numpy()
    for row, total in enumerate(start):
        share = f"{total:,.0f}  ({100 * total / len(table):.0f} %)"
        axes.text(total + 0.01 * start.max(), row, share, va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.17 * start.max())  # room for the totals
    axes.set_xlabel("clips", fontsize=11)
    unframed(axes, "x")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_durations(axes: "Axes", clips: pd.DataFrame, classes: Sequence[str]) -> None:
    """Draw one corpus: a box an emotion, or that it has none."""
    lengths_s = [clips.loc[clips["emotion"] == name, "duration_s"].to_numpy() for name in classes]
    for row, lengths in enumerate(lengths_s, start=1):
        if not len(lengths):
            axes.text(
                0.04, row, "no clips", transform=axes.get_yaxis_transform(), va="center",
                fontsize=9, color="#7f7f7f",
            )  # fmt: skip
    axes.boxplot(
        lengths_s, manage_ticks=False, orientation="horizontal", whis=(5, 95), widths=0.65,
        patch_artist=True, boxprops={"facecolor": "#8fbcdb"}, medianprops={"color": "black"},
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": "#7f7f7f"},
    )  # fmt: skip
    hours, median = clips["duration_s"].sum() / 3600, clips["duration_s"].median()
    axes.set_title(
        f"{clips['corpus'].iloc[0]}\n{len(clips):,} clips, {hours:.2f} h, median {median:.1f} s",
        fontsize=10,
    )
    axes.set_xlabel("seconds", fontsize=11)
    unframed(axes, "x")


def _draw_waveform(axes: "Axes", clip: SpeechPicture, emotion: str) -> None:
    """Draw samples against seconds, the emotion as the row's name."""
    seconds = np.arange(len(clip.waveform)) / clip.sample_rate_hz
    axes.plot(seconds, clip.waveform, color=VAL_COLOUR, linewidth=0.4)
    axes.set_ylabel(
        emotion, rotation=0, ha="right", va="center", fontsize=11, fontweight="bold", labelpad=8
    )
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_frames(
    axes: "Axes", frames: Array, clip: SpeechPicture, colours: str, low: float, high: float
) -> "AxesImage":
    """Draw (frames, features) with time to the right and the first feature at the bottom."""
    end_s = len(frames) * clip.hop_ms / 1000
    axes.tick_params(labelsize=8)
    axes.set_facecolor(OVER_COLOUR)
    return axes.imshow(
        frames.T, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high,
        extent=(0, end_s, 0, frames.shape[1]), interpolation="nearest",
    )  # fmt: skip


def _colour_bar(figure: "Figure", image: "AxesImage", column: Sequence["Axes"], label: str) -> None:
    """One horizontal scale under a column of pictures."""
    bar = figure.colorbar(image, ax=column, orientation="horizontal", aspect=45, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
