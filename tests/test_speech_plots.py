"""Figures of clips and corpora say what they should, and nothing that they say is cut off."""

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_nothing_is_cut_off, texts

from ser import speech_plots

CLASSES = (
    "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "boredom",
)  # fmt: skip
SAMPLE_RATE_HZ = 16_000
MEL_HZ = [float(hz) for hz in np.geomspace(60, 7600, 12)]


def clip(seconds: float, seed: int) -> speech_plots.SpeechPicture:
    generator = np.random.default_rng(seed)
    frames = int(seconds * 100)
    return speech_plots.SpeechPicture(
        waveform=generator.normal(0, 0.1, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32),
        sample_rate_hz=SAMPLE_RATE_HZ,
        logmel_db=generator.normal(-40, 10, (frames, len(MEL_HZ))).astype(np.float32),
        mfcc=generator.normal(0, 1, (frames, 8)).astype(np.float32),
        hop_ms=10,
    )


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = 600
    return pd.DataFrame(
        {
            "corpus": generator.choice(["crema_d", "ravdess", "tess"], rows),
            "emotion": generator.choice(CLASSES[:7], rows),
            "duration_s": generator.gamma(20, 0.12, rows),
        }
    )


def test_speech_has_a_row_an_emotion_on_shared_scales() -> None:
    pictures = {"neutral": clip(0.5, 0), "angry": clip(0.8, 1), "sad": clip(0.6, 2)}
    figure = speech_plots.speech_figure(pictures, "ravdess_02, one sentence", MEL_HZ)
    grid = figure.axes[:9]
    assert [axes.get_ylabel() for axes in grid[::3]] == ["neutral", "angry", "sad"]
    assert {axes.get_xlim() for axes in grid} == {(0.0, 0.8)}
    assert len({axes.get_images()[0].get_clim() for axes in grid[1::3]}) == 1
    assert grid[1].get_images()[0].get_extent() == [0, 0.5, 0, len(MEL_HZ)]
    assert "1,000" in texts(figure) and "seconds (grey: the clip is over)" in texts(figure)
    assert "dB from the loudest point of these clips" in texts(figure)
    loudest = max(float(axes.get_images()[0].get_array().max()) for axes in grid[1::3])
    assert loudest == pytest.approx(0, abs=1e-4)
    for axes in grid[2::3]:  # past its end a clip has no colour of the scale
        colours = axes.get_images()[0].cmap(np.linspace(0, 1, 256))
        assert np.abs(colours - axes.get_facecolor()).max(axis=1).min() > 0.05
    check_nothing_is_cut_off(figure)


def test_long_names_of_emotions_leave_the_pictures_their_room() -> None:
    pictures = {"sad": clip(0.5, 0), "quietly_content_and_reassuring": clip(0.8, 1)}
    figure = speech_plots.speech_figure(pictures, "a folder", MEL_HZ)
    check_nothing_is_cut_off(figure)
    short = speech_plots.speech_figure({"sad": clip(0.5, 0)}, "a folder", MEL_HZ)
    short.draw_without_rendering()
    widths = [one.axes[1].get_window_extent().width for one in (figure, short)]
    assert widths[0] > 0.9 * widths[1]


def test_durations_have_a_panel_a_corpus(clips: pd.DataFrame) -> None:
    figure = speech_plots.durations_figure(clips, CLASSES, "Clip length")
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert titles == ["crema_d", "ravdess", "tess"]
    ravdess = clips[clips["corpus"] == "ravdess"]
    assert f"{len(ravdess)} clips, {ravdess['duration_s'].sum() / 3600:.2f} h" in "".join(
        texts(figure)
    )
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(CLASSES)
    assert texts(figure).count("no clips") == 3 * 2  # no corpus here is surprised or bored
    assert "boxes: quartiles and median; whiskers: 5th and 95th percentile" in texts(figure)
    check_nothing_is_cut_off(figure)


def test_balance_stacks_corpora_and_totals_them(clips: pd.DataFrame) -> None:
    figure = speech_plots.balance_figure(clips, CLASSES, "Class balance")
    widths = np.array([[bar.get_width() for bar in bars] for bars in figure.axes[0].containers])
    expected = clips["emotion"].value_counts().reindex(list(CLASSES), fill_value=0)
    assert widths.sum(axis=0).tolist() == expected.tolist()
    assert f"{expected.iloc[0]}  ({100 * expected.iloc[0] / len(clips):.0f} %)" in texts(figure)
    check_nothing_is_cut_off(figure)
