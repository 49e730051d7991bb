"""Figures of an explanation say what they should, and nothing that they say is cut off."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ser.explain_plots import Colouring, map_figure, saliency_figure


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def check_nothing_is_cut_off(figure: Figure) -> None:
    figure.draw_without_rendering()
    drawn, slack_in = figure.get_tightbbox(), 0.01
    width_in, height_in = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -slack_in
    assert drawn.x1 <= width_in + slack_in and drawn.y1 <= height_in + slack_in


@pytest.mark.parametrize("n_speakers", [2, 24, 91])
def test_the_map_has_a_panel_a_colouring_with_its_purity(n_speakers: int) -> None:
    draw = np.random.default_rng(0)
    speakers = [f"ravdess_{k % n_speakers:02d}" for k in range(182)]
    colourings = [
        Colouring("emotion", ["happy", "sad"] * 91, 0.724, 0.492),
        Colouring("speaker", speakers, 0.3, 0.1),
    ]
    figure = map_figure(draw.normal(size=(182, 2)), colourings, 10, "tim")
    said = texts(figure)
    assert "by emotion: 72 % of the 10 nearest agree\n(49 % by chance)" in said
    assert ("ravdess_01" in said) == (n_speakers <= 24)
    assert ("91 speakers, too many to name here" in said) == (n_speakers == 91)
    for axes in figure.axes:
        assert sum(len(part.get_offsets()) for part in axes.collections) == 182
    check_nothing_is_cut_off(figure)


def test_no_two_speakers_that_are_named_look_alike() -> None:
    speakers = [f"ravdess_{k:02d}" for k in range(1, 25)]
    figure = map_figure(np.zeros((24, 2)), [Colouring("speaker", speakers, 0.3, 0.1)], 10, "tim")
    looks = [
        (tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes())
        for part in figure.axes[0].collections
    ]
    assert len(set(looks)) == 24
    edges = [part.get_edgecolor()[0, :3] for part in figure.axes[0].collections]
    assert np.max(edges) < 0.4  # dark, whatever the colour: some are pale on white
    colours = np.array([colour[:3] for colour, _ in looks])
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 0.2  # of neighbours in the list


@pytest.mark.parametrize("letters", [7, 30, 60])
@pytest.mark.parametrize("lines", [1, 3])
def test_a_single_panel_holds_its_whole_legend(letters: int, lines: int) -> None:
    names = [f"{k:02d} {'speaker ' * 8}"[:letters] for k in range(24)]
    colouring = Colouring("speaker", names, 0.5, 0.5)
    figure = map_figure(np.zeros((24, 2)), [colouring], 10, "\n".join(["a run"] * lines))
    check_nothing_is_cut_off(figure)
    (axes,) = figure.axes
    assert axes.bbox.height == pytest.approx(axes.bbox.width) and axes.bbox.height > 600
    assert axes.get_legend().get_window_extent().y1 <= axes.bbox.y0


def test_emotions_stand_in_their_own_order_and_others_by_the_alphabet() -> None:
    emotions = ["angry", "awe", "boredom", "happy", "neutral", "sad"] * 3
    speakers = ["tess_YAF", "tess_OAF"] * 9
    colourings = [
        Colouring("emotion", emotions, 0.5, 0.5), Colouring("speaker", speakers, 0.5, 0.5)
    ]  # fmt: skip
    figure = map_figure(np.zeros((18, 2)), colourings, 10, "tim")
    named = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert named == [
        ["neutral", "happy", "sad", "angry", "boredom", "awe"], ["tess_OAF", "tess_YAF"]
    ]  # fmt: skip


@pytest.mark.parametrize("peak", [0.0, 0.02, 0.97])
def test_the_waveform_has_as_much_room_above_as_below(peak: float) -> None:
    waveform = np.linspace(-1.02 * peak, peak, 16_000)
    at_s, mel = np.arange(0, 1.01, 0.05), np.zeros((101, 12))
    hz = list(np.geomspace(60, 7600, 12))
    figure = saliency_figure(at_s, at_s, waveform, 16_000, mel, hz, "sad", "a.wav")
    low, high = figure.axes[1].get_ylim()
    assert low == -high and high > 1.02 * peak
    ticks = [tick for tick in figure.axes[1].get_yticks() if low <= tick <= high]
    assert ticks == pytest.approx([-tick for tick in reversed(ticks)])


@pytest.mark.parametrize("sign", [1, -1])
def test_the_curve_stands_over_the_clip_in_seconds(sign: int) -> None:
    centres_s = np.arange(0, 2.01, 0.05)
    figure = saliency_figure(
        centres_s,
        sign * (centres_s + 0.1),
        np.zeros(32_000),
        16_000,
        np.zeros((201, 12)),
        list(np.geomspace(60, 7600, 12)),
        "sad",
        "a.wav: heard as sad (71 %)",
    )
    assert {axes.get_xlim() for axes in figure.axes} == {(0.0, 2.0)}
    said = texts(figure)
    assert "fall in log-odds\nwhen muted, nats" in said
    assert ("speaks for sad" in said) == (sign == 1)
    assert ("speaks against sad" in said) == (sign == -1)
    assert figure.axes[2].get_images()[0].get_extent() == [0, 2, 0, 12]
    check_nothing_is_cut_off(figure)
