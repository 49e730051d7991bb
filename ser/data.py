"""Features to batches: the dataset, the sampler and the one DataModule."""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from ser.batch import Batch
from ser.errors import SerError
from ser.shards import FeatureStore
from ser.splits import Split

PADDED = frozenset({"frames", "waveform"})  # streams whose first axis is time


class EmotionDataset(Dataset[Batch]):
    """Clips of one part of a split; indexed by a list of positions, gives a padded Batch.

    `stores` holds for each stream one or more versions of the features: the first is the clip as
    recorded, the others are augmented copies of it. `version` picks one of them per position.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        classes: Sequence[str],
        stores: Mapping[str, Sequence[FeatureStore]],
    ) -> None:
        self.rows = torch.as_tensor(table.index.to_numpy(copy=True))
        code = {name: number for number, name in enumerate(classes)}
        self.targets = torch.as_tensor(table["label"].map(code).to_numpy(dtype=np.int64, copy=True))
        self.hashes = table["sha256"].tolist()
        self.groups = table["corpus"].to_numpy()
        self._speakers, self._corpora = codes(table["speaker"]), codes(table["corpus"])
        self._stores = {name: list(versions) for name, versions in stores.items()}
        self.n_versions = max(len(versions) for versions in self._stores.values())
        self._fixed = {
            name: self._stack(versions)
            for name, versions in self._stores.items()
            if name not in PADDED
        }

    def __len__(self) -> int:
        return len(self.hashes)

    def _stack(self, versions: Sequence[FeatureStore]) -> Tensor:
        """All clips of a stream of fixed shape, version by version: a batch is then one index."""
        return torch.from_numpy(np.stack([store[sha] for store in versions for sha in self.hashes]))

    def __getitem__(self, positions: Sequence[int] | Sequence[tuple[int, int]]) -> Batch:
        """The clips at these positions; a (position, version) pair picks an augmented copy."""
        pairs = [p if isinstance(p, tuple) else (int(p), 0) for p in positions]
        where, version = torch.tensor(pairs).unbind(1)
        streams: dict[str, Tensor] = {}
        for name, versions in self._stores.items():
            if name in PADDED:
                clips = [versions[v % len(versions)][self.hashes[p]] for p, v in pairs]
                streams[name], streams[f"{name}_length"] = pad(clips)
            else:
                rows = version % len(versions) * len(self) + where
                streams[name] = self._fixed[name].index_select(0, rows).float()
        return Batch(
            index=self.rows[where],
            target=self.targets[where],
            speaker=self._speakers[where],
            corpus=self._corpora[where],
            **streams,
        )

    def durations(self) -> np.ndarray:
        """Length of each clip on its first padded stream; zeros when no stream is padded."""
        for name, versions in self._stores.items():
            if name in PADDED:
                return np.array([versions[0][sha].shape[0] for sha in self.hashes])
        return np.zeros(len(self), dtype=np.int64)


def codes(names: pd.Series) -> Tensor:
    """A number (clips,) for each name, the same in every table."""
    return torch.tensor([zlib.crc32(str(name).encode()) for name in names], dtype=torch.long)


def pad(clips: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Arrays (time, ...) of different lengths to (clips, longest, ...) float32 and lengths."""
    lengths = torch.tensor([clip.shape[0] for clip in clips])
    padded = np.zeros((len(clips), int(lengths.max()), *clips[0].shape[1:]), dtype=np.float32)
    for row, clip in zip(padded, clips, strict=True):
        row[: clip.shape[0]] = clip
    return torch.from_numpy(padded), lengths


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (position, version), a function of the seed and the epoch alone.

    So a resumed run sees the very batches of an uninterrupted one. With `weights` clips are drawn
    with replacement. Batches are cut from pools of `pool_batches` batches sorted by length, so
    that little is padded; the order of the batches is random. A clip that would be left over alone
    joins the batch before: batch normalisation has nothing to go by on one clip.
    """

    def __init__(
        self,
        dataset: EmotionDataset,
        *,
        batch_size: int,
        seed: int,
        weights: np.ndarray | None,
        pool_batches: int,
    ) -> None:
        self._lengths = dataset.durations()
        self._n_versions = dataset.n_versions
        self._batch_size, self._seed, self._pool = batch_size, seed, pool_batches * batch_size
        self._weights = None if weights is None else weights / weights.sum()
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        n, size = len(self._lengths), self._batch_size
        alone = size > 1 and n > size and n % size == 1
        return n // size if alone else -(-n // size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        draw = np.random.default_rng((self._seed, self._epoch))
        n = len(self._lengths)
        if self._weights is None:
            order = draw.permutation(n)
        else:
            order = draw.choice(n, size=n, p=self._weights)
        version = draw.integers(self._n_versions, size=n)
        for start in range(0, n, self._pool):
            part = order[start : start + self._pool]
            order[start : start + self._pool] = part[np.argsort(self._lengths[part], kind="stable")]
        last = len(self) - 1
        for number in draw.permutation(len(self)):
            first = number * self._batch_size
            chosen = slice(first, n if number == last else first + self._batch_size)
            yield [(int(p), int(v)) for p, v in zip(order[chosen], version[chosen], strict=True)]


def clip_weights(dataset: EmotionDataset, corpora: Mapping[str, float]) -> np.ndarray:
    """Weight of each clip, mean one, so that every corpus × class cell counts the same.

    With `corpora` the classes alone are equalised, and a clip counts its corpus's factor beside
    that, or 1 where there is none.
    """
    classes = dataset.targets.tolist()
    cells = pd.Series(classes if corpora else list(zip(dataset.groups, classes, strict=True)))
    weights = 1.0 / cells.map(cells.value_counts()).to_numpy(dtype=float)
    weights *= [corpora.get(corpus, 1.0) for corpus in dataset.groups]
    return np.asarray(weights * (len(weights) / weights.sum()))


def check_factors(corpora: Mapping[str, float], trained: Collection[str]) -> None:
    """SerError where a factor is not above 0, or of a corpus that is not trained on."""
    for corpus, factor in corpora.items():
        if corpus not in trained or not factor > 0:
            raise SerError(
                f"loss.corpora={{{corpus}:{factor}}}: a factor above 0 for a corpus that trains; "
                f"these are here {', '.join(sorted(trained))}."
            )


class EmotionDataModule(pl.LightningDataModule):
    """Train, validation and test batches of one split.

    `imbalance` is `weights` (the loss weighs clips), `sampler` (clips are drawn by weight) or
    `none`; both balance, see `clip_weights`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        classes: Sequence[str],
        split: Split,
        stores: Mapping[str, Sequence[FeatureStore]],
        *,
        batch_size: int,
        pool_batches: int,
        imbalance: str,
        corpora: Mapping[str, float],
        seed: int,
    ) -> None:
        super().__init__()
        self._batch_size, self._pool_batches, self._seed = batch_size, pool_batches, seed
        self._imbalance, self._corpora = imbalance, corpora
        plain = {name: versions[:1] for name, versions in stores.items()}
        part = {name: table[table["id"].isin(ids)] for name, ids in split.parts.items()}
        self.train = EmotionDataset(part["train"], classes, stores)
        self.val = EmotionDataset(part["val"], classes, plain)
        self.test = EmotionDataset(part["test"], classes, plain)

    def loss_weights(self, n_rows: int) -> Tensor | None:
        """Weight of each row of the run's table in the loss, or None when all weigh the same."""
        if self._imbalance != "weights":
            return None
        weights = torch.ones(n_rows)
        weights[self.train.rows] = torch.as_tensor(self._weights(), dtype=torch.float32)
        return weights

    def _weights(self) -> np.ndarray:
        return clip_weights(self.train, self._corpora)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the train part."""
        weights = self._weights() if self._imbalance == "sampler" else None
        sampler = EpochSampler(
            self.train,
            batch_size=self._batch_size,
            seed=self._seed,
            weights=weights,
            pool_batches=self._pool_batches,
        )
        return _loader(self.train, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation part, in order."""
        return self.in_order("val")

    def in_order(self, part: str, clips: Iterable[int] | None = None) -> DataLoader[Batch]:
        """Batches of `train`, `val` or `test` as recorded, in order; of all clips, or of these."""
        dataset = {"train": self.train, "val": self.val, "test": self.test}[part]
        return in_order(dataset, self._batch_size, clips)


def in_order(
    dataset: EmotionDataset, batch_size: int, clips: Iterable[int] | None = None
) -> DataLoader[Batch]:
    """Every clip of a dataset once, in order; or those at these positions."""
    sampler = range(len(dataset)) if clips is None else clips
    return _loader(dataset, BatchSampler(sampler, batch_size, drop_last=False))


def _loader(dataset: EmotionDataset, sampler: Sampler[Any]) -> DataLoader[Batch]:
    """The sampler hands the dataset a whole batch; workers would only add copies."""
    return DataLoader(dataset, sampler=sampler, batch_size=None)
