"""Fitting a run's model: on the train part, and once more on train and validation together."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from omegaconf import DictConfig

from ser.assemble import Material, build_data, build_model, card_of
from ser.callbacks import StopAfter, standard_callbacks, training_callbacks
from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.config import build
from ser.data import EmotionDataModule
from ser.errors import SerError
from ser.features import Feature
from ser.models.base import EmotionModel
from ser.report import counted
from ser.run_folder import RunFolder
from ser.scoring import hearing_ctrl_c, predict_clips, write_curves
from ser.task import EmotionClassifier
from ser.whole_files import write_text

log = logging.getLogger(__name__)

VALIDATION_FOLDS = 5
# Options that a run's name tells, and those that say where things lie
_NO_PART_OF_A_NAME = {
    "model", "dataset", "dataset.name", "split", "split.fold", "seed", "dataset.root",
    "encoder.path", "runs_root", "cache_root", "data_root", "logger.experiment", "logger.uri",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """All that is known of a run before its first long step."""

    cfg: DictConfig
    material: Material
    features: list[Feature]
    model: EmotionModel

    def __post_init__(self) -> None:
        """Refuse validation of which four fifths (`validation_answers`) may be of one emotion."""
        if not self.model.calibrates:
            return
        table = self.material.speech.table
        labels = table.loc[table["id"].isin(self.material.split.val), "label"].tolist()
        rests = [
            {label for clip, label in enumerate(labels) if clip % VALIDATION_FOLDS != first}
            for first in range(VALIDATION_FOLDS)
        ]
        if min(map(len, rests)) < 2:
            raise SerError(
                "model.fusion=stacked is fitted on validation, a fifth of it left out at a time, "
                f"and needs two emotions each time; validation has {counted(len(labels), 'clip')} "
                f"({', '.join(sorted(set(labels)))}). Choose a split with more validation clips, "
                "or model.fusion=mean_logits."
            )

    @property
    def name(self) -> str:
        """Model, dataset, split, fold and seed in one word."""
        split = self.material.split
        fold = f"-f{split.fold}" if split.n_folds > 1 else ""
        return f"{self.cfg.model.name}-{self.cfg.dataset.name}-{split.name}{fold}-s{self.cfg.seed}"

    def name_beside(self, overrides: Sequence[str]) -> str:
        """The name, and what else was asked for: of runs side by side in MLflow."""
        keys = (word.lstrip("+~").partition("=")[0] for word in overrides)
        words = zip(keys, overrides, strict=True)
        return " ".join([self.name, *(w for key, w in words if key not in _NO_PART_OF_A_NAME)])

    @property
    def title(self) -> str:
        """The name as tables and figures bear it: synthetic speech is called so."""
        return self.name + (" (SYNTHETIC SPEECH)" if self.material.speech.synthetic else "")


def fit(
    job: Job, data: EmotionDataModule, folder: RunFolder, logger: Any
) -> tuple[EmotionClassifier, int]:
    """Train on the train part, from the folder's last checkpoint if it has one; gives the epochs.

    The epoch to score is `last.ckpt` or `kept.ckpt`; a model without gradients is the latter.
    """
    cfg, task = job.cfg, build_task(job, job.model, data)
    done = folder.state().get("epochs")
    if done is not None:
        return task, int(done)
    task.model.fit(lambda: data.in_order("train"))
    if not task.model.trainable:
        trainer = build_trainer(cfg, [], logger)
        task.model.adapt(data.val_dataloader)
        with hearing_ctrl_c():
            trainer.validate(task, data.val_dataloader(), verbose=False)
        trainer.save_checkpoint(folder.kept)
        return task, 0
    choice = {"monitor": cfg.monitor.metric, "mode": cfg.monitor.mode, "keep": cfg.keep}
    callbacks = standard_callbacks(
        folder.checkpoints, seed=cfg.seed, patience=cfg.early_stopping.patience, **choice
    )
    if not _stopped_early(folder.last):
        _run(build_trainer(cfg, callbacks, logger), task, data, folder.last)
    history = load_checkpoint(folder.last)["callbacks"]["History"]["rows"]
    write_curves(folder.path, history, job.title, **choice)
    folder.set_state(epochs=len(history))
    return task, len(history)


def _stopped_early(last: Path) -> bool:
    """Whether early stopping had ended the training of this checkpoint: Lightning would go on."""
    states = load_checkpoint(last)["callbacks"].items() if last.is_file() else ()
    return any(key.startswith("EarlyStopping") and state["stopped_epoch"] for key, state in states)


def validation_answers(
    trainer: pl.Trainer,
    task: EmotionClassifier,
    data: EmotionDataModule,
    table: pd.DataFrame,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Calibrate the model on validation, and predict those clips (`predict_clips`).

    Where that fits something, each fifth of the clips is predicted by what was fitted on the
    others: figures, temperature and threshold are then those of clips that it has not seen.
    """
    model, clips = task.model, range(len(data.val))
    if not model.calibrates:
        return predict_clips(trainer, task, data.in_order("val"), table, classes)
    parts: list[pd.DataFrame] = []
    order: list[int] = []
    for first in range(min(VALIDATION_FOLDS, len(clips))):
        held = clips[first::VALIDATION_FOLDS]
        rest = [clip for clip in clips if clip not in held]
        model.calibrate(partial(data.in_order, "val", rest))
        parts.append(predict_clips(trainer, task, data.in_order("val", held), table, classes))
        order += held
    model.calibrate(lambda: data.in_order("val"))
    return pd.concat(parts, ignore_index=True).iloc[np.argsort(order)].reset_index(drop=True)


