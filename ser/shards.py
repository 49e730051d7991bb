"""Shards of features on disk: values laid end to end, and an index that makes them exist.

A shard is a `.bin` and a `.json` of the same name. The index, with its own checksum and the data's
size, is written after the data, so a shard is there whole or not at all.
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.features.base import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip's values lie: shard, first element, shape."""

    shard: Path
    start: int
    shape: tuple[int, ...]


class FeatureStore:
    """The features of one folder by content hash, read through memory maps.

    A view is writable and private to the process (copy on write): nothing reaches the file. The
    store can be pickled; maps are opened again on the other side.
    """

    def __init__(self, folder: Path, dtype: type[np.floating]) -> None:
        """Read every whole shard's index; damaged shards are listed in `damaged`."""
        self.folder = folder
        self.damaged: dict[Path, str] = {}
        self._dtype = np.dtype(dtype)
        self._places: dict[str, _Place] = {}
        self._maps: dict[Path, np.ndarray[Any, Any]] = {}
        for index in sorted(folder.glob("*.json")):
            try:
                self._places.update(_read_index(index))
            except (OSError, ValueError, KeyError) as error:
                self.damaged[index] = str(error)

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

    def __getstate__(self) -> dict[str, Any]:
        """All but the open maps, whose pickling would copy every value."""
        return {**self.__dict__, "_maps": {}}


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
    body = json.dumps({"bytes": len(data), "entries": entries}, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    name = folder / digest[:16]
    write_whole(name.with_suffix(".bin"), data)
    write_whole(name.with_suffix(".json"), digest.encode() + b"\n" + body)


def _read_index(index: Path) -> dict[str, _Place]:
    """Check an index against its checksum and its data's size; ValueError or OSError if bad."""
    digest, _, body = index.read_bytes().partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("the index does not match its checksum")
    content = json.loads(body)
    data = index.with_suffix(".bin")
    size = data.stat().st_size
    if size != content["bytes"]:
        raise ValueError(f"{data.name} has {size} bytes instead of {content['bytes']}")
    return {
        sha256: _Place(data, start, tuple(shape))
        for sha256, (start, *shape) in content["entries"].items()
    }


def write_whole(path: Path, content: bytes) -> None:
    """Write so that the path holds either nothing or all, even after a power cut."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
