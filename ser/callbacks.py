"""What happens around the epochs: seeds, the history, one line an epoch where no bar is drawn."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
)

log = logging.getLogger(__name__)


class SeedEpochs(Callback):
    """Seed each epoch by the run's seed and its number, so that a resumed run repeats it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Dropout, augmentation and mixup of an epoch depend on nothing before it.

        Lightning does not call on_train_epoch_start in the first epoch after a resume.
        """
        if batch_idx == 0:
            torch.manual_seed(self._seed * 1_000_003 + trainer.current_epoch)


class History(Callback):
    """Every logged metric by epoch; kept in the checkpoint, so that a resumed run has all of it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Take the epoch's figures, validation among them."""
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]
        self.rows.append({"epoch": float(trainer.current_epoch), **values})

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = list(state["rows"])


class EpochLines(Callback):
    """One log line an epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Print the figures that a person watches."""
        seen = trainer.callback_metrics
        names = [key for key in ("train/loss", "train/uar", "val/loss", "val/uar") if key in seen]
        figures = "  ".join(f"{key} {float(seen[key]):.3f}" for key in names)
        log.info("epoch %3d/%d  %s", trainer.current_epoch + 1, trainer.max_epochs or 0, figures)


class BestCheckpoint(ModelCheckpoint):
    """Of epochs that are equally good the latest is kept: its weights are the more annealed."""

    def check_monitor_top_k(self, trainer: pl.Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether this epoch becomes the best one."""
        if super().check_monitor_top_k(trainer, current):
            return True
        return current is not None and bool(current == self.best_model_score)


class StopAfter(Callback):
    """End the training after so many epochs, whatever the schedule was made for."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Ask Lightning to stop."""
        if trainer.current_epoch + 1 >= self._epochs:
            trainer.should_stop = True


def training_callbacks(last: Path, seed: int) -> list[Callback]:
    """What every training has; each epoch's checkpoint, its history inside, replaces `last`."""
    saved = ModelCheckpoint(  # save_last=True of BestCheckpoint would copy the best epoch
        dirpath=last.parent,
        filename=last.stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    shown = RichProgressBar() if sys.stdout.isatty() else EpochLines()
    return [SeedEpochs(seed), History(), shown, saved]


def standard_callbacks(
    folder: Path, *, seed: int, keep: str, monitor: str, mode: str, patience: int | None
) -> list[Callback]:
    """What a run's first training has.

    The last checkpoint is `last.ckpt` in `folder`; with `keep` best the best one is `kept.ckpt`
    beside it. With `patience` training stops after so many epochs without a better one.
    """
    callbacks = training_callbacks(folder / "last.ckpt", seed)
    best = BestCheckpoint(
        dirpath=folder,
        filename="kept",
        monitor=monitor,
        mode=mode,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    if keep == "best":
        callbacks.insert(-1, best)  # before the last checkpoint, which holds what it has seen
    if patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=patience))
    return callbacks
