"""From batches to a table of predictions, its figures and its files."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import balanced_accuracy_score

from ser import calibration_plots, plots, subgroup_plots
from ser.batch import Batch
from ser.errors import SerError
from ser.plots import new_figure
from ser.scoring import figures_of, predict_clips, write_curves, write_predictions

CLASSES = ("neutral", "happy", "sad")
PROBABILITIES = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])
ROWS = torch.tensor([12, 10, 13, 11])  # as a shuffled loader would give them


pytestmark = [  # what ser.quiet.quieten silences in a run
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


class Known(pl.LightningModule):
    """Answers with the embedding, as if it were probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SimpleNamespace(adapts=False)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[torch.Tensor, ...]:
        return batch.index, batch.target, batch.embedding


@pytest.fixture
def table() -> pd.DataFrame:
    columns = {
        "id": [f"tess/{row}" for row in range(4)],
        "corpus": ["tess", "tess", "savee", "savee"],
        "speaker": ["tess_OAF", "tess_OAF", "savee_DC", "savee_DC"],
        "sex": ["female", "female", "male", "male"],
        "age": pd.array([64, 64, None, None], dtype="Int64"),
        "intensity": [None] * 4, "text": ["a", "b", "c", "d"], "duration_s": [1.0, 2.0, 3.0, 4.0],
        "path": [f"/data/{row}.wav" for row in range(4)],
        "label": ["sad", "neutral", "neutral", "happy"],
    }  # fmt: skip
    return pd.DataFrame(columns, index=[10, 11, 12, 13])


