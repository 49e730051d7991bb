"""Extracted features on disk: each clip's feature is computed once, whoever asks.

One folder a feature, named after its class and the hash of its settings; inside, shards: a `.bin`
of values laid end to end and a `.json` index that says which clip lies where. A clip is known by
the content hash of its samples, so the same recording in two corpora is computed once. A shard
exists once its index does, and the index is written last: a run that is killed loses at most its
last seconds, and what it half wrote is removed by the next run that extracts. Values are verified
when a run asks for them, and clips whose values are damaged are computed again.
"""

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ser.audio import load_waveform
from ser.errors import SerError
from ser.features.base import Array, Feature
from ser.shards import FeatureStore, sweep, write_shard
from ser.whole_files import write_text

_log = logging.getLogger(__name__)

_COMMIT_S = 5.0
"""A shard is written after the first chunk that ends so long after the last one was: with the
chunks that are being computed, what a killed run can lose."""
_COMMIT_BYTES = 64 * 2**20
"""... or when it holds this much: what a run keeps in memory."""
_CHUNK_S = 30.0
"""Seconds of speech that a worker takes at a time."""
_CHUNK_CLIPS = 32


@dataclass(frozen=True, slots=True)
class Clip:
    """What the cache needs to know of a clip; sha256 is that of the decoded samples."""

    path: Path
    sha256: str
    duration_s: float


class FeatureCache:
    """A folder of feature folders; safe to share between runs at the same time."""

    def __init__(self, folder: Path) -> None:
        """Use this folder, which is made when something is first stored."""
        self.folder = folder

    def folder_of(self, feature: Feature) -> Path:
        """The folder of one feature: its class and 16 digits of its settings' hash."""
        settings = feature.settings()
        try:
            text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        except TypeError as error:
            raise SerError(
                f"{type(feature).__name__}.settings() = {settings} is no JSON ({error}), and the "
                "cache is keyed by it. Give plain values, such as int(x) of a NumPy number."
            ) from error
        return self.folder / f"{settings['class']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def ensure(
        self, feature: Feature, clips: Sequence[Clip], *, workers: int, progress: bool
    ) -> FeatureStore:
        """Compute what is missing and return the store, which then holds every clip asked for.

        Args:
            feature: what to compute; it is not called for clips that are stored.
            clips: in any order; clips of the same content are computed once.
            workers: threads, each with single-threaded torch operations.
            progress: show a progress bar, where there is a terminal to show it on.

        Raises:
            SerError: a clip cannot be read, or its feature is not finite; it names the file. What
                was computed until then is kept.
        """
        folder = self.folder_of(feature)
        wanted = {clip.sha256: clip for clip in clips}
        store = _open(folder, feature, wanted)
        missing = _missing(store, wanted)
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(folder):
                sweep(store := _open(folder, feature, wanted))
                missing = _missing(store, wanted)
                if missing:
                    _fill(folder, feature, missing, workers, progress)
            store = FeatureStore(folder, feature.dtype)
        _report(folder, feature, list(wanted.values()), len(missing))
        return store


def _open(folder: Path, feature: Feature, wanted: dict[str, Clip]) -> FeatureStore:
    """The folder's store, without the damaged shards of the clips asked for."""
    store = FeatureStore(folder, feature.dtype)
    store.verify(wanted)
    return store


def _missing(store: FeatureStore, wanted: dict[str, Clip]) -> list[Clip]:
    return [clip for sha256, clip in wanted.items() if sha256 not in store]


