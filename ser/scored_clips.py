"""Which clips an evaluation scores: the run's own, or another corpus's; and what is left out."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from ser.assemble import HASH_DIGITS, material_of_run, speech_of
from ser.errors import SerError
from ser.labels import map_emotion
from ser.report import counted
from ser.run_folder import RunFolder
from ser.whole_files import write_text

log = logging.getLogger(__name__)


class Note(NamedTuple):
    """Clips that were left out, or scored although the model knows them."""

    key: str  # of their number among the figures, after the part: `left_out/heard`
    clips: int
    text: str


class ScoredClips(NamedTuple):
    """What is scored."""

    table: pd.DataFrame
    speech: pd.DataFrame  # all clips at hand, of which these are some
    batch_size: int
    title: str
    notes: tuple[Note, ...] = ()


def own_clips(cfg: DictConfig, folder: RunFolder | None, card: dict[str, Any]) -> ScoredClips:
    """The clips of the run's own split part, checked to be the very ones."""
    if folder is None:
        raise SerError(
            f"{cfg.run} lies outside a run folder, so its own test clips are not known. "
            "Say what to score it on: dataset=NAME dataset.root=FOLDER."
        )
    own, material = material_of_run(folder, card["split_hash"], cfg.dataset_root)
    if cfg.dataset_root is not None:
        write_text(folder.config, OmegaConf.to_yaml(own))  # `ser explain` finds it there, too
    ids = material.split.parts[cfg.part]
    table = material.speech.table
    title = f"{folder.path.name}, {cfg.part}"
    return ScoredClips(table[table["id"].isin(ids)], table, own.loader.batch_size, title)


def other_clips(
    cfg: DictConfig, name: str, card: dict[str, Any], overrides: Sequence[str]
) -> ScoredClips:
    """Every clip of another corpus on the model's classes, less what the model `name` knows."""
    asked = [word for word in overrides if word.startswith("dataset.labels=")]
    if asked and asked[0] != f"dataset.labels={card['labels']}":
        raise SerError(
            f"{asked[0]}: the checkpoint {cfg.run} was trained on label set {card['labels']} "
            f"({', '.join(card['classes'])}), and can be scored on that only. "
            f"Drop {asked[0]}, or train a model on that label set."
        )
    if card["labels"] == "native" and cfg.dataset.source != "corpus":
        raise SerError(
            f"dataset={cfg.dataset.name}: the checkpoint {cfg.run} knows the classes of "
            f"{', '.join(card['trained_on'])} alone (it was trained with dataset.labels=native), "
            "and several corpora need not have them in common. Score it on one corpus at a "
            "time: dataset=NAME dataset.root=FOLDER. To score several together, train on a "
            "common set: dataset.labels=seven, six or four."
        )
    cfg.dataset.labels = "native" if cfg.dataset.source == "corpus" else card["labels"]
    speech = speech_of(cfg)
    table = speech.table
    label = table["emotion"].map(
        lambda e: e if card["labels"] == "native" else map_emotion(e, card["labels"])
    )
    known = label.isin(card["classes"])
    notes = []
    for emotion, clips in table[~known].groupby("emotion"):
        left = f"{counted(len(clips), 'clip')} of {emotion} {'is' if len(clips) == 1 else 'are'}"
        text = f"{left} left out: the model has no such class."
        notes.append(Note(f"left_out/{emotion}", len(clips), text))
        log.info(text)
    table = table.assign(label=label)[known]
    if table.empty:
        raise SerError(
            f"{cfg.run} knows {', '.join(card['classes'])}; {cfg.dataset.name} has none of these "
            f"(it has {', '.join(speech.classes)}). A checkpoint can be scored only on classes "
            "that it was trained on: choose another corpus or checkpoint."
        )
    scored, known_ones = _without_known(cfg, table, card)
    title = f"{name} on {cfg.dataset.name}"
    if len(scored) == len(table) and known_ones:
        title += ", known speakers too"
    return ScoredClips(scored, table, cfg.batch_size, title, (*notes, *known_ones))


def _without_known(
    cfg: DictConfig, table: pd.DataFrame, card: dict[str, Any]
) -> tuple[pd.DataFrame, list[Note]]:
    """The clips less those that the model knows, unless they are asked for; and what is said."""
    heard = card.get("clips", [])  # cards of before have none
    known = table["speaker"].isin(card["speakers"]) | table["sha256"].str[:HASH_DIGITS].isin(heard)
    if not known.any():
        return table, []
    what = (
        f"{known.sum():,} of {len(table):,} clips are of speakers that the model was trained on, "
        "or the very recordings"
    )
    if cfg.seen == "keep":
        text = f"{what}; they are scored too (seen=keep), so the figures are too good."
        log.warning(text)
        return table, [Note("heard", int(known.sum()), text)]
    if known.all():
        raise SerError(
            f"{cfg.dataset.name}: all {len(table)} clips are of speakers that the model was "
            "trained on, or the very recordings, so a score would be too good. Choose other clips, "
            "or seen=keep to score them all the same."
        )
    text = f"{what}; they are left out (seen=keep scores them too)."
    log.warning(text)
    return table[~known], [Note("left_out/heard", int(known.sum()), text)]
