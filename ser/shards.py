"""Shards of features on disk: values laid end to end, and an index that makes them exist.

A shard is a `.bin` and a `.json` of the same name. The index, with its own checksum and the data's
size and CRC-32, is written after the data, so a shard is there whole or not at all.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.features.base import Array
from ser.whole_files import replacing

log = logging.getLogger(__name__)

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip's values lie: shard, first element, shape."""

    shard: Path
    start: int
    shape: tuple[int, ...]


class FeatureStore:
    """The features of one folder by content hash, read through memory maps.

    A view is writable and private to the process (copy on write): nothing reaches the file.
    """

    def __init__(self, folder: Path, dtype: type[np.floating]) -> None:
        """Read every whole shard's index; damaged shards are listed in `damaged`."""
        self.folder = folder
        self.damaged: dict[Path, str] = {}
        self._dtype = np.dtype(dtype)
        self._places: dict[str, _Place] = {}
        self._checksums: dict[Path, int] = {}
        self._maps: dict[Path, np.ndarray[Any, Any]] = {}
        for index in sorted(folder.glob("*.json")):
            try:
                places, checksum = _read_index(index)
            except (OSError, ValueError, KeyError) as error:
                self.damaged[index] = str(error)
                continue
            self._places.update(places)
            if checksum is not None:
                self._checksums[index.with_suffix(".bin")] = checksum

    def verify(self, hashes: Iterable[str]) -> None:
        """Read the shards of these clips through, once; a damaged one is dropped and listed.

        It costs what reading the bytes does. A shard written before there were checksums passes.
        """
        shards = {self._places[sha256].shard for sha256 in hashes if sha256 in self}
        for shard in shards & self._checksums.keys():
            try:
                _check_data(shard, self._checksums[shard])
            except (OSError, ValueError) as error:
                self.damaged[shard.with_suffix(".json")] = str(error)
                self._places = {
                    sha256: place for sha256, place in self._places.items() if place.shard != shard
                }

    def __getitem__(self, sha256: str) -> Array:
        """The clip's feature as a view of the map; KeyError for a clip that is not stored."""
        place = self._places[sha256]
        flat = self._maps.get(place.shard)
        if flat is None:
            flat = np.asarray(np.memmap(place.shard, dtype=self._dtype, mode="c"))
            self._maps[place.shard] = flat
        size = int(np.prod(place.shape))
        return flat[place.start : place.start + size].reshape(place.shape)

    def __contains__(self, sha256: object) -> bool:
        """Whether the clip is stored."""
        return sha256 in self._places

    def __len__(self) -> int:
        """Clips stored."""
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all clips stored."""
        sizes = (int(np.prod(place.shape)) for place in self._places.values())
        return sum(sizes) * self._dtype.itemsize


def sweep(store: FeatureStore) -> None:
    """Remove damaged shards, and what a killed run half wrote; the folder's lock must be held."""
    for index, reason in store.damaged.items():
        log.warning("%s: damaged, its clips are computed again (%s)", index, reason)
        index.unlink(missing_ok=True)
    for data in store.folder.glob("*.bin"):
        if not data.with_suffix(".json").exists():
            data.unlink(missing_ok=True)
    for partial in store.folder.glob("*.part"):
        partial.unlink(missing_ok=True)


def write_shard(folder: Path, features: dict[str, Array]) -> None:
    """Data first, index last: the index is what makes a shard exist."""
    starts = np.cumsum([0, *(values.size for values in features.values())])
    entries = {
        sha256: [int(start), *values.shape]
        for (sha256, values), start in zip(features.items(), starts[:-1], strict=True)
    }
    data = b"".join(values.tobytes() for values in features.values())
    content = {"bytes": len(data), "crc32": zlib.crc32(data), "entries": entries}
    body = json.dumps(content, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    name = folder / digest[:16]
    write_whole(name.with_suffix(".bin"), data)
    write_whole(name.with_suffix(".json"), digest.encode() + b"\n" + body)


def _read_index(index: Path) -> tuple[dict[str, _Place], int | None]:
    """Where its clips lie, and the data's checksum; ValueError or OSError for a bad index or size.

    Shards written before there were checksums have none.
    """
    digest, _, body = index.read_bytes().partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("the index does not match its checksum")
    content = json.loads(body)
    data = index.with_suffix(".bin")
    size = data.stat().st_size
    if size != content["bytes"]:
        raise ValueError(f"{data.name} has {size} bytes instead of {content['bytes']}")
    places = {
        sha256: _Place(data, start, tuple(shape))
        for sha256, (start, *shape) in content["entries"].items()
    }
    return places, content.get("crc32")


def _check_data(shard: Path, checksum: int) -> None:
    """ValueError where the values are not those that were written."""
    found = 0
    with shard.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            found = zlib.crc32(piece, found)
    if found != checksum:
        raise ValueError(f"{shard.name} does not match its checksum")


def write_whole(path: Path, content: bytes) -> None:
    """Write so that the path holds either nothing or all, even after a power cut."""
    with replacing(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
