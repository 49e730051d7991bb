"""The page of mistakes: what it counts, and that it needs nothing beside itself."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import synthetic

from ser import clips_page as page
from ser.errors import SerError

CLASSES = ("happy", "sad", "angry")


def predictions(folder: Path, answers: dict[str, tuple[str, str, float]]) -> pd.DataFrame:
    """A row a clip: id → (truth, prediction, confidence); the rest is shared out evenly."""
    rows = []
    for name, (truth, answer, confidence) in answers.items():
        path = folder / f"{name}.wav"
        if not path.exists():
            synthetic.write_clip(path, 0.02 * synthetic.tone(name, seconds=0.4))
        shares = {
            f"probability_{c}": confidence if c == answer else (1 - confidence) / 2 for c in CLASSES
        }
        rows.append(
            {
                "id": f"tess/{name}", "corpus": "tess", "speaker": "tess_OAF", "sex": "female",
                "intensity": None, "text": f"Say the word <{name}>", "duration_s": 0.4,
                "path": str(path), "truth": truth, "prediction": answer,
                "confidence": confidence, **shares,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, pd.DataFrame]:
    first = {
        "a": ("happy", "sad", 0.9), "b": ("sad", "sad", 0.8), "c": ("angry", "happy", 0.6),
        "d": ("sad", "angry", 0.7),
    }  # fmt: skip
    second = {**first, "a": ("happy", "angry", 0.5), "c": ("angry", "angry", 0.9)}
    third = {name: second[name] for name in "ab"} | {"a": ("happy", "angry", 0.7)}
    tables = (first, second, third)
    return {f"run{k}": predictions(tmp_path, answers) for k, answers in enumerate(tables, 1)}


def test_the_most_often_wrong_come_first(runs) -> None:
    wrong = page.count_wrong(runs).set_index("id")
    assert wrong.index.tolist() == ["tess/a", "tess/d", "tess/c"]
    assert wrong["wrong"].tolist() == [3, 2, 1]
    assert wrong["scored"].tolist() == [3, 2, 2]
    assert wrong.loc["tess/a", "prediction"] == "angry"  # twice, sad once
    assert wrong["gave_it"].tolist() == [2, 2, 1]
    assert wrong.loc["tess/a", "confidence"] == pytest.approx(0.6)


def test_the_answer_in_the_heading_has_the_longest_bar(runs) -> None:
    wrong = page.count_wrong(runs)
    bars = wrong[[f"probability_{name}" for name in CLASSES]].set_axis(list(CLASSES), axis=1)
    assert bars.idxmax(axis=1).tolist() == wrong["prediction"].tolist()
    assert bars.loc[0, "angry"] == pytest.approx((0.5 + 0.7) / 2)  # sad: .9 in the first run
    html = page.clips_page(runs, 10, "Mistakes", synthetic=False)
    assert "bars: mean of the runs that said angry\n(2 of 3)" in html


@pytest.mark.parametrize("n_runs", [1, 2])
def test_without_a_mistake_the_page_is_a_sentence(runs, n_runs: int) -> None:
    right = runs["run1"].assign(prediction=runs["run1"]["truth"])
    html = page.clips_page(
        {f"run{k}": right for k in range(n_runs)}, 10, "Mistakes", synthetic=False
    )
    who = "" if n_runs == 1 else " by any of 2 runs"
    assert f"None of the 4 test clips was recognised wrongly{who}." in html
    assert not re.search("spectrogram|<select|<script|<main|CC BY", html)


def test_of_one_run_the_surest_mistakes_come_first(runs) -> None:
    assert page.count_wrong({"run1": runs["run1"]})["id"].tolist() == ["tess/a", "tess/d", "tess/c"]


@pytest.mark.parametrize("n_runs", [1, 2])
def test_runs_are_listed_where_the_heading_cannot_name_them(runs, n_runs: int) -> None:
    some = dict(list(runs.items())[:n_runs])
    html = page.clips_page(some, 10, "Mistakes", synthetic=False)
    assert (f"Runs: {', '.join(some)}</p>" in html) == (n_runs > 1)
    assert "Run: " not in html


def test_runs_on_other_classes_are_refused(runs) -> None:
    runs["other"] = runs["run1"].rename(columns={"probability_sad": "probability_calm"})
    with pytest.raises(SerError, match="other knows happy, calm, angry, but run1 knows"):
        page.count_wrong(runs)


def test_the_page_needs_nothing_beside_itself(runs) -> None:
    html = page.clips_page(runs, 10, "Mistakes", synthetic=False)
    assert "3 of 4 test clips were recognised wrongly by at least one of 3 runs" in html
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(addresses) == 6  # a picture and a sound of each of three clips
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "wrong in 3 of 3" in html and "CC BY-NC-ND 4.0" in html
    assert "Say the word &lt;a&gt;" in html and "<a>" not in html


def test_long_names_are_cut_and_leave_the_bars_their_room(runs) -> None:
    html = page.clips_page(
        runs, 10, "Mistakes of_a_run_with_a_name_wider_than_a_phone", synthetic=True
    )
    (body,) = re.findall(r"\nbody {([^}]*)}", html)
    (bars,) = re.findall(r"\n\.bars {([^}]*)}", html)
    assert "overflow-wrap: anywhere" in body and "nowrap" not in bars
    assert "grid-template-columns: fit-content(45%) 1fr" in bars


def test_synthetic_speech_is_called_so_and_bears_no_corpus_licence(runs) -> None:
    html = page.clips_page(runs, 10, "Mistakes", synthetic=True)
    assert "SYNTHETIC SPEECH" in html and "CC BY" not in html


def test_the_sound_in_the_page_is_the_clip_at_a_level_that_is_heard(runs) -> None:
    html = page.clips_page({"run1": runs["run1"]}, 1, "Mistakes", synthetic=False)
    (sound,) = re.findall(r"data:audio/flac;base64,([A-Za-z0-9+/=]+)", html)
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    original, _ = soundfile.read(runs["run1"]["path"][0])
    assert rate_hz == 16_000 and np.abs(samples).max() == pytest.approx(page.PEAK, abs=1e-3)
    assert np.corrcoef(samples, original)[0, 1] > 0.999
    assert "these are the 1 worst" in html


def test_sounds_past_the_limit_are_left_out_and_said_so(runs, monkeypatch) -> None:
    one = len(page.flac_bytes(page.load_waveform(Path(runs["run1"]["path"][0]))))
    monkeypatch.setattr(page, "AUDIO_LIMIT_BYTES", int(1.5 * one))
    html = page.clips_page({"run1": runs["run1"]}, 10, "Mistakes", synthetic=False)
    assert html.count("data:audio/flac") == 1 and html.count("Left out to keep the page") == 2
    assert html.count("data:image/png") == 3


def test_a_clip_whose_file_is_gone_keeps_its_card(runs) -> None:
    Path(runs["run1"]["path"][0]).unlink()
    html = page.clips_page({"run1": runs["run1"]}, 10, "Mistakes", synthetic=False)
    assert "The file cannot be read any more" in html and "tess/a" in html
    assert html.count("<article") == 3


def test_a_silent_clip_has_a_sound_and_a_picture() -> None:
    silence = np.zeros(8000, dtype=np.float32)
    assert page.flac_bytes(silence)[:4] == b"fLaC"
    assert page.spectrogram_png(silence)[1:4] == b"PNG"
