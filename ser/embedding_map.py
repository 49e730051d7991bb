"""What a model makes of clips before it names an emotion: its last hidden values, and their map."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ser.batch import Batch
from ser.models.base import EmotionModel, moved

Array = npt.NDArray[np.float32]

NEIGHBOURS = 10
PERPLEXITY = 30.0  # van der Maaten & Hinton (2008): 5 to 50
PRINCIPAL_AXES = 50  # before t-SNE, as its authors advise for wide inputs
MIN_CLIPS = 10  # fewer make no neighbourhood
HIDDEN, EMBEDDING = "their last hidden values", "the embedding that the model reads"


class Seen(NamedTuple):
    """What a model makes of clips."""

    values: Array  # (clips, width)
    rows: npt.NDArray[np.int64]  # (clips,) the clips' row numbers
    what: str  # HIDDEN or EMBEDDING


@dataclass
class Hidden:
    """The last hidden values of a model, read off as it works.

    They are what enters its final linear layers, those that give one value a class: TIM-Net's
    fused summary, each head's summary of the encoder arm, both side by side in an ensemble. A
    model without such a layer (`linear`) is represented by the embedding it is given.
    """

    model: EmotionModel
    _caught: list[Tensor] = field(default_factory=list)

    def of(self, batches: Iterable[Batch]) -> Seen | None:
        """The values of all clips; None if there are none."""
        device = next(iter(self.model.state_dict().values())).device
        layers = [m for m in self.model.modules() if self._names_classes(m)]
        hooks = [layer.register_forward_pre_hook(self._catch) for layer in layers]
        values, rows = [], []
        try:
            with torch.inference_mode():
                for batch in batches:
                    found = self._one(moved(batch, device))
                    if found is None:
                        return None
                    values.append(found.float().cpu().numpy())
                    rows.append(batch.index.cpu().numpy())
        finally:
            for hook in hooks:
                hook.remove()
        what = HIDDEN if self._caught else EMBEDDING
        return Seen(np.concatenate(values), np.concatenate(rows), what)

    def _names_classes(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Linear) and module.out_features == self.model.n_classes

    def _catch(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim == 2:  # (batch, width): a layer over time is no head
            self._caught.append(inputs[0])

    def _one(self, batch: Batch) -> Tensor | None:
        self._caught.clear()
        self.model(batch)
        if self._caught:
            return torch.cat(self._caught, 1)
        if "embedding" in self.model.reads and batch.embedding is not None:
            return batch.embedding.flatten(1)
        return None


def standardised(values: Array) -> Array:
    """(clips, width) with mean 0 and deviation 1 in every column; constant columns are dropped."""
    deviation = values.std(axis=0)
    varying = deviation > 1e-6 * max(float(deviation.max(initial=0.0)), 1e-12)
    scaled: Array = (values[:, varying] - values[:, varying].mean(axis=0)) / deviation[varying]
    return scaled


def map_clips(values: Array, *, seed: int) -> Array:
    """t-SNE of (clips, width) in the plane: (clips, 2), the same for the same seed."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    axes = min(PRINCIPAL_AXES, *values.shape)
    reduced = PCA(n_components=axes, random_state=seed).fit_transform(values)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(values) - 1) / 3), init="pca", random_state=seed, n_jobs=1
    )
    placed: Array = tsne.fit_transform(reduced)
    return placed


def neighbours(values: Array, k: int = NEIGHBOURS) -> npt.NDArray[np.int64]:
    """The k nearest other clips of each clip, by Euclidean distance: (clips, k)."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(k, len(values) - 1)).fit(values)
    near: npt.NDArray[np.int64] = index.kneighbors(return_distance=False)
    return near


def purity(near: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[float, float]:
    """Mean share of a clip's neighbours that bear its name, and what a random order would give.

    ``near: (clips, k)``. The second figure is the share of a clip's name among all other clips.
    """
    codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1]
    counts = np.bincount(codes)
    by_chance = (counts[codes] - 1) / max(len(codes) - 1, 1)
    return float((codes[near] == codes[:, None]).mean()), float(by_chance.mean())
