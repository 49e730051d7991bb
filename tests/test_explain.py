"""`ser explain` and the model card, on a run that was really trained (on tones, in seconds)."""

import html
import re
import shlex
import shutil
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import synthetic
import torch
from matplotlib.figure import Figure
from pipeline_runs import train

from ser.cli import main
from ser.embedding_map import Seen
from ser.errors import SerError
from ser.explain import (
    _figure_name,
    colourings_of,
    explain,
    explain_clip,
    hidden_values,
    hop_ms,
    rewrite_card,
    where_tested,
)
from ser.explain_index import write_index
from ser.features import LogMel, SpeechOnly
from ser.plots import recall_figure
from ser.predict import Recognizer
from ser.report import clips_and_speakers
from ser.run_folder import RunFolder

QUICK = ["trainer.max_epochs=1", "augment=none"]
ENSEMBLE = ["model=ensemble", "model.tim.n_blocks=2", "model.wav2vec2.layers=all"]


@pytest.fixture(scope="module")
def ensemble(project: Path, hydra_ready: None) -> RunFolder:
    return train(project, *QUICK, *ENSEMBLE)


@pytest.fixture(scope="module")
def chance(project: Path, hydra_ready: None) -> RunFolder:
    return train(project, *QUICK, "model=chance")


def is_png(path: Path) -> bool:
    return path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10_000


