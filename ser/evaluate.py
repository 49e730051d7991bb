"""Score a finished run again: on its own clips, or on another corpus."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from rich.console import Console

from ser.assemble import compute_features, voices_of
from ser.card_facts import SEEN, is_own
from ser.conditions import chosen_families, chosen_severities, conditions_of
from ser.config import CONF, plain
from ser.data import EmotionDataset, in_order
from ser.errors import SerError
from ser.features import Feature
from ser.metrics import class_report, counts_of
from ser.models.base import EmotionModel, check_choice
from ser.options import check_kinds, check_name
from ser.predict import Recognizer
from ser.quiet import quieten
from ser.recognizer import load_recognizer
from ser.report import part_markdown, render_results
from ser.robustness import babble_clips, score_robustness
from ser.run import tracker_of
from ser.run_folder import RunFolder, find_run, remove_parts, without_moment
from ser.scored_clips import ScoredClips, other_clips, own_clips
from ser.scoring import figures_of, predict_clips, write_predictions
from ser.whole_files import write_text

log = logging.getLogger(__name__)


class _Predictor(pl.LightningModule):
    """The predict step of training, around a model that is loaded for scoring only."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.model = recognizer.model

    def predict_step(self, batch: Any, batch_idx: int) -> tuple[torch.Tensor, ...]:
        return batch.index, batch.target, self.model(batch).float().softmax(1)


def _fitted_on_validation(model: EmotionModel, card: Mapping[str, Any]) -> str | None:
    """What of a checkpoint was fitted on the validation clips, in words."""
    if model.refits or card.get("refit", False):
        return "fitted again on train and validation together"
    return "fitted on all of validation" if model.calibrates else None


def evaluate(cfg: DictConfig, overrides: Sequence[str]) -> float:
    """Score the run's kept checkpoint; gives its UAR. `overrides` are as the user gave them."""
    quieten()
    check_kinds(cfg, overrides, CONF, "evaluate")
    _check_options(cfg)
    if cfg.robustness is not None:
        chosen_severities(cfg.robustness, plain(cfg)["severities"])  # a wrong one shows at once
        _against(cfg)
    checkpoint_path, folder = _find_checkpoint(cfg)
    recognizer = load_recognizer(checkpoint_path, cfg.encoder_path)
    card = dict(recognizer.card)
    if cfg.part == "val" and (how := _fitted_on_validation(recognizer.model, card)):
        raise SerError(
            f"part=val: {card['model']['name']} was {how} once its validation figures were taken; "
            "metrics.json has those as best/…."
        )
    own = cfg.get("dataset") is None
    name = folder.path.name if folder else checkpoint_path.stem
    clips = own_clips(cfg, folder, card) if own else other_clips(cfg, name, card, overrides)
    predictions = _predict(cfg, recognizer, clips, recognizer.features)
    part = cfg.part if own else "test"
    metrics = figures_of(predictions, recognizer.classes, part)
    metrics |= {f"{part}/{note.key}": float(note.clips) for note in clips.notes}
    counts = counts_of(predictions, recognizer.classes)
    shown = {key.removeprefix(f"{part}/"): value for key, value in metrics.items()}
    title = clips.title + (" (trained on SYNTHETIC SPEECH)" if card["synthetic"] else "")
    render_results(shown, class_report(counts, recognizer.classes), title, Console())
    if own and folder is not None:
        _compare_with_training(folder, metrics, cfg.part)
    target = _results_folder(cfg, folder, checkpoint_path)
    _tell_of_replaced(target, predictions)
    short = without_moment(title)  # as in the figures of training
    write_predictions(target.path, predictions, recognizer.classes, short, recognizer.abstain_below)
    report = target.path / "report.txt"
    notes = "".join(f"\n{note.text}\n" for note in clips.notes)
    write_text(report, report.read_text(encoding="utf-8") + notes)
    target.write_metrics(metrics)
    if cfg.robustness is not None:
        target = _robustness_folder(target)
        metrics |= _score_robustness(cfg, recognizer, clips, predictions, target, title)
        target.write_metrics(metrics)
    told = [title, *(note.text for note in clips.notes), part_markdown(metrics, part)]
    if cfg.robustness is not None:
        told.append(
            f"Mean UAR under the conditions {metrics['robustness/mean/uar']:.3f}; "
            "robustness.md among the artifacts has each."
        )
    _log_evaluation(cfg, card, metrics, target, checkpoint_path, told)
    log.info("evaluation folder  %s", target.path)
    return metrics[f"{part}/uar"]


def _check_options(cfg: DictConfig) -> None:
    """Refuse what cannot be before anything is read."""
    check_choice("part", cfg.part, ("test", "val"))
    check_choice("seen", cfg.seen, ("drop", "keep"))
    check_choice("device", cfg.device, ("auto", "cpu", "cuda"))
    if cfg.batch_size < 1:
        raise SerError(f"batch_size={cfg.batch_size}: it must be 1 or more.")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise SerError("device=cuda: torch finds no such GPU. device=auto takes what there is.")
    if cfg.get("dataset") is None:
        return
    for option, default in {"part": "test", "dataset_root": None}.items():
        if cfg[option] != default:
            raise SerError(
                f"{option}={cfg[option]} beside dataset={cfg.dataset.name}: it is for the run's "
                "own clips. Drop one of the two."
            )
    check_name("dataset.name", cfg.dataset.name)
    if is_own(str(cfg.dataset.name)):
        raise SerError(
            f"dataset.name={cfg.dataset.name}: the folder evaluations/{cfg.dataset.name} is for "
            "the run's own clips. Give this speech another name, as dataset.name=calls."
        )


