"""Probes kept on disk, so that no file is decoded twice."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from ser.probe import PROBE_VERSION, Probe, probe_file
from ser.tables import DAMAGED, read_table, write_table

_Key = tuple[str, int, int]
"""(absolute path, size in bytes, modification time in ns): a changed file is another file."""

_KEY_COLUMNS = ["path", "size_bytes", "mtime_ns"]
_PROBE_COLUMNS = [field.name for field in fields(Probe)]
_SAVE_EVERY = 500
"""Files between two writes: what a run that is killed may have to decode again."""

_log = logging.getLogger(__name__)


class ProbeCache:
    """One Parquet file of probes in a folder.

    It is replaced whole and never written in place, under a lock and merged with what another run
    has added: a killed run leaves a readable file, and two runs at once lose nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the probes in `folder`, which is made when there is something to keep."""
        self.path = Path(folder) / f"probes_{PROBE_VERSION}.parquet"

    def probe(self, paths: Sequence[Path], *, progress: bool) -> tuple[dict[Path, Probe], int]:
        """Probe every path, reading only files that are new or changed.

        Returns the probes by path, and how many files were decoded.
        """
        known = self._read()
        keys = {path: _key(path) for path in paths}
        new = [path for path in keys if keys[path] not in known]
        fresh: dict[_Key, Probe] = {}
        for path, probe in _probe_all(new, progress=progress):
            fresh[keys[path]] = probe
            if len(fresh) % _SAVE_EVERY == 0:
                self._merge(fresh)
        if fresh:
            self._merge(fresh)
        known |= fresh
        return {path: known[key] for path, key in keys.items()}, len(new)

    def _read(self) -> dict[_Key, Probe]:
        if not self.path.is_file():
            return {}
        try:
            table = read_table(self.path)
            keys = table[_KEY_COLUMNS].itertuples(index=False, name=None)
            probes = table[_PROBE_COLUMNS].itertuples(index=False, name=None)
            return {key: Probe(*probe) for key, probe in zip(keys, probes, strict=True)}
        except DAMAGED as error:
            _log.warning("%s cannot be read (%s): decoding the audio again", self.path, error)
            return {}

    def _merge(self, fresh: dict[_Key, Probe]) -> None:
        """Add probes to the file, dropping those of earlier states of the same paths."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            for left in self.path.parent.glob(f"{self.path.name}.*.part"):  # by a killed run
                left.unlink()
            renewed = {path for path, _, _ in fresh}
            kept = {key: probe for key, probe in self._read().items() if key[0] not in renewed}
            rows = [
                {**dict(zip(_KEY_COLUMNS, key, strict=True)), **asdict(probe)}
                for key, probe in (kept | fresh).items()
            ]
            write_table(pd.DataFrame(rows), self.path)


def _key(path: Path) -> _Key:
    try:
        status = path.stat()
    except OSError:  # a dangling link or a file removed since it was listed: probing reports it
        return str(path.absolute()), -1, -1
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _probe_all(paths: Sequence[Path], *, progress: bool) -> Iterator[tuple[Path, Probe]]:
    """Probe files side by side: libsndfile and hashing let other threads run."""
    workers = os.cpu_count() or 1
    console = Console(stderr=True)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        results = zip(paths, pool.map(probe_file, paths), strict=True)
        yield from track(
            results,
            description="Reading audio",
            total=len(paths),
            console=console,
            disable=not (progress and paths and console.is_terminal),
        )
