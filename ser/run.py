"""One training run from options to scored checkpoint."""

import hashlib
import json
import logging
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from ser.assemble import (
    Material,
    build_data,
    build_features,
    build_model,
    check_front_end,
    open_material,
)
from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.confidence import abstention_scores, at_temperature, calibrate
from ser.config import CONF, build, check, plain
from ser.data import EmotionDataModule, check_factors
from ser.errors import OptionError, SerError, made_by_other_code
from ser.fitting import Job, build_trainer, fit, fit_again, load_weights, validation_answers
from ser.metrics import class_report, counts_of, score_groups
from ser.model_card import write_model_card
from ser.options import check_kinds
from ser.quiet import quieten
from ser.report import headline, render_results
from ser.run_folder import RunFolder, begun, find_run
from ser.scoring import figures_of, predict_clips, write_predictions
from ser.tables import write_table
from ser.task import EmotionClassifier
from ser.tracking import Tracker, git_commit
from ser.whole_files import write_text

log = logging.getLogger(__name__)


def prepare(cfg: DictConfig) -> Job:
    """Speech, split, front-end and network; whatever is wrong with the options shows here."""
    material = open_material(cfg)
    table = material.speech.table
    trained = set(table.loc[table["id"].isin(material.split.train), "corpus"])
    check_factors(cfg.loss.corpora or {}, trained)
    features = build_features(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    model = build_model(cfg.model, features, material.speech.classes)
    build_trainer(cfg, [], False)  # what these refuse shows before a run folder is made
    build(cfg.optimizer, [nn.Parameter(torch.zeros(1))], _partial_=False)
    build(cfg.augment.batch)
    build(cfg.augment.waveform)
    return Job(cfg, material, features, model)


# What leaves the trained weights and their scores as they are.
UNFINGERPRINTED = ("resume", "runs_root", "cache_root", "data_root", "logger", "abstain")


def train(cfg: DictConfig, overrides: Sequence[str] = ()) -> float:
    """Train, keep one epoch's checkpoint, score it; gives its monitored metric.

    With `resume` the named run is gone on with, under its own configuration. `overrides` are the
    options as the user gave them, by which runs are told apart in tables.
    """
    quieten()
    check_kinds(cfg, overrides, CONF, "train")
    if any(word.startswith("resume=") for word in overrides):
        _check_beside_resume(overrides)
    tracker = tracker_of(cfg)
    if cfg.resume is not None:
        return _resume(cfg, tracker, any(word.startswith(_ROOT) for word in overrides))
    digest = config_digest(cfg)  # of the options as asked for, which is what a sweep looks up
    check(cfg)
    job = prepare(cfg)
    if any(word.startswith("augment") for word in overrides):
        _tell_of_idle(job)
    # under the lock: of another process no folder is half begun
    with tracker.lock, begun(Path(cfg.runs_root) / "runs", job.name) as folder:
        tags = run_tags(job) | {
            "config": digest,
            "overrides": " ".join(overrides),
            "run_folder": str(folder.path.resolve()),
        }
        run_id = tracker.start(job.name_beside(overrides), tags)
        command = shlex.join(["python", "train.py", *overrides])
        state = {"run_id": run_id, "status": "running", "commit": tags["git_commit"]}
        try:
            write_text(folder.config, OmegaConf.to_yaml(cfg))
            tracker.log_config(run_id, plain(cfg))
            folder.set_state(**state, command=command)  # last: by it a killed run is gone on with
        except BaseException as error:
            tracker.finish(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
    log.info("run folder %s", folder.path)
    return _work(job, folder, tracker, run_id)


_STREAM_CHANGED = {"voice": "frames", "specaugment": "frames", "margins": "waveform"}


def _tell_of_idle(job: Job) -> None:
    """Say which changes of batches, where augment was asked for, meet nothing of what is read."""
    augment, reads = job.cfg.augment, job.model.reads
    asked = [part for part in _STREAM_CHANGED if augment.batch[part]]
    idle = [f"augment.batch.{part}" for part in asked if _STREAM_CHANGED[part] not in reads]
    if idle and not augment.copies:
        told = "%s: without effect, since model=%s reads %s"
        log.warning(told, " and ".join(idle), job.cfg.model.name, " and ".join(sorted(reads)))


_ROOT = "dataset.root="
_BESIDE_RESUME = ("resume=", "runs_root=", "cache_root=", "data_root=", "logger", "hydra", _ROOT)


def _check_beside_resume(overrides: Sequence[str]) -> None:
    for word in overrides:
        if not word.startswith(_BESIDE_RESUME):
            raise SerError(
                f"{word} beside resume=: a run is gone on with under its own options. Drop it, or "
                "start a new run. dataset.root=FOLDER says where its speech lies now."
            )


def _resume(asked: DictConfig, tracker: Tracker, moved: bool) -> float:
    """Go on with a run that was cut off; its speech may have `moved` to what dataset.root says."""
    folder = find_run(str(asked.resume), Path(asked.runs_root) / "runs", finished=False)
    state = folder.state()
    folder.check_config()
    cfg = OmegaConf.load(folder.config)
    assert isinstance(cfg, DictConfig)
    if state["status"] == "finished":
        if tracker.status(state["run_id"]) != "FINISHED":  # killed, or its disk full, in between
            tracker.log_folder(state["run_id"], folder.path)
            tracker.finish(state["run_id"], "FINISHED")
        folder.set_state(in_mlflow=True)
        log.info("%s has finished; its figures stand in metrics.json", folder.path)
        return folder.metrics().get(best_key(cfg), float("nan"))
    if moved:
        cfg.dataset.root = str(Path(asked.dataset.root).absolute())
    try:
        job = prepare(cfg)
    except OptionError as error:
        raise made_by_other_code(folder.path, error) from error
    if folder.last.is_file():
        check_front_end(folder.last, load_checkpoint(folder.last)["ser"], job.features)
    _check_same_speech(folder, tracker, state["run_id"], job.material)
    if moved:
        write_text(folder.config, OmegaConf.to_yaml(cfg))
    log.info("resuming %s", folder.path)
    return _work(job, folder, tracker, state["run_id"])


def _check_same_speech(
    folder: RunFolder, tracker: Tracker, run_id: str, material: Material
) -> None:
    old = tracker.client.get_run(run_id).data.tags["split_hash"]
    if old != material.split.digest:
        raise SerError(
            f"{folder.path}: the speech or its split has changed since this run began "
            f"(split hash {old[:12]}, now {material.split.digest[:12]}). A run is resumed on the "
            "very clips it began with: restore them, or start a new run."
        )


def _work(job: Job, folder: RunFolder, tracker: Tracker, run_id: str) -> float:
    """Features, training and scoring, inside the claimed folder; the MLflow run ends as it went."""
    try:
        with folder.claimed():
            with tracker.running(run_id):
                metrics = _train_or_fail(job, folder, tracker.logger(run_id))
                tracker.log_metrics(run_id, metrics)
                tracker.describe(run_id, headline(metrics))
                folder.write_metrics(metrics)
                card = load_checkpoint(folder.best)["ser"]
                parts = (job.cfg, job.material, job.model, job.features)
                write_model_card(*parts, folder, metrics, card)
                folder.set_state(status="finished", in_mlflow=False)
                tracker.log_folder(run_id, folder.path)
            folder.set_state(in_mlflow=True)
    except KeyboardInterrupt:
        log.warning("interrupted; go on with: python train.py resume=%s", folder.path)
        raise
    log.info("run folder  %s", folder.path)
    log.info("MLflow run  %s", run_id)
    return metrics[best_key(job.cfg)]


def _train_or_fail(job: Job, folder: RunFolder, logger: Any) -> dict[str, float]:
    """As `_train_and_score`; a mistake before the first epoch leaves nothing to go on with."""
    folder.set_state(status="running")
    try:
        return _train_and_score(job, folder, logger)
    except SerError:
        if not folder.last.is_file():
            folder.set_state(status="failed")
        raise


def best_key(cfg: DictConfig) -> str:
    """The metric of a run that is the monitored one, of the epoch that was kept."""
    return f"best/{cfg.monitor.metric.split('/')[-1].replace('loss', 'nll')}"


def _train_and_score(job: Job, folder: RunFolder, logger: Any) -> dict[str, float]:
    data = build_data(job.cfg, job.material, job.features)
    task, epochs = fit(job, data, folder, logger)
    scorer = build_trainer(job.cfg, [], False, precision="32-true")  # as evaluate.py scores
    return {"epochs": float(epochs)} | score_run(job, folder, task, data, scorer)


def score_run(
    job: Job,
    folder: RunFolder,
    task: EmotionClassifier,
    data: EmotionDataModule,
    trainer: pl.Trainer,
) -> dict[str, float]:
    """Score the kept epoch's checkpoint on validation, and once on test."""
    last = job.cfg.keep == "last" and task.model.trainable
    checkpoint = load_weights(task, folder.last if last else folder.kept)
    table, classes = job.material.speech.table, job.material.speech.classes
    metrics = {"best/kept_epoch": float(checkpoint["epoch"] + task.model.trainable)}  # from 1
    val = validation_answers(trainer, task, data, table, classes)
    calibrated = calibrate(val, classes, OmegaConf.select(job.cfg, "abstain.target_accuracy"))
    val = at_temperature(val, classes, calibrated.temperature)
    metrics |= figures_of(val, classes, "best") | calibrated.figures()
    write_table(val, folder.path / "validation_predictions.parquet")
    if job.cfg.get("refit", False) and task.model.trainable:  # runs of before have no refit
        task = fit_again(job, task, folder, checkpoint["epoch"] + 1)
    elif task.model.refits:
        task.model.refit(lambda: chain(data.in_order("train"), data.in_order("val")))
    checkpoint["ser"] = task.card | calibrated.card()
    checkpoint["state_dict"] = task.state_dict()
    SafeCheckpointIO().save_checkpoint(checkpoint, folder.best)
    if not job.cfg.test:
        return metrics
    test = predict_clips(
        trainer, task, data.in_order("test"), table, classes, calibrated.temperature
    )
    metrics |= figures_of(test, classes, "test")
    abstaining = abstention_scores(test, calibrated.below)
    metrics |= {f"test/{key}": value for key, value in abstaining.items()}
    title = f"{job.title}, test"
    write_predictions(folder.path, test, classes, title, calibrated.below)
    log.info(
        "temperature %.2f from validation: calibration error (ECE) on test %.3f, without it %.3f",
        calibrated.temperature,
        metrics["test/ece"],
        metrics["test/ece_uncalibrated"],
    )
    counts = counts_of(test, classes)
    render_results(score_groups(test, classes), class_report(counts, classes), title, Console())
    return metrics


def tracker_of(cfg: DictConfig) -> Tracker:
    """The MLflow store of a configuration."""
    return Tracker(Path(cfg.runs_root), cfg.logger.experiment, cfg.logger.uri)


def run_tags(job: Job) -> dict[str, str]:
    """By what runs are found and compared: equal manifest and split hash, comparable figures."""
    cfg, speech, split = job.cfg, job.material.speech, job.material.split
    reads_encoder = any("encoder" in node for node in cfg.feature.values())
    return {
        "kind": "training",
        "model": cfg.model.name,
        "dataset": cfg.dataset.name,
        "corpora": ",".join(speech.corpora),
        "labels": cfg.dataset.labels,
        "split": split.name,
        "fold": str(split.fold),
        "n_folds": str(split.n_folds),
        "seed": str(cfg.seed),
        "encoder": cfg.encoder.name if reads_encoder else "none",
        "git_commit": git_commit(),
        "manifest": speech.fingerprint,
        "left_out": "; ".join(speech.left_out) or "none",
        "split_hash": split.digest,
        "enrolment": str(cfg.model.get("enrolment", 0)),  # unlabelled clips of each test speaker
        "shares_speakers": str(split.shares_speakers).lower(),
        "synthetic": str(speech.synthetic).lower(),
    }


def config_digest(cfg: DictConfig) -> str:
    """What identifies a recipe: every option but where things are stored."""
    options = {key: value for key, value in plain(cfg).items() if key not in UNFINGERPRINTED}
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
