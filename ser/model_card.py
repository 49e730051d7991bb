"""MODEL_CARD.md of a run: what the model is, what it was measured on, and what follows from that.

After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing is written that was not
measured in the run, counted in its data, or stated by a corpus's publisher.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from ser.assemble import Material
from ser.card_facts import (
    abstention_text,
    calibration_text,
    encoder_facts,
    limits_of,
    robustness_text,
    sharing_text,
    size_of,
    subgroups_text,
    transfer_text,
)
from ser.corpora import CORPORA
from ser.features import Feature
from ser.metrics import METRIC_NAMES, METRICS, class_report, counts_of, split_groups
from ser.models.base import EmotionModel
from ser.report import GROUP_LABELS, class_markdown, markdown
from ser.run_folder import RunFolder
from ser.statistics import FEW_SPEAKERS, LEVEL, draw_clips, interval_of, metric_draws
from ser.whole_files import write_text

CARD = "MODEL_CARD.md"


def write_model_card(
    cfg: DictConfig,
    material: Material,
    model: EmotionModel,
    features: Sequence[Feature],
    folder: RunFolder,
    metrics: Mapping[str, float],
    card: Mapping[str, Any],
) -> Path:
    """Write the card of a scored run into its folder; gives the path.

    `card` is that of the checkpoint.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # Markdown for people: nothing in it is to be escaped
        loader=PackageLoader("ser"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    facts = (
        _identity(cfg, material, folder, card)
        | _network(cfg, model, features, metrics)
        | _data(material, Path(cfg.dataset.root), val_trained=model.refits or _again(cfg, model))
        | _results(cfg, material, model, folder, metrics)
    )
    text = environment.get_template("model_card.md").render(facts)
    path = folder.path / CARD
    write_text(path, _without_gaps(text))
    return path


def _without_gaps(text: str) -> str:
    """Never more than one empty line, and none between the items of a list."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line and lines and not lines[-1]:
            continue
        if line.startswith("- ") and len(lines) > 1 and not lines[-1] and lines[-2][:2] == "- ":
            lines.pop()
        lines.append(line.rstrip())
    return "\n".join(lines).strip() + "\n"


def _identity(
    cfg: DictConfig, material: Material, folder: RunFolder, card: Mapping[str, Any]
) -> dict[str, Any]:
    state = folder.state()
    unknown = "not recorded in the run folder"
    return {
        "name": folder.path.resolve().name,
        "synthetic": material.speech.synthetic,
        "classes": material.speech.classes,
        "labels": cfg.dataset.labels,
        "temperature": card.get("temperature"),
        "abstention": abstention_text(card),
        "folder": shlex.quote(str(folder.path.resolve())),
        "command": state.get("command", f"# {unknown}; the options are in config.yaml"),
        "commit": state.get("commit", unknown),
        "run_id": state["run_id"],
    }


def _network(
    cfg: DictConfig,
    model: EmotionModel,
    features: Sequence[Feature],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    epochs = "fitted in closed form or by a solver, without epochs"
    if model.trainable:
        old = metrics.get("best/epoch", 0) + 1  # runs of before counted from 0
        kept = metrics.get("best/kept_epoch", old)
        epochs = f"epoch {kept:.0f} of {metrics['epochs']:.0f} was kept"
    return {
        "model": cfg.model.name,
        "target": cfg.model._target_,
        "reads": sorted(model.reads),
        "adapts": model.adapts,
        "size": size_of(model),
        "fusion": cfg.model.get("fusion"),
        "refits": model.refits,
        "calibrates": model.calibrates,
        "again": _again(cfg, model),
        "encoders": encoder_facts(cfg, model, features),
        "seed": cfg.seed,
        "epochs": epochs,
    }


def _again(cfg: DictConfig, model: EmotionModel) -> bool:
    """Whether the network was trained anew on train and validation together."""
    return model.trainable and bool(cfg.get("refit", False))  # runs of before have no refit


def _data(material: Material, root: Path, *, val_trained: bool) -> dict[str, Any]:
    table, split = material.speech.table, material.split
    rows, corpora = [], []
    for name, clips in table.groupby("corpus"):
        for part, ids in split.parts.items():
            mine = clips[clips["id"].isin(ids)]
            rows.append(
                {
                    "corpus": name,
                    "part": part,
                    "clips": f"{len(mine):,}",
                    "speakers": str(mine["speaker"].nunique()),
                    "hours": f"{mine['duration_s'].sum() / 3600:.2f}",
                    "women / men": _sexes(mine),
                }
            )
        corpora.append(_corpus(str(name), root, clips, material.speech.synthetic))
    return {
        "data_table": markdown(pd.DataFrame(rows)),
        "corpora": corpora,
        "notes": (*material.speech.left_out, *material.speech.mapped),
        "split": {
            "name": split.name,
            "fold": split.fold,
            "n_folds": split.n_folds,
            "digest": split.digest,
            "sharing": sharing_text(table, split),
        },
        "manifest": material.speech.fingerprint,
        "limits": limits_of(table, split, material.speech.synthetic, val_trained=val_trained),
    }


def _sexes(clips: pd.DataFrame) -> str:
    people = clips.drop_duplicates("speaker")["sex"]
    unknown = int(people.isna().sum())
    known = f"{int((people == 'female').sum())} / {int((people == 'male').sum())}"
    return known + (f", {unknown} unknown" if unknown else "")


def _corpus(name: str, root: Path, clips: pd.DataFrame, synthetic: bool) -> dict[str, str]:
    corpus = CORPORA[name](root)
    languages = ", ".join(sorted(clips["language"].dropna().unique())) or "unknown"
    if synthetic:
        return {
            "title": f"demo corpus in the layout of {corpus.title}",
            "recording": "spoken by espeak-ng",
            "languages": languages,
            "licence": "rendered on this machine, no recording of a person",
            "citation": "",
        }
    return {
        "title": corpus.heading,
        "recording": corpus.recording or "how the emotions came about is not known",
        "languages": languages,
        "licence": corpus.licence,
        "citation": corpus.citation,
    }


def _results(
    cfg: DictConfig,
    material: Material,
    model: EmotionModel,
    folder: RunFolder,
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "figures_table": "",
        "figure_notes": [],
        "class_table": "",
        "level": f"{100 * LEVEL:.0f}",
        "validation": _validation(cfg, model, metrics),
        "calibration": calibration_text(metrics),
        "subgroups": subgroups_text(folder.path),
        "robustness": robustness_text(folder.path),
        "transfer": transfer_text(folder.path),
    }
    if "test/uar" not in metrics:
        return facts
    predictions, classes = folder.read_predictions(), material.speech.classes
    counts = counts_of(predictions, classes)
    return facts | {
        "figures_table": figures_table(predictions, classes),
        "figure_notes": [*_enrolled(cfg, model), *_notes(predictions)],
        "class_table": class_markdown(class_report(counts, classes)),
    }


def _validation(cfg: DictConfig, model: EmotionModel, metrics: Mapping[str, float]) -> str:
    figures = f"UAR {metrics['best/uar']:.3f}, WAR {metrics['best/war']:.3f} on "
    figures += f"{metrics['best/clips']:.0f} clips."
    if model.trainable and cfg.get("keep", "best") == "best":  # runs of before have no keep
        return f"On validation, which chose the checkpoint: {figures} Too good to quote for that."
    return f"On validation: {figures}"


def figures_table(predictions: pd.DataFrame, classes: Sequence[str]) -> str:
    """UAR, WAR and macro F1 with intervals, of all clips and by corpus and sex, in Markdown."""
    parts = list(split_groups(predictions))
    groups = [(GROUP_LABELS.get(name, name.replace("/", " ")), clips) for name, clips in parts]
    groups = [part for part in groups if len(part[1]) < len(predictions)]  # not all clips again
    rows = []
    for name, clips in [("all clips", predictions), *groups]:
        counts = counts_of(clips, classes)
        weights = draw_clips(clips)
        row = {"": name, "clips": f"{len(clips):,}", "speakers": str(clips["speaker"].nunique())}
        for key, metric in METRICS.items():
            low, high = interval_of(metric_draws(weights, clips, classes, metric))
            row[METRIC_NAMES[key]] = f"{metric(counts):.3f} [{low:.3f}, {high:.3f}]"
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def _enrolled(cfg: DictConfig, model: EmotionModel) -> list[str]:
    if not model.adapts:
        return []
    return [
        f"It was adapted to each test speaker by clips of theirs (`model.enrolment="
        f"{cfg.model.enrolment}`), whose labels it did not read and which are scored too: a "
        "protocol of its own, not to be compared with figures made otherwise."
    ]


def _notes(predictions: pd.DataFrame) -> list[str]:
    """What a reader of the figures must know, where it applies to these."""
    groups = [predictions, *(clips for _, clips in split_groups(predictions))]
    speakers = [clips["speaker"].nunique() for clips in groups]
    notes = ["Where a group lacks some of the emotions, its UAR is the mean over those it has."]
    if speakers[0] == 1:
        notes.append(
            "There is one test speaker: the intervals tell how the figures vary over clips of this "
            "speaker, and nothing of other speakers."
        )
    elif min(speakers) <= FEW_SPEAKERS:
        notes.append(
            f"Intervals from {FEW_SPEAKERS} speakers or fewer are too narrow to stand for others."
        )
    if any((clips["truth"] == clips["prediction"]).all() for clips in groups):
        notes.append("An interval around 1.000 has no width since no draw holds a mistake.")
    return notes
