"""A model's answers on one part of the clips: predictions, figures, pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ser.batch import Batch
from ser.metrics import confusion, report_text, score_counts, score_groups

CLIP_COLUMNS = ["id", "corpus", "speaker", "sex", "intensity", "text", "duration_s", "path"]


def predict_clips(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    loader: DataLoader[Batch],
    table: pd.DataFrame,
    classes: Sequence[str],
) -> pd.DataFrame:
    """A row for each clip: id, truth, prediction, confidence, probability_<class>, and whose it is.

    `table` is the run's table, which the batches' `index` points into.
    """
    outputs: Any = trainer.predict(task, loader)
    rows = torch.cat([index for index, _, _ in outputs]).cpu().numpy()
    probabilities = torch.cat([p for _, _, p in outputs]).cpu().numpy()
    clips = table.loc[rows].reset_index(drop=True)
    names = pd.Index(classes)
    answers = pd.DataFrame(
        {
            "truth": clips["label"],
            "prediction": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1),
            **{f"probability_{name}": probabilities[:, k] for k, name in enumerate(classes)},
        }
    )
    return pd.concat([clips[CLIP_COLUMNS], answers], axis=1)


def figures_of(predictions: pd.DataFrame, classes: Sequence[str], part: str) -> dict[str, float]:
    """Every figure of a part, keys as in MLflow: `test/uar`, `test/corpus/tess/war`, …"""
    scores = score_groups(predictions, classes)
    return {f"{part}/{key}": value for key, value in scores.items()} | {
        f"{part}/clips": float(len(predictions))
    }


def write_predictions(
    folder: Path, predictions: pd.DataFrame, classes: Sequence[str], title: str
) -> None:
    """predictions.parquet, report.txt and the confusion matrix, in `folder`."""
    from ser.plots import confusion_figure

    part = folder / "predictions.parquet.part"
    predictions.to_parquet(part, index=False)
    part.replace(folder / "predictions.parquet")
    counts = confusion(predictions["truth"], predictions["prediction"], classes)
    (folder / "report.txt").write_text(report_text(counts, classes), encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    figure = confusion_figure(counts, classes, title, score_counts(counts, classes))
    figure.savefig(folder / "figures" / "confusion_matrix.png")


def write_curves(
    folder: Path, history: Sequence[Mapping[str, float]], title: str, monitor: str, mode: str
) -> None:
    """history.csv and the training curves, in `folder`."""
    from ser.plots import training_figure

    table = pd.DataFrame(history).set_index("epoch")
    table.index = table.index.astype(int)
    table.to_csv(folder / "history.csv")
    (folder / "figures").mkdir(exist_ok=True)
    figure = training_figure(table, title, monitor, mode)
    figure.savefig(folder / "figures" / "training_curves.png")