def fit_again(
    job: Job, first: EmotionClassifier, folder: RunFolder, epochs: int
) -> EmotionClassifier:
    """Train a new model on train and validation together, for so many epochs.

    The first weights, the order of an epoch's clips and the schedule are those of the seed and of
    all epochs asked for, as in the first training. Nothing is taken from validation: what
    `calibrate` took comes from `first`.
    """
    cfg, split, speech = job.cfg, job.material.split, job.material.speech
    joint = replace(split, train=tuple(sorted(split.train + split.val)))
    data = build_data(cfg, replace(job.material, split=joint), job.features)
    pl.seed_everything(cfg.seed, verbose=False)
    task = build_task(job, build_model(cfg.model, job.features, speech.classes), data)
    task.card["refit"] = True
    if not folder.again.is_file() or load_checkpoint(folder.again)["epoch"] + 1 < epochs:
        speakers = speech.table.loc[speech.table["id"].isin(joint.train), "speaker"].nunique()
        told = "training again on train and validation: %d clips of %d speakers, %d epochs"
        log.info(told, len(joint.train), speakers, epochs)
        task.model.fit(lambda: data.in_order("train"))
        callbacks = training_callbacks(folder.again, cfg.seed)
        trainer = build_trainer(cfg, [*callbacks, StopAfter(epochs)], False, limit_val_batches=0)
        _run(trainer, task, data, folder.again)
    done = load_weights(task, folder.again)
    history = pd.DataFrame(done["callbacks"]["History"]["rows"])
    history["epoch"] += 1
    write_text(folder.path / "history_again.csv", history.to_csv(index=False))
    task.model.take_calibration(first.model)
    return task


def _run(trainer: pl.Trainer, task: EmotionClassifier, data: EmotionDataModule, last: Path) -> None:
    """Lightning's training, from the checkpoint `last` if there is one."""
    resumed = last if last.is_file() else None
    if resumed is not None:
        load_weights(task, resumed)  # clear errors, where Lightning's are none
    with hearing_ctrl_c():
        trainer.fit(task, data.train_dataloader(), data.val_dataloader(), ckpt_path=resumed)


def load_weights(task: EmotionClassifier, path: Path) -> dict[str, Any]:
    """The checkpoint, its weights now those of the task."""
    checkpoint = load_checkpoint(path)
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise SerError(
            f"{path}: its weights do not fit the network of this code, which has changed since. "
            "Take the code that the run began with (run.json has its commit), or delete the run's "
            "folder and start it anew."
        ) from error
    return checkpoint


def build_task(job: Job, model: EmotionModel, data: EmotionDataModule) -> EmotionClassifier:
    """The LightningModule around a model."""
    cfg, speech = job.cfg, job.material.speech
    return EmotionClassifier(
        model,
        speech.classes,
        augment=build(cfg.augment.batch),
        label_smoothing=cfg.loss.label_smoothing,
        clip_weights=data.loss_weights(len(speech.table)),
        optimizer=build(cfg.optimizer),
        schedule=build(cfg.scheduler),
        monitor=cfg.monitor.metric,
        mode=cfg.monitor.mode,
        card=card_of(cfg, job.material, job.features),
    )


def build_trainer(cfg: DictConfig, callbacks: Any, logger: Any, **changes: Any) -> pl.Trainer:
    """Lightning's Trainer with our checkpoint files and without its chatter."""
    trainer: pl.Trainer = build(
        cfg.trainer,
        **changes,
        callbacks=callbacks,
        logger=logger,
        plugins=[SafeCheckpointIO()],
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(one, pl.callbacks.RichProgressBar) for one in callbacks),
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # nothing is logged by step
    )
    return trainer