def test_an_ensemble_has_every_figure_and_page(
    ensemble: RunFolder, chance: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def titled(recalls: pd.DataFrame, title: str) -> Figure:
        titles.append(title)
        return recall_figure(recalls, title)

    monkeypatch.setattr("ser.explain.recall_figure", titled)
    paths = explain([ensemble, chance], limit=5)
    tested = clips_and_speakers(ensemble.read_predictions())
    assert titles == [f"2 runs of ravdess, speaker_kfold: recall on the test part, {tested}"]
    assert [path.name for path in paths] == [
        "embedding_map.png", "layer_weights.png", "scale_weights.png", "recall.png",
        "wrong_clips.html", "index.html",
    ]  # fmt: skip
    assert {path.parent for path in paths} == {ensemble.path / "explain"}
    assert all(is_png(path) for path in paths if path.suffix == ".png")
    index = paths[-1].read_text()
    assert "Left out" not in index
    linked = set(re.findall(r'href="([^"]+)"', index))
    assert linked == {path.name for path in paths[:-1]}
    page = paths[-2].read_text()
    for written in (index, page):
        assert "color-scheme: light dark" in written  # players and menus, too
    assert page.count('alt="log-mel spectrogram of ravdess/') == 5
    assert page.count('<audio controls aria-label="ravdess/') == 5
    assert "wrong in 2 of 2" in page and page.count("<article") == 5


def test_models_that_were_tested_on_other_clips_are_said_to_be() -> None:
    one, other = pd.DataFrame({"id": ["a", "b"]}), pd.DataFrame({"id": ["c"]})
    assert where_tested({"tim": [one, other], "linear": [other, one]}) == "on the test part"
    assert where_tested({"tim": [one, other], "linear": [one]}).endswith("on other test clips")


def test_what_all_clips_share_has_no_panel() -> None:
    clips = pd.DataFrame(
        {"label": ["sad", "sad", "happy"], "corpus": "emodb", "sex": None, "speaker": "emodb_03"}
    )
    near = np.array([[1], [0], [1]])
    (by_emotion,), shared = colourings_of(clips, near)
    assert by_emotion.what == "emotion" and by_emotion.pure == pytest.approx(2 / 3)
    assert shared == "one sex (unknown), one speaker (emodb_03)"
    mixed = clips.assign(corpus=["emodb", "tess", "tess"], speaker=["a", "b", "b"])
    colourings, shared = colourings_of(mixed, near)
    assert [c.what for c in colourings] == ["emotion", "corpus", "speaker"] and not shared


def test_chance_says_why_it_has_no_map_and_no_weights(chance: RunFolder) -> None:
    left = chance.path / "explain" / "index.html.123.part"  # by a killed one
    left.parent.mkdir(exist_ok=True)
    left.touch()
    paths = explain([chance], limit=3)
    assert not left.exists()
    assert [path.name for path in paths] == ["recall.png", "wrong_clips.html", "index.html"]
    index = paths[-1].read_text()
    assert "Left out: Chance has no hidden values" in index
    assert "Left out: Chance learns no weighting" in index
    assert "Left out: Chance has no TIM-Net" in index


def test_one_layer_has_no_figure_of_weights(project: Path, hydra_ready: None) -> None:
    run = train(project, *QUICK, "model=wav2vec2")  # of `tiny` layer 1 alone is an inner one
    paths = explain([run], limit=3)
    assert "layer_weights.png" not in [path.name for path in paths]
    assert "Left out: Wav2Vec2Model reads one encoder layer, number 1" in paths[-1].read_text()


def test_a_clip_gets_its_curve_and_its_place_in_the_index(
    ensemble: RunFolder, tmp_path: Path
) -> None:
    clip = synthetic.write_clip(tmp_path / "my call.wav", synthetic.tone("x", seconds=0.6))
    figure, index = explain_clip(ensemble, clip)
    assert re.fullmatch(r"saliency_my call\.wav_[0-9a-f]{6}\.png", figure.name) and is_png(figure)
    assert f'href="{quote(figure.name)}"' in index.read_text()


def test_the_command_of_the_index_can_be_given_as_it_stands(tmp_path: Path) -> None:
    index = write_index(tmp_path / "my runs", tmp_path, "a run", None)
    command = html.unescape(re.findall("<pre>(.*)</pre>", index.read_text())[0])
    assert shlex.split(command)[2] == str(tmp_path / "my runs")


def test_no_two_clips_share_a_figure(tmp_path: Path) -> None:
    names = ("a.wav", "a.flac", "x/a.wav", "\u65e5" * 83 + ".wav", "\u65e5" * 83 + ".mp3")
    figures = [_figure_name(tmp_path / name) for name in names]
    assert len(set(figures)) == len(figures)
    for figure in figures:
        (tmp_path / figure).touch()
    assert _figure_name(tmp_path / "a.wav") == figures[0]


def test_the_command_prints_what_it_wrote(ensemble: RunFolder, capsys) -> None:
    main(["explain", str(ensemble.path), "--limit", "2"])
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed[-1] == ensemble.path / "explain" / "index.html"
    assert all(path.is_file() for path in printed)
    test = pd.read_parquet(ensemble.predictions)
    wrong = int((test["truth"] != test["prediction"]).sum())
    assert printed[-2].read_text().count("<article") == min(2, wrong)
    main(["card", str(ensemble.path)])
    assert capsys.readouterr().out == f"{ensemble.path / 'MODEL_CARD.md'}\n"


def test_a_run_whose_speech_is_gone_still_shows_the_rest(
    ensemble: RunFolder, tmp_path: Path, project: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(ensemble.path, tmp_path / "copy")))
    text = copy.config.read_text().replace(str(project / "data"), str(tmp_path / "nowhere"))
    copy.config.write_text(text)
    names = [path.name for path in explain([copy], limit=3)]
    assert "embedding_map.png" not in names and "layer_weights.png" in names
    assert "nowhere" in (copy.path / "explain" / "index.html").read_text()


def test_an_unscored_run_is_refused(ensemble: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(ensemble.path, tmp_path / "copy")))
    copy.predictions.unlink()
    with pytest.raises(SerError, match=r"no predictions\.parquet"):
        explain([copy], limit=3)


