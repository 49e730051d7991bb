"""A weighted ridge regression with a projection: what is solved, apart from how."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

_RANK = 1e-6  # of the strongest direction's norm squared: weaker ones are rounding


@dataclass(frozen=True)
class Regression:
    """What is regressed on the inputs of some clips.

    Args:
        target: class of each clip (clips,); regressed is +1 for it and -1 for the others.
        speaker: number of each clip's speaker, from 0 (clips,).
        clip_weight: weight of each clip in the squared error (clips,), float64.
        n_classes: number of classes.
        penalty: of the squared weights.
        n_removed: directions to project out at most: the strongest of those in which the
            speakers differ, the classes taken out first. One speaker has none.
    """

    target: Tensor
    speaker: Tensor
    clip_weight: Tensor
    n_classes: int
    penalty: float
    n_removed: int

    @cached_property
    def one_hot(self) -> Tensor:
        """(clips, classes), float64."""
        return F.one_hot(self.target, self.n_classes).double()

    @cached_property
    def owner(self) -> Tensor:
        """(clips, speakers), float64: owner.T @ inputs are the speakers' means."""
        owner = F.one_hot(self.speaker).double()
        return owner / owner.sum(0)

    @cached_property
    def mixture(self) -> Tensor:
        """(speakers, classes): what they said, as shares."""
        return self.owner.T @ self.one_hot

    def others(self, fold: Tensor | None) -> Tensor:
        """The speakers whose directions are projected out where these clips are left out."""
        kept = torch.ones(len(self.mixture), dtype=torch.bool)
        if fold is not None:
            kept[self.speaker[fold]] = False
        rest = torch.nonzero(kept).squeeze(1)
        return rest if len(rest) > 1 and self.n_removed else rest[:0]

    def strongest(self, inner: Tensor) -> Tensor:
        """(rank, directions): what makes orthogonal ones of directions with these products.

        At most `n_removed`, those of the largest norm.
        """
        if not len(inner):
            return inner
        strength, vectors = torch.linalg.eigh(inner)  # the weakest first
        kept = strength > _RANK * strength[-1]
        kept[: max(len(strength) - self.n_removed, 0)] = False
        orthogonal: Tensor = vectors[:, kept].T
        return orthogonal
