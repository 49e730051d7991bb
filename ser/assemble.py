"""From options to objects: speech, split, features, batches and the network of one run."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from ser.augment import Augmented
from ser.babble import Voices
from ser.cache import Clip, FeatureCache
from ser.config import build, plain, settle_encoder
from ser.corpora.base import CorpusNotFoundError
from ser.data import EmotionDataModule
from ser.errors import SerError
from ser.features import Feature
from ser.models.base import EmotionModel
from ser.report import clips_and_speakers
from ser.run_folder import RunFolder
from ser.shards import FeatureStore
from ser.speech import Speech, open_speech
from ser.splits import Split, check_classes
from ser.tracking import flatten

log = logging.getLogger(__name__)

HASH_DIGITS = 16  # of a recording's hash, in a card


@dataclass(frozen=True)
class Material:
    """What a run works on, before any feature is computed."""

    speech: Speech
    split: Split


def open_material(cfg: DictConfig) -> Material:
    """Speech and split of a configuration, checked; also settles encoder=auto in it."""
    speech = speech_of(cfg)
    settle_encoder(cfg, speech.synthetic)
    split: Split = build(cfg.split).split(speech.table)
    check_classes(split, speech.table, speech.classes)
    rows = {part: speech.table["id"].isin(ids) for part, ids in split.parts.items()}
    sizes = ", ".join(
        f"{part} {clips_and_speakers(speech.table[mine])}" for part, mine in rows.items()
    )
    log.info("split=%s, fold %d of %d: %s", split.name, split.fold, split.n_folds, sizes)
    if split.shares_speakers:
        log.warning("split=%s shares speakers between train and test.", split.name)
    return Material(speech, split)


def material_of_run(
    folder: RunFolder, split_hash: str, root: str | None = None
) -> tuple[DictConfig, Material]:
    """A run's own configuration and speech, checked to be the very clips it was trained on.

    `root` is where the speech lies now, if it was moved; `split_hash` that of the checkpoint.
    """
    folder.check_config()
    own = OmegaConf.load(folder.config)
    assert isinstance(own, DictConfig)
    if root is not None:
        own.dataset.root = str(Path(root).absolute())
    try:
        material = open_material(own)
    except CorpusNotFoundError as error:
        raise SerError(
            f"{folder.path}: its speech is not where it lay. {error} For this run say where: "
            f"python evaluate.py run={folder.path} dataset_root=FOLDER."
        ) from error
    if material.split.digest != split_hash:
        raise SerError(
            f"{folder.path}: the speech under {own.dataset.root} or its split has changed since "
            "training, so its clips are no longer known. Restore it, or score another corpus: "
            "python evaluate.py run=RUN dataset=NAME dataset.root=FOLDER."
        )
    return own, material


def speech_of(cfg: DictConfig) -> Speech:
    """The usable clips that `cfg.dataset` names."""
    dataset = cfg.dataset
    return open_speech(
        source=dataset.source,
        root=Path(dataset.root),
        corpora=dataset.corpora,
        labels=dataset.labels,
        strict=dataset.strict,
        cache_root=Path(cfg.cache_root),
        progress=True,
    )


def build_features(cfg: DictConfig) -> list[Feature]:
    """The front-end: one feature for each stream."""
    return [build(node) for node in cfg.feature.values()]


def compute_features(
    cache_root: Path, features: Sequence[Feature], table: pd.DataFrame
) -> dict[str, list[FeatureStore]]:
    """Every stream of these clips, from the cache where it has them."""
    cache = FeatureCache(cache_root / "features")
    workers = os.cpu_count() or 1
    return {
        feature.stream: [cache.ensure(feature, clips_of(table), workers=workers, progress=True)]
        for feature in features
    }


def compute_copies(
    cfg: DictConfig, features: Sequence[Feature], table: pd.DataFrame
) -> dict[str, list[FeatureStore]]:
    """The augmented copies of these clips: `augment.copies` stores of each chosen stream."""
    augment = build(cfg.augment.waveform)
    if hasattr(augment, "with_voices"):
        augment = augment.with_voices(voices_of(table))
    chosen = [feature for feature in features if feature.stream in cfg.augment.streams]
    copies: dict[str, list[FeatureStore]] = {feature.stream: [] for feature in chosen}
    for copy in range(cfg.augment.copies):
        augmented = [Augmented(feature, augment, copy) for feature in chosen]
        for stream, stores in compute_features(Path(cfg.cache_root), augmented, table).items():
            copies[stream] += stores
    return copies


def voices_of(table: pd.DataFrame) -> Voices:
    """The clips of a table as the pool that babble is mixed from."""
    paths = {
        sha256: Path(path) for sha256, path in zip(table["sha256"], table["path"], strict=True)
    }
    return Voices(paths, dict(zip(table["sha256"], table["speaker"], strict=True)))


def clips_of(table: pd.DataFrame) -> list[Clip]:
    """The clips of a table, as the cache asks for them."""
    columns = (table[name] for name in ("path", "sha256", "duration_s"))
    return [
        Clip(Path(path), sha256, float(duration_s))
        for path, sha256, duration_s in zip(*columns, strict=True)
    ]


def build_data(
    cfg: DictConfig, material: Material, features: Sequence[Feature]
) -> EmotionDataModule:
    """Batches of the split, features computed where the cache lacks them."""
    speech, split = material.speech, material.split
    stores = compute_features(Path(cfg.cache_root), features, speech.table)
    if cfg.augment.copies:
        trained = speech.table[speech.table["id"].isin(split.train)]
        for stream, copies in compute_copies(cfg, features, trained).items():
            stores[stream] += copies
    return EmotionDataModule(
        speech.table,
        speech.classes,
        split,
        stores,
        batch_size=cfg.loader.batch_size,
        pool_batches=cfg.loader.pool_batches,
        imbalance=cfg.loss.imbalance,
        corpora=dict(cfg.loss.corpora or {}),
        seed=cfg.seed,
    )


def build_model(model: Any, features: Sequence[Feature], classes: Sequence[str]) -> EmotionModel:
    """The network of `cfg.model` for these features and classes."""
    options = {key: value for key, value in plain(model).items() if key != "name"}
    streams = {feature.stream: feature.shape() for feature in features}
    built: EmotionModel = build(options, n_classes=len(classes), streams=streams)
    return built


def card_of(cfg: DictConfig, material: Material, features: Sequence[Feature]) -> dict[str, Any]:
    """What inference needs beside the weights, as plain values: it travels in the checkpoint."""
    options = plain(cfg)
    table, split = material.speech.table, material.split
    heard = table[table["id"].isin(split.train + split.val)]
    return {
        "speakers": sorted(heard["speaker"].unique()),
        "clips": sorted(heard["sha256"].str[:HASH_DIGITS]),
        "classes": list(material.speech.classes),
        "labels": cfg.dataset.labels,
        "feature": options["feature"],
        "front_end": [feature.settings() for feature in features],
        "model": _with_forms(options["model"]),
        "trained_on": list(material.speech.corpora),
        "synthetic": material.speech.synthetic,
        "manifest": material.speech.fingerprint,
        "split": split.name,
        "fold": split.fold,
        "split_hash": split.digest,
        "seed": cfg.seed,
    }


def _with_forms(node: Any) -> Any:
    """A model's options, of an encoder that is trained its form: the checkpoint has its weights."""
    if not isinstance(node, dict):
        return node
    node = {key: _with_forms(value) for key, value in node.items()}
    if node.get("finetune", "none") != "none" and "path" in node["encoder"]:
        node["encoder"] = build(node["encoder"]).form.options()
    return node


def check_front_end(path: Path, card: Mapping[str, Any], features: Sequence[Feature]) -> None:
    """End where these features would not give the numbers that the checkpoint was trained on."""
    now = [feature.settings() for feature in features]
    for then, settings in zip(card.get("front_end", now), now, strict=True):  # old cards lack it
        old, new = flatten(then), flatten(settings)
        # a hub's commit and a folder's hashes cannot be compared
        elsewhere = "encoder.repo" in old.keys() ^ new.keys()
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key) and not (elsewhere and key.startswith("encoder.")):
                raise SerError(
                    f"{path} was trained on {old['class']} with {key}={old.get(key)}, here it is "
                    f"{new.get(key)}: its answers would not be those that were measured. Take the "
                    "encoder or the version of this code that it was trained with (run.json has "
                    "its commit), or train again."
                )
