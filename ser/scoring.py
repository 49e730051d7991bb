"""A model's answers on one part of the clips: predictions, figures, pictures."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ser.batch import Batch
from ser.confidence import PREFIX, at_temperature, calibration_scores, right_of, temperature_of
from ser.errors import DivergedError
from ser.metrics import counts_of, report_text, score_counts, score_groups
from ser.report import clips_and_speakers
from ser.subgroups import confounds, groups_of, subgroup_table, subgroups_markdown
from ser.tables import write_table
from ser.whole_files import save_figure, write_text

log = logging.getLogger(__name__)

CLIP_COLUMNS = [
    "id", "corpus", "speaker", "sex", "age", "intensity", "text", "duration_s", "path",
]  # fmt: skip


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Around what Lightning runs: it makes SystemExit of Ctrl-C, which is shown as a failure."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error


def predict_clips(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    loader: DataLoader[Batch],
    table: pd.DataFrame,
    classes: Sequence[str],
    temperature: float = 1.0,
) -> pd.DataFrame:
    """A row for each clip: id, truth, prediction, confidence, probability_<class>, and whose it is.

    `table` is the run's table, which the batches' `index` points into. Confidence and
    probabilities are those at `temperature`, which stands in a column of its own. DivergedError
    where one is no finite number.
    """
    model: Any = task.model
    if model.adapts:
        model.adapt(lambda: loader)
    with hearing_ctrl_c():
        outputs: Any = trainer.predict(task, loader)
    rows = torch.cat([index for index, _, _ in outputs]).cpu().numpy()
    probabilities = torch.cat([p for _, _, p in outputs]).cpu().numpy()
    if wrong := int((~np.isfinite(probabilities).all(1)).sum()):
        raise DivergedError(
            f"{type(model).__name__} gave {wrong} of {len(rows)} clips probabilities that are no "
            "finite numbers, which cannot be scored. Look at its features and its forward, or "
            "train again with a lower optimizer.lr."
        )
    clips = table.loc[rows].reset_index(drop=True)
    names = pd.Index(classes)
    answers = pd.DataFrame(
        {
            "truth": clips["label"],
            "prediction": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1),
            "temperature": 1.0,
            **{f"{PREFIX}{name}": probabilities[:, k] for k, name in enumerate(classes)},
        }
    )
    raw = pd.concat([clips[CLIP_COLUMNS], answers], axis=1)
    return at_temperature(raw, classes, temperature)


def figures_of(predictions: pd.DataFrame, classes: Sequence[str], part: str) -> dict[str, float]:
    """Every figure of a part, keys as in MLflow: `test/uar`, `test/corpus/tess/war`, …"""
    scores = score_groups(predictions, classes) | calibration_scores(predictions, classes)
    return {f"{part}/{key}": value for key, value in scores.items()} | {
        f"{part}/clips": float(len(predictions))
    }


def write_predictions(
    folder: Path,
    predictions: pd.DataFrame,
    classes: Sequence[str],
    title: str,
    abstain_below: float | None = None,
) -> None:
    """predictions.parquet, report.txt, subgroups.csv and .md, and their figures, in `folder`.

    No figure of subgroups is written where no attribute has two groups.
    `abstain_below` is the model's threshold, where it has one; `title` says what was scored on
    what, and is followed by the number of clips and speakers, and by the corpora that it does not
    name.
    """
    from ser.plots import confusion_figure

    write_table(predictions, folder / "predictions.parquet")
    counts = counts_of(predictions, classes)
    write_text(folder / "report.txt", report_text(counts, classes))
    (folder / "figures").mkdir(exist_ok=True)
    corpora = sorted(set(predictions["corpus"]))
    named = "" if all(name in title for name in corpora) else f" ({', '.join(corpora)})"
    told = f"{title}: {clips_and_speakers(predictions)}{named}"
    figure = confusion_figure(counts, classes, told, score_counts(counts, classes))
    save_figure(figure, folder / "figures" / "confusion_matrix.png")
    _write_confidence(folder, predictions, classes, told, abstain_below)
    _write_subgroups(folder, predictions, classes, told)


def _write_confidence(
    folder: Path,
    predictions: pd.DataFrame,
    classes: Sequence[str],
    title: str,
    abstain_below: float | None,
) -> None:
    from ser.calibration_plots import reliability_figure, risk_coverage_figure

    raw = at_temperature(predictions, classes, 1.0)["confidence"].to_numpy(dtype=np.float64)
    confidence = predictions["confidence"].to_numpy(dtype=np.float64)
    right, temperatures = right_of(predictions), np.unique(temperature_of(predictions))
    temperature = float(temperatures[0]) if len(temperatures) == 1 else None
    figure = reliability_figure(raw, confidence, right, temperature, title)
    save_figure(figure, folder / "figures" / "reliability.png")
    figure = risk_coverage_figure(confidence, right, abstain_below, title)
    save_figure(figure, folder / "figures" / "risk_coverage.png")


def _write_subgroups(
    folder: Path, predictions: pd.DataFrame, classes: Sequence[str], title: str
) -> None:
    from ser.subgroup_plots import subgroups_figure

    met = confounds(groups_of(predictions))
    if met:
        pairs = "; ".join(f"{confound.first} and {confound.second}" for confound in met)
        log.warning("confounded, not to be told apart on these clips: %s (subgroups.md)", pairs)
    table = subgroup_table(predictions, classes)
    write_text(folder / "subgroups.csv", table.to_csv(index=False))
    text = subgroups_markdown(table, met, title)
    write_text(folder / "subgroups.md", text)
    path = folder / "figures" / "subgroups.png"
    if table["gap"].notna().any():
        save_figure(subgroups_figure(table, title), path)
    else:  # nothing to draw: nor may one of another time stay
        path.unlink(missing_ok=True)


def write_curves(
    folder: Path,
    history: Sequence[Mapping[str, float]],
    title: str,
    *,
    monitor: str,
    mode: str,
    keep: str,
) -> None:
    """history.csv and the training curves, in `folder`, epochs counted from 1."""
    from ser.plots import training_figure

    table = pd.DataFrame(history).set_index("epoch")
    table.index = table.index.astype(int)
    write_text(folder / "history.csv", table.rename(index=lambda epoch: epoch + 1).to_csv())
    (folder / "figures").mkdir(exist_ok=True)
    figure = training_figure(table, title, monitor, mode, keep)
    save_figure(figure, folder / "figures" / "training_curves.png")
