"""An epoch of the wav2vec2 arm from the warm cache, against .npy files: `python -m bench.epoch`.

The alternative is the usual one: a file a clip, a Dataset that loads it, a shuffling DataLoader,
and the same arm as the formula has it, with torch's dropout and AdamW at their defaults.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.measure import Table, bandwidth_gib_s, compare, matmul_gflops, parser, publish
from ser.batch import Batch
from ser.config import keep_freed_memory
from ser.data import EmotionDataset, EpochSampler, in_order
from ser.models.wav2vec2 import Wav2Vec2Model
from ser.shards import FeatureStore, write_shard

LAYERS, WIDTH, FRAMES = 13, 768, 184
"""wav2vec2-base; frames of a RAVDESS clip of 3.7 s."""
INNER, HEADS, HIDDEN, DROPOUT = list(range(1, LAYERS - 1)), 4, 64, 0.5
"""conf/model/branch/wav2vec2.yaml."""
BATCH, SHARD, POOL_BATCHES, EMOTIONS = 64, 256, 8, 8
POOLED, WORKERS = ".npy of pooled layers", ".npy of pooled layers, 2 worker processes"
FRAMEWISE = ".npy of all layers' frames, pooled in the loader"
FRAME_FILES = 48
"""Different files of frames, 3.5 MiB each; clips beyond share them, as 4.5 GiB serve no one."""


class Files(Dataset[tuple[torch.Tensor, int]]):
    """A .npy file a clip."""

    def __init__(self, folder: Path, n_clips: int, n_files: int) -> None:
        self._folder, self._n, self._n_files = folder, n_clips, n_files

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        """(layers, 2 * width) and the class."""
        values = torch.from_numpy(np.load(self._folder / f"{i % self._n_files}.npy")).float()
        if values.ndim == 3:  # (layers, frames, width)
            deviation, mean = torch.std_mean(values, dim=1, correction=0)
            values = torch.cat([mean, deviation], dim=1)
        return values, i % EMOTIONS


def synthesise(folder: Path, n_clips: int) -> tuple[pd.DataFrame, FeatureStore]:
    """The same clips in shards, in pooled files and in files of frames."""
    draw = np.random.default_rng(0)
    for name in ("shards", "pooled", "frames"):
        (folder / name).mkdir()
    shard: dict[str, np.ndarray] = {}
    for i in range(n_clips):
        values = draw.standard_normal((LAYERS, 2 * WIDTH), dtype=np.float32).astype(np.float16)
        np.save(folder / "pooled" / f"{i}.npy", values)
        shard[str(i)] = values
        if len(shard) == SHARD or i == n_clips - 1:
            write_shard(folder / "shards", shard)
            shard = {}
    for i in range(FRAME_FILES):
        frames = draw.standard_normal((LAYERS, FRAMES, WIDTH), dtype=np.float32)
        np.save(folder / "frames" / f"{i}.npy", frames.astype(np.float16))
    label = [f"class_{i % EMOTIONS}" for i in range(n_clips)]
    hashes = [str(i) for i in range(n_clips)]
    table = pd.DataFrame(
        {"sha256": hashes, "label": label, "corpus": "synthetic", "speaker": "none"}
    )
    return table, FeatureStore(folder / "shards", np.float16)


class Plain(nn.Module):
    """The arm written down plainly: every head standardises, drops and projects by itself."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (len(INNER), 2 * WIDTH)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        bound = shape[1] ** -0.5
        self.weights = nn.ParameterList(torch.zeros(len(INNER)) for _ in range(HEADS))
        self.projections = nn.ParameterList(
            torch.empty(*shape, HIDDEN).uniform_(-bound, bound) for _ in range(HEADS)
        )
        self.biases = nn.ParameterList(torch.zeros(HIDDEN) for _ in range(HEADS))
        self.classifiers = nn.ModuleList(nn.Linear(HIDDEN, EMOTIONS) for _ in range(HEADS))

    def training_logits(self, batch: Batch) -> list[torch.Tensor]:
        """Each head's logits (batch, classes)."""
        assert batch.embedding is not None
        every = []
        for weight, projection, bias, classifier in zip(
            self.weights, self.projections, self.biases, self.classifiers, strict=True
        ):
            scaled = (batch.embedding[:, INNER] - self.mean) / self.deviation
            scaled = F.dropout(scaled, DROPOUT, self.training)
            share = weight.softmax(0)[:, None, None] * len(INNER)
            summary = scaled.flatten(1) @ (share * projection).flatten(0, 1) + bias
            every.append(classifier(F.dropout(F.gelu(summary), DROPOUT, self.training)))
        return every


def arm() -> Wav2Vec2Model:
    """The arm at conf/model/branch/wav2vec2.yaml's sizes."""
    return Wav2Vec2Model(
        EMOTIONS, {"embedding": (LAYERS, 2 * WIDTH)}, None, finetune="none", last_n=2, lora_rank=16,
        lora_alpha=32, lora_dropout=0.05, layers=INNER, heads=HEADS,
        hidden=HIDDEN, nonlinear=True, input_dropout=DROPOUT, dropout=DROPOUT, lr_factor=0.5,
        encoder_lr_factor=0.1, head_epochs=0, voice=None, masks=None,
    )  # fmt: skip