def answered(table: pd.DataFrame, probabilities: torch.Tensor) -> pd.DataFrame:
    target = torch.zeros(2, dtype=torch.long)
    batches = [
        Batch(index=ROWS[part], target=target, embedding=probabilities[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    loader = torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    return predict_clips(trainer, Known(), loader, table, CLASSES)


@pytest.fixture
def predictions(table) -> pd.DataFrame:
    return answered(table, PROBABILITIES)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_probabilities_that_are_no_numbers_are_refused(table, value):
    broken = PROBABILITIES.clone()
    broken[1, 2] = value
    with pytest.raises(SerError, match=r"^SimpleNamespace gave 1 of 4 clips prob"):
        answered(table, broken)


def test_ctrl_c_in_the_midst_of_scoring_is_no_failure(table, monkeypatch):
    def step(self, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Known, "predict_step", step)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            answered(table, PROBABILITIES)
    finally:
        signal.signal(signal.SIGINT, heard)  # Lightning leaves it ignored


def test_each_clip_gets_its_own_answer(predictions):
    rows = predictions.set_index("id")
    assert rows.index.tolist() == ["tess/2", "tess/0", "tess/3", "tess/1"]
    assert rows["truth"].tolist() == ["neutral", "sad", "happy", "neutral"]
    assert rows["prediction"].tolist() == ["neutral", "sad", "happy", "neutral"]
    assert rows["confidence"].tolist() == pytest.approx([0.5, 0.8, 0.7, 0.4])
    assert rows.loc["tess/0", "probability_sad"] == pytest.approx(0.8)
    assert rows["temperature"].tolist() == [1.0] * 4 and rows.loc["tess/0", "age"] == 64
    assert rows.loc["tess/3", "path"] == "/data/3.wav" and rows.loc["tess/3", "sex"] == "male"


def test_figures_have_the_keys_of_mlflow(predictions):
    wrong = predictions.assign(prediction=["sad", "sad", "happy", "neutral"])
    figures = figures_of(wrong, CLASSES, "test")
    assert figures["test/uar"] == pytest.approx(
        balanced_accuracy_score(wrong["truth"], wrong["prediction"])
    )
    assert figures["test/clips"] == 4 and figures["test/war"] == 0.75
    assert figures["test/recall/neutral"] == 0.5
    assert figures["test/corpus/tess/war"] == 1 and figures["test/corpus/savee/war"] == 0.5
    assert {key.split("/")[0] for key in figures} == {"test"}


def test_what_is_written_can_be_read(predictions, tmp_path):
    write_predictions(tmp_path, predictions, CLASSES, "a run, test")
    again = pd.read_parquet(tmp_path / "predictions.parquet")
    assert again["truth"].tolist() == predictions["truth"].tolist()
    np.testing.assert_array_equal(again["confidence"], predictions["confidence"])
    assert "UAR" in (tmp_path / "report.txt").read_text()
    image = (tmp_path / "figures" / "confusion_matrix.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))
    for name in ("reliability", "risk_coverage"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000
    assert pd.read_csv(tmp_path / "subgroups.csv").empty  # two clips a group
    assert "No attribute has two groups" in (tmp_path / "subgroups.md").read_text()


def test_every_figure_says_how_many_clips_of_how_many_speakers(predictions, tmp_path, monkeypatch):
    titles = []

    def titled(width_in, height_in, title):
        titles.append(title)
        return new_figure(width_in, height_in, title)

    for module in (plots, calibration_plots, subgroup_plots):
        monkeypatch.setattr(module, "new_figure", titled)
    many = pd.concat([predictions.assign(id=predictions["id"] + f"/{k}") for k in range(10)])
    write_predictions(tmp_path, many.reset_index(drop=True), CLASSES, "a run, test")
    assert len(titles) == 4
    told = "a run, test: 40 clips of 2 speakers (savee, tess)"
    assert all(title.startswith(told) for title in titles)
    one = many[many["corpus"] == "tess"].reset_index(drop=True)
    write_predictions(tmp_path, one, CLASSES, "tim-tess-loso, test")
    assert titles[4].startswith("tim-tess-loso, test: 20 clips of 1 speaker\n")


def test_a_figure_of_subgroups_is_there_only_where_it_shows_something(predictions, tmp_path):
    many = pd.concat([predictions.assign(id=predictions["id"] + f"/{k}") for k in range(10)])
    write_predictions(tmp_path, many.reset_index(drop=True), CLASSES, "a run, test")
    figure = tmp_path / "figures" / "subgroups.png"
    assert figure.stat().st_size > 10_000
    write_predictions(tmp_path, predictions, CLASSES, "a run, test")
    assert not figure.exists()


def test_what_an_older_run_left_can_be_written_again(predictions, tmp_path):
    older = predictions.drop(columns=["age", "temperature"])
    write_predictions(tmp_path, older, CLASSES, "a run, test")
    new, old = (figures_of(table, CLASSES, "test") for table in (predictions, older))
    assert new == old


def test_confounded_groups_are_warned_of(predictions, tmp_path, caplog):
    many = pd.concat([predictions.assign(id=predictions["id"] + f"/{k}") for k in range(10)])
    write_predictions(tmp_path, many.reset_index(drop=True), CLASSES, "a run, test")
    assert "corpus and sex" in caplog.text and "confounded" in caplog.text
    table = pd.read_csv(tmp_path / "subgroups.csv").set_index(["attribute", "group"])
    assert "sex" in table.loc[("corpus", "tess"), "confounded_with"]
    assert "**Warning:** corpus and sex" in (tmp_path / "subgroups.md").read_text()


def test_curves_come_with_their_table(tmp_path):
    history = [
        {"epoch": float(epoch), "train/loss": 2.0 - epoch, "val/loss": 2.0, "train/uar": 0.1,
         "val/uar": 0.1 * epoch}
        for epoch in range(3)
    ]  # fmt: skip
    write_curves(tmp_path, history, "a run", monitor="val/uar", mode="max", keep="last")
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["epoch"].tolist() == [1, 2, 3] and table["train/loss"].tolist() == [2, 1, 0]
    assert (tmp_path / "figures" / "training_curves.png").stat().st_size > 1000
