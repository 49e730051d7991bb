"""The loss of all logits of a training step, of clips as they are or mixed in pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Mixed(NamedTuple):
    """Logits (batch, n_classes) of pairs: `share` of each clip, else its partner (batch,)."""

    logits: "Tensor | Mixed"
    partner: Tensor
    share: float


def draw_pairs(n_clips: int, alpha: float, device: torch.device) -> tuple[Tensor, float]:
    """A partner for each clip (n_clips,), and the first one's share, of Beta(alpha, alpha)."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return torch.randperm(n_clips, device=device), share


def training_loss(
    every: Sequence[Tensor | Mixed], target: Tensor, weights: Tensor, smoothing: float
) -> Tensor:
    """Mean cross-entropy of all logits; `weights` (batch,) is what each clip counts.

    Each of a mixed pair counts with its own target and weight.
    """
    return torch.stack([_loss_of(logits, target, weights, smoothing) for logits in every]).mean()


def _loss_of(logits: Tensor | Mixed, target: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    if isinstance(logits, Mixed):
        mixed, partner, share = logits
        own = _loss_of(mixed, target, weights, smoothing)
        other = _loss_of(mixed, target[partner], weights[partner], smoothing)
        return share * own + (1 - share) * other
    each = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    return (each * weights).mean()