def train(batches: Iterable[Batch], model: Wav2Vec2Model | Plain, fused: bool | None) -> None:
    """Forward, backward and AdamW over the batches; the loss is the mean of the heads'."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=fused)
    for batch in batches:
        losses = [F.cross_entropy(y, batch.target) for y in model.training_logits(batch)[-HEADS:]]
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).mean())
        optimizer.step()


def train_plain(batches: Iterable[Batch]) -> None:
    """The plain arm over the batches."""
    train(batches, Plain(), fused=None)


@dataclass(frozen=True)
class Again:
    """A loader's default collation as what the arm reads, anew each time it is gone through."""

    loader: DataLoader[tuple[torch.Tensor, int]]

    def __iter__(self) -> Iterator[Batch]:
        for values, target in self.loader:
            yield Batch(torch.arange(len(target)), target, embedding=values)


def drain(batches: Iterable[Batch]) -> None:
    """Use each batch once, and no more."""
    for _ in batches:
        pass


def loaders_of(folder: Path, n_clips: int) -> dict[str, Again]:
    """The alternatives by name."""
    pooled = Files(folder / "pooled", n_clips, n_clips)
    framewise = Files(folder / "frames", n_clips, FRAME_FILES)
    workers = DataLoader(pooled, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return {
        POOLED: Again(DataLoader(pooled, BATCH, shuffle=True)),
        WORKERS: Again(workers),
        FRAMEWISE: Again(DataLoader(framewise, BATCH, shuffle=True)),
    }


def measured(folder: Path, n_clips: int, repeats: int) -> tuple[Table, Table, Table]:
    """Opening the store, reading an epoch's batches, and the whole epoch."""
    table, store = synthesise(folder, n_clips)
    opening = compare(lambda: dataset(table, store), {}, repeats, name="open", unit_s=1e-3)
    data = dataset(table, store)
    sampler = EpochSampler(data, batch_size=BATCH, seed=0, weights=None, pool_batches=POOL_BATCHES)
    as_is = in_order(data, BATCH).collate_fn
    mine = DataLoader(data, sampler=sampler, batch_size=None, collate_fn=as_is)
    loaders = loaders_of(folder, n_clips)
    reading = compare(
        lambda: drain(mine),
        {key: partial(drain, loader) for key, loader in loaders.items()},
        repeats,
        unit_s=1e-3,
    )
    training = compare(
        lambda: train(mine, arm(), fused=True),
        {key: partial(train_plain, loader) for key, loader in loaders.items()},
        repeats,
        unit_s=1e-3,
    )
    return opening, reading, training


def verdict(n_clips: int, reading: Table, training: Table) -> str:
    """Ratios, and what bounds them."""
    names = (POOLED, WORKERS, FRAMEWISE)
    one = [f"{float(np.median(reading.ratios(key))):.1f} ×" for key in names]
    whole = [f"{float(np.median(training.ratios(key))):.1f}" for key in names]
    products = 2 * 2 * n_clips * len(INNER) * 2 * WIDTH * HEADS * HIDDEN  # there and back
    n_weights = sum(weight.numel() for weight in arm().parameters())
    moved = -(-n_clips // BATCH) * n_weights * 7 * 4  # AdamW reads four float32 and writes three
    n_threads = torch.get_num_threads()
    product_s = products / (1e9 * matmul_gflops() * n_threads)
    n_bytes = n_clips * LAYERS * 2 * WIDTH * (2 + 4)
    bandwidth = bandwidth_gib_s() * 2**30
    return (
        f"Reading: {one[0]} the .npy loader, {one[1]} with workers, {one[2]} files of frames. "
        f"Whole epoch (goal 10 ×): {whole[0]}, {whole[1]} and {whole[2]} ×. The same products and "
        "the same optimizer on either side: what is saved is the masks (random bytes in place of "
        "torch's Bernoulli numbers), products by oneDNN, standardising once for all heads, and an "
        "AdamW that goes over its weights once. The limit: products of "
        f"{products / 1e9:.1f} G operations take {1e3 * product_s:.0f} ms on {n_threads} cores at "
        f"the speed of a large one, AdamW's {moved / 2**30:.1f} GiB "
        f"{1e3 * moved / bandwidth:.0f} ms at one core's copying speed. Of reading: "
        f"{n_bytes / 2**20:.0f} MiB read as float16 and written as float32 take "
        f"{1e3 * n_bytes / bandwidth:.0f} ms at that speed."
    )


def main() -> None:
    """Print the section."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--clips", type=int, default=648, help="clips of the train part")
    given = options.parse_args()
    torch.manual_seed(0)
    keep_freed_memory()  # as train.py does; for both
    with tempfile.TemporaryDirectory() as name:
        opening, reading, training = measured(Path(name), given.clips, given.repeats)
    parts: list[object] = [
        f"{given.clips:,} clips of {LAYERS} × {2 * WIDTH} float16 (synthesised; wav2vec2-base), "
        f"batch {BATCH}. Opening the store and stacking it once a run takes "
        f"{1e3 * opening.seconds('open'):.0f} ms. Files and shards are in the page cache.",
        "Reading an epoch's batches alone:",
        reading,
        "The whole epoch, with forward, backward and AdamW:",
        training,
        verdict(given.clips, reading, training),
    ]
    publish("epoch", "An epoch of the wav2vec2 arm", parts, given, "numpy torch pandas")


def dataset(table: pd.DataFrame, store: FeatureStore) -> EmotionDataset:
    """What the DataModule makes of the train part."""
    classes = [f"class_{k}" for k in range(EMOTIONS)]
    return EmotionDataset(table, classes, {"embedding": [store]})


if __name__ == "__main__":
    main()