def test_every_run_has_a_card_of_its_own_figures(ensemble: RunFolder, project: Path) -> None:
    card = (ensemble.path / "MODEL_CARD.md").read_text()
    metrics, clips = ensemble.metrics(), pd.read_parquet(ensemble.predictions)
    assert f"| all clips  |    {len(clips)} |" in card
    assert f"{metrics['test/uar']:.3f} [" in card and f"{metrics['best/uar']:.3f}, WAR" in card
    assert "RAVDESS speech" in card and "CC BY-NC-SA 4.0" in card
    assert "encoder: tiny, frozen" in card and "Licence: none: random weights" in card
    assert "no test speaker is in train or validation" in card
    assert "Robustness to noise, rooms and telephones: not measured for this model" in card
    assert "Article 5(1)(f) of Regulation (EU) 2024/1689" in card
    assert f"ser predict {ensemble.path} RECORDING.wav" in card
    assert "python train.py dataset=ravdess split=speaker_kfold" in card
    assert f"Commit {ensemble.state()['commit']}." in card
    assert "\n\n\n" not in card and "{{" not in card and "None" not in card


def test_mlflow_holds_the_card(ensemble: RunFolder, project: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    files = {item.path for item in client.list_artifacts(ensemble.state()["run_id"])}
    assert "MODEL_CARD.md" in files


def test_the_card_is_written_anew_with_what_was_measured_since(
    ensemble: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunFolder(
        Path(shutil.copytree(ensemble.path, tmp_path / "my runs" / ensemble.path.name))
    )
    degraded = copy.path / "evaluations" / "robustness"
    degraded.mkdir(parents=True)
    (degraded / "robustness.md").write_text("table")
    (copy.path / "MODEL_CARD.md.123.part").touch()  # by a killed one
    metrics = copy.metrics()
    metrics["best/epoch"] = metrics.pop("best/kept_epoch") - 1  # as runs of before counted
    copy.write_metrics(metrics)
    reads, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **how: reads.append(path) or load(path, **how))
    old, new = (copy.path / "MODEL_CARD.md").read_text(), rewrite_card(copy).read_text()
    assert reads == [copy.best] and re.search(r"epoch \d of \d was kept", new)
    assert not list(copy.path.glob("*.part"))
    assert "see `evaluations/robustness/robustness.md`" in new
    assert f"\nser explain '{copy.path}'\n" in new
    changed = set(new.splitlines()) ^ set(old.splitlines())
    assert all("obustness" in line or str(tmp_path) in line or "mlruns" in line for line in changed)


def test_a_run_without_a_test_part_has_a_card_that_says_so(
    project: Path, hydra_ready: None
) -> None:
    card = (train(project, *QUICK, "model=chance", "test=false").path / "MODEL_CARD.md").read_text()
    assert "Its test clips were not scored (test=false)." in card
    assert "On validation: UAR 0." in card


def test_the_hop_of_frames_is_in_milliseconds() -> None:
    feature = LogMel(n_mels=40, n_fft=512, hop_samples=160, sample_rate_hz=16_000)
    assert hop_ms(feature) == hop_ms(SpeechOnly(feature)) == 10
    settings = {"class": "LogMel", "version": 1, "hop_ms": 10}
    told = r"LogMel \(ser\.features\.logmel\) .* `hop_samples`"
    with patch.object(feature, "settings", lambda: settings), pytest.raises(SerError, match=told):
        hop_ms(feature)


@pytest.mark.parametrize("width", [0, 1])
def test_what_is_too_narrow_for_a_map_leaves_it_out(
    ensemble: RunFolder, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    def narrow(folder: RunFolder, recognizer: Recognizer) -> tuple[pd.DataFrame, Seen]:
        clips, seen = hidden_values(folder, recognizer)
        return clips, seen._replace(values=np.hstack([seen.values[:, :width], seen.values * 0]))

    monkeypatch.setattr("ser.explain.hidden_values", narrow)
    names = [path.name for path in explain([ensemble], limit=1)]
    assert "embedding_map.png" not in names and "recall.png" in names
    why = f"Of their last hidden values {width} differ from clip to clip: a map takes 2 or more."
    assert why in (ensemble.path / "explain" / "index.html").read_text()
