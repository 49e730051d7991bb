"""Weighted ridge regression with a projection, in the span of the clips."""

import torch
from torch import Tensor


class DualRidge:
    """Weighted ridge regression on ±1 targets, solved for the clips and not for the inputs.

    Args:
        gram: inner products of all clips' inputs (clips, clips), float64.
        target: class of each clip (clips,).
        speaker: number of each clip's speaker (clips,).
        clip_weight: weight of each clip in the error (clips,).
        n_classes: number of classes.
        penalty: of the squared weights.
        remove: project out the directions in which speakers differ, classes taken out first; one
            speaker has none.
    """

    def __init__(
        self,
        gram: Tensor,
        target: Tensor,
        speaker: Tensor,
        clip_weight: Tensor,
        n_classes: int,
        penalty: float,
        remove: bool,
    ) -> None:
        self.gram, self.target, self.speaker = gram, target, speaker
        self.clip_weight = clip_weight.double()
        self.n_classes, self.penalty, self.remove = n_classes, penalty, remove

    def solve(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Solve on some clips (their positions).

        Returns:
            Coefficients (these clips, classes): the weights are inputs.T @ coefficients, and the
            answer to another clip its inner products with these clips times the coefficients.
            The constant (classes,) to add.
        """
        gram = self.gram[clips][:, clips]
        target, weight = self.target[clips], self.clip_weight[clips]
        inner, direction, inverse = gram, None, None
        if self.remove and len(torch.unique(self.speaker[clips])) > 1:
            direction = self._directions(clips)
            along = direction @ gram  # (speakers, clips)
            inverse = torch.linalg.pinv(along @ direction.T, rtol=1e-6, hermitian=True)
            inner = gram - along.T @ inverse @ along
        share = weight / weight.sum()
        signs = 2.0 * torch.nn.functional.one_hot(target, self.n_classes).double() - 1.0
        constant = share @ signs
        middle = inner @ share  # inner products with the weighted mean
        centred = inner - middle[:, None] - middle[None] + share @ middle
        root = weight.sqrt()
        system = root[:, None] * centred * root[None]
        system.diagonal().add_(self.penalty)
        dual = root[:, None] * torch.linalg.solve(system, root[:, None] * (signs - constant))
        coefficients = dual - share[:, None] * dual.sum(0)
        constant = constant - middle @ coefficients
        if direction is not None and inverse is not None:
            shadow = inverse @ (along @ coefficients)  # (speakers, classes)
            coefficients = coefficients - direction.T @ shadow
        return coefficients, constant

    def _directions(self, clips: Tensor) -> Tensor:
        """(speakers, clips): directions @ inputs are the speakers' means, the classes taken out."""
        weight = self.clip_weight[clips]
        target = torch.nn.functional.one_hot(self.target[clips], self.n_classes).double()
        _, speaker = torch.unique(self.speaker[clips], return_inverse=True)
        owner = torch.nn.functional.one_hot(speaker).double()
        owner = (owner / owner.sum(0)).T
        per_class = target * weight[:, None]
        per_class = per_class / per_class.sum(0).clamp(min=1e-12)
        return owner - (owner @ target) @ per_class.T