def _report(folder: Path, feature: Feature, clips: list[Clip], computed: int) -> None:
    _log.info(
        "%s: %d clips reused, %d computed (%s)", folder.name, len(clips) - computed, computed,
        folder.parent,
    )  # fmt: skip
    summary = feature.summary(len(clips), sum(clip.duration_s for clip in clips))
    if summary and computed:
        _log.info("%s", summary)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One extraction at a time in a folder; the system frees the lock of a process that dies."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("%s: another run is extracting; waiting for it", folder.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fill(folder: Path, feature: Feature, clips: list[Clip], workers: int, progress: bool) -> None:
    """Extract the clips, writing a shard every few seconds and whatever happens at the end."""
    settings = json.dumps(feature.settings(), indent=2, sort_keys=True)
    write_text(folder / "settings.txt", settings)
    shard: dict[str, Array] = {}
    size, started = 0, time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)  # in a file a bar leaves blank lines
    bar = Progress(
        TextColumn(folder.name), *columns, console=console, disable=hidden, transient=True
    )
    try:
        with bar:
            task = bar.add_task(folder.name, total=len(clips))
            for chunk, features in _extract(feature, clips, workers):
                for clip, values in zip(chunk, features, strict=True):
                    # a copy: what a worker made lies among the large arrays that it has freed, and
                    # keeps the system from having them back (450 KB a clip of MFCC)
                    shard[clip.sha256] = values.copy()
                    size += values.nbytes
                bar.advance(task, len(chunk))
                if size > _COMMIT_BYTES or time.monotonic() - started > _COMMIT_S:
                    write_shard(folder, shard)
                    shard, size, started = {}, 0, time.monotonic()
    finally:
        feature.release()
        if shard:
            write_shard(folder, shard)


def _extract(
    feature: Feature, clips: list[Clip], workers: int
) -> Iterator[tuple[list[Clip], list[Array]]]:
    """Chunks with their features, longest first; a few chunks ahead of the consumer at most."""
    chunks = iter(_chunks(sorted(clips, key=lambda clip: (-clip.duration_s, clip.sha256))))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    threads = torch.get_num_threads()
    pending: deque[tuple[list[Clip], Future[list[Array]]]] = deque()
    try:
        while True:
            for chunk in islice(chunks, 2 * workers - len(pending)):
                pending.append((chunk, pool.submit(_extract_chunk, feature, chunk)))
            if not pending:
                return
            chunk, future = pending.popleft()
            yield chunk, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _chunks(clips: list[Clip]) -> Iterator[list[Clip]]:
    """Neighbours in length, up to _CHUNK_S seconds and _CHUNK_CLIPS clips (at least one)."""
    chunk: list[Clip] = []
    for clip in clips:
        duration_s = sum(other.duration_s for other in chunk) + clip.duration_s
        if chunk and (duration_s > _CHUNK_S or len(chunk) == _CHUNK_CLIPS):
            yield chunk
            chunk = []
        chunk.append(clip)
    if chunk:
        yield chunk


def _extract_chunk(feature: Feature, clips: list[Clip]) -> list[Array]:
    rate = feature.sample_rate_hz
    waveforms = [load_waveform(clip.path, rate, many=True) for clip in clips]
    features = feature.extract(waveforms, [clip.sha256 for clip in clips])
    _check_arrays(feature, clips, features)
    return [np.ascontiguousarray(values, dtype=feature.dtype) for values in features]


def _check_arrays(feature: Feature, clips: list[Clip], features: list[Array]) -> None:
    """Refuse what is not as the feature says: once written, it would be read for good."""
    name, inner = feature.settings()["class"], ", ".join(map(str, feature.shape()))
    if len(features) != len(clips):
        raise SerError(
            f"{name}.extract gave {len(features)} arrays for {len(clips)} clips: it must give one "
            "a clip, in the same order."
        )
    timeless = feature.stream.startswith("embedding")
    wanted = f"({inner})" if timeless else f"(time, {inner})" if inner else "(time,)"
    for clip, values in zip(clips, features, strict=True):
        fits = isinstance(values, np.ndarray) and len(values) > 0
        fits = fits and values.shape[0 if timeless else 1 :] == feature.shape()
        if not (fits and np.can_cast(values.dtype, feature.dtype, "same_kind")):
            shape, dtype = (getattr(values, key, "unknown") for key in ("shape", "dtype"))
            raise SerError(
                f"{name}.extract gave {clip.path} a {type(values).__name__} of shape {shape} and "
                f"type {dtype}, but its stream {feature.stream} and its shape() ask for a NumPy "
                f"array {wanted} of {np.dtype(feature.dtype)}. Mend one or the other."
            )
        if not np.isfinite(values).all():
            raise SerError(
                f"{clip.path}: its feature {name} holds values that are not finite in "
                f"{np.dtype(feature.dtype)}. Listen to the file; if it is broken, remove it and "
                f"list the corpus again. If it sounds right, mend {name}.extract."
            )