def _find_checkpoint(cfg: DictConfig) -> tuple[Path, RunFolder | None]:
    """The checkpoint and, where it lies in one, its run folder."""
    path = Path(cfg.run)
    if path.is_file():
        inside = path.resolve().parent.parent
        return path, RunFolder(inside) if (inside / "config.yaml").is_file() else None
    folder = find_run(str(cfg.run), Path(cfg.runs_root) / "runs", finished=True)
    return folder.best, folder


def _predict(
    cfg: DictConfig, recognizer: Recognizer, clips: ScoredClips, features: Sequence[Feature]
) -> pd.DataFrame:
    """The clips' predictions from these features: the recognizer's own, or of degraded clips."""
    stores = compute_features(Path(cfg.cache_root), features, clips.table)
    dataset = EmotionDataset(clips.table, recognizer.classes, stores)
    trainer = pl.Trainer(
        accelerator=cfg.device if cfg.device != "cuda" else "gpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    loader = in_order(dataset, clips.batch_size)
    classes, temperature = recognizer.classes, recognizer.temperature
    predictor = _Predictor(recognizer)
    return predict_clips(trainer, predictor, loader, clips.table, classes, temperature)


def _score_robustness(
    cfg: DictConfig,
    recognizer: Recognizer,
    clips: ScoredClips,
    clean: pd.DataFrame,
    target: RunFolder,
    title: str,
) -> dict[str, float]:
    """Score the same clips under every condition asked for; table and figure go to `target`."""
    asked, before = plain(cfg), _against(cfg)
    babble = "babble" in chosen_families(asked["robustness"], list(asked["severities"]))
    voices = voices_of(babble_clips(clips.table, clips.speech) if babble else clips.table)
    return score_robustness(
        conditions_of(asked["robustness"], asked["severities"], voices),
        recognizer.features,
        lambda features: _predict(cfg, recognizer, clips, features),
        clean,
        recognizer.classes,
        target.path,
        f"{title}: robustness",
        before=before.path / "evaluations" / target.path.name if before else None,
    )


def _against(cfg: DictConfig) -> RunFolder | None:
    """The run that this one is held against."""
    if cfg.against is None:
        return None
    return find_run(str(cfg.against), Path(cfg.runs_root) / "runs", finished=True)


def _compare_with_training(folder: RunFolder, metrics: dict[str, float], part: str) -> None:
    """Say whether the figures are those that training logged."""
    prefix = "test" if part == "test" else "best"
    logged = folder.metrics() if (folder.path / "metrics.json").is_file() else {}
    now = {f"{prefix}/{key.split('/', 1)[1]}": value for key, value in metrics.items()}
    common = sorted(set(now) & set(logged))
    differ = [key for key in common if now[key] != logged[key]]
    if not common:
        log.info("training logged no figures on this part: nothing to compare with")
    elif differ:
        rows = ", ".join(f"{key} {logged[key]:.4f} then, {now[key]:.4f} now" for key in differ[:5])
        log.warning("%d of %d figures differ from training's: %s", len(differ), len(common), rows)
    else:
        log.info("all %d figures equal those that training logged", len(common))


def _results_folder(cfg: DictConfig, folder: RunFolder | None, checkpoint: Path) -> RunFolder:
    """Where an evaluation is kept: inside the run folder, or beside a lone checkpoint."""
    base = folder.path / "evaluations" if folder else checkpoint.with_suffix(".evaluations")
    seen = SEEN * (cfg.seen == "keep")
    target = base / (cfg.part if cfg.get("dataset") is None else f"{cfg.dataset.name}{seen}")
    target.mkdir(parents=True, exist_ok=True)
    remove_parts(target)
    return RunFolder(target)


def _tell_of_replaced(target: RunFolder, predictions: pd.DataFrame) -> None:
    """Say that figures of other speech under the same name are about to go."""
    if not target.predictions.is_file():
        return
    if set(target.read_predictions()["path"]).isdisjoint(predictions["path"]):
        log.warning(
            "warning: %s held figures of other clips, which are replaced: give each folder of "
            "speech a name of its own (dataset.name=calls)", target.path,
        )  # fmt: skip


def _robustness_folder(target: RunFolder) -> RunFolder:
    """`robustness` for the run's own test part; others say whose they are."""
    whose = "" if target.path.name == "test" else f"_{target.path.name}"
    folder = target.path.with_name(f"robustness{whose}")
    remove_parts(folder)
    return RunFolder(folder)


def _log_evaluation(
    cfg: DictConfig,
    card: dict[str, Any],
    metrics: dict[str, float],
    target: RunFolder,
    checkpoint: Path,
    told: Sequence[str],
) -> None:
    """A run of its own, headed by what is `told`, the title first; named without the moment.

    The clean clips of the own test part are in the training run already.
    """
    own = cfg.get("dataset") is None
    if own and cfg.robustness is None:
        return
    tracker = tracker_of(cfg)
    tags = {
        "kind": "evaluation",
        "model": card["model"]["name"],
        "dataset": ",".join(card["trained_on"]) if own else cfg.dataset.name,
        "robustness": str(cfg.robustness is not None).lower(),
        "seed": str(card["seed"]),
        "checkpoint": str(checkpoint.resolve()),
        "seen_speakers": cfg.seen,
        "synthetic": str(card["synthetic"]).lower(),
        "run_folder": str(target.path.resolve()),
    }
    what = "robustness" if cfg.robustness is not None else "evaluation"
    run_id = tracker.start(f"{what} {without_moment(told[0])}", tags)
    with tracker.running(run_id):
        tracker.describe(run_id, "\n\n".join(told))
        tracker.log_metrics(run_id, metrics)
        tracker.log_folder(run_id, target.path)
    log.info("MLflow run         %s", run_id)
