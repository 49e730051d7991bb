"""Which clips a run works on: corpora found, checked, and put on one set of classes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ser.corpora import CORPORA, find_corpora
from ser.corpora.base import Corpus, CorpusNotFoundError
from ser.errors import SerError
from ser.labels import classes_of, map_emotion
from ser.manifest import build_manifest, fingerprint, left_out, usable

log = logging.getLogger(__name__)

DEMO_NOTICE = (
    "SYNTHETIC SPEECH: the demo corpus is rendered by espeak-ng on this machine; "
    "its figures show that the code works and say nothing about accuracy on people"
)


@dataclass(frozen=True)
class Speech:
    """The usable clips of a run.

    `table` has the manifest's columns and `label`, the clip's class on the label set; its index
    is 0, 1, 2, … in the order of the ids. `fingerprint` is the manifest's, of these clips with
    these labels. `mapped` tells in sentences what the label set leaves out or merges, `left_out`
    how many files of a corpus have which problem.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    fingerprint: str
    synthetic: bool
    corpora: tuple[str, ...]
    mapped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def open_speech(
    *,
    source: str,
    root: Path,
    corpora: Sequence[str] | None,
    labels: str,
    strict: bool,
    cache_root: Path,
    progress: bool,
) -> Speech:
    """Find the corpora, decode and check every file once, and map emotions to the label set.

    `source` is `auto` (the corpora under `root`, else the demo corpus), `combined` (the corpora
    under `root`), `corpus` (the one of `corpora`, in `root` itself) or `demo`.
    Raises SerError when a corpus, a label set or a usable clip is missing.
    """
    found, synthetic = _locate(source, root, corpora, cache_root)
    manifest = build_manifest(found, cache_root / "manifests", strict=strict, progress=progress)
    clips = usable(manifest)
    names = tuple(sorted({corpus.name for corpus in found}))
    table, classes = label_clips(clips, labels)
    log_counts(table, classes)
    labelled = fingerprint(table.assign(emotion=table["label"]))
    mapped = tuple(_mapped(clips, labels))
    for sentence in mapped:
        log.info("%s", sentence)
    return Speech(table, classes, labelled, synthetic, names, mapped, left_out(manifest))


def _locate(
    source: str, root: Path, corpora: Sequence[str] | None, cache_root: Path
) -> tuple[list[Corpus], bool]:
    """The corpora to read, and whether they are synthetic."""
    for name in corpora or ():
        if name not in CORPORA:
            raise SerError(
                f"dataset.corpora names {name}, which no adapter reads; "
                f"known are {', '.join(sorted(CORPORA))}."
            )
    if source == "corpus" and not corpora:
        raise SerError(
            "dataset.corpora=null with dataset.source=corpus, which reads dataset.root by the "
            "rules of the corpora that are named. Name one, as dataset.corpora=[ravdess], drop the "
            "option, or choose dataset=combined, which takes what it finds."
        )
    if source == "corpus":
        return [CORPORA[name](root) for name in corpora or ()], False
    if source != "demo":
        found = find_corpora(root, corpora)
        if found:
            log.info("speech: %s, found under %s", ", ".join(sorted(found)), root)
            return [CORPORA[name](folder) for name, folder in found.items()], False
        if source == "combined":
            raise CorpusNotFoundError(
                f"dataset=combined found no corpus under {root.resolve()}. It looks for folders "
                f"named after {', '.join(sorted(corpora or CORPORA))}: put one there "
                "(`ser data download NAME`, `ser data list`), or point dataset.root or SER_DATA "
                "at the folder that holds them. dataset=demo needs no data."
            )
        log.info("dataset=auto: no corpus under %s, so the demo corpus is taken.", root)
    log.warning(DEMO_NOTICE)
    from ser.corpora.demo import render_demo

    folder = render_demo(cache_root / "demo", seed=0)
    return [CORPORA[name](path) for name, path in find_corpora(folder, corpora).items()], True


def label_clips(clips: pd.DataFrame, label_set: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Give each clip its class; clips whose emotion the set lacks are dropped."""
    if label_set == "native" and clips["corpus"].nunique() > 1:
        raise SerError(
            f"dataset.labels=native keeps one corpus's own classes, but "
            f"{', '.join(sorted(clips['corpus'].unique()))} are read together. "
            "Choose a common set: dataset.labels=seven, six or four."
        )
    label = clips["emotion"].map(lambda emotion: map_emotion(emotion, label_set))
    table = clips.assign(label=label)[label.notna()]
    if table.empty:
        raise SerError(
            f"dataset.labels={label_set} leaves no clip: the emotions read are "
            f"{', '.join(sorted(clips['emotion'].unique()))}. Choose dataset.labels=native."
        )
    table = table.sort_values("id").reset_index(drop=True)
    return table, classes_of(label_set, table["emotion"])


def _mapped(clips: pd.DataFrame, label_set: str) -> Iterator[str]:
    """What becomes of emotions that the label set lacks or merges, with the number of clips."""
    for (corpus, emotion), group in clips.groupby(["corpus", "emotion"]):
        label = map_emotion(str(emotion), label_set)
        if label is None:
            yield f"{corpus}: {len(group)} clips of {emotion} are left out: {label_set} lacks it"
        elif label != emotion:
            yield f"{corpus}: {len(group)} clips of {emotion} count as {label} on {label_set}"


def log_counts(table: pd.DataFrame, classes: Sequence[str]) -> None:
    """Log the clips of each corpus and class as a small table."""
    counts = pd.crosstab(table["corpus"], table["label"]).reindex(columns=list(classes))
    counts = counts.fillna(0).astype(int)
    counts["all"] = counts.sum(axis=1)
    if len(counts) > 1:
        counts.loc["all"] = counts.sum()
    log.info("clips by corpus and class:\n%s", counts.to_string())
