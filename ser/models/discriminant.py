"""A linear discriminant over the answers of a regression."""

import torch
from torch import Tensor

_SHRINKAGE = 0.02  # of the covariance towards a multiple of the identity
_EVEN_SPEAKERS = 2.0  # speakers that even classes count as: docs/log.md has others
_EVEN_VARIANCE = 0.1  # of their answers to strangers: of ten speakers and more .07 to .13


def fit_discriminant(answers: Tensor, target: Tensor, n_speakers: int) -> tuple[Tensor, Tensor]:
    """Class means and the common precision, both (classes, classes), of answers (clips, classes).

    The answers are those of regressions on ±1 targets to clips that they were not solved on. Of a
    few speakers they say little of how answers to a stranger err: means and covariance are drawn
    towards even ones, classes equally far apart and errors alike in all directions, under which the
    largest answer less its mean decides (regularized discriminant analysis, Friedman, JASA 84,
    1989).
    """
    n_classes = answers.shape[1]
    counts = torch.bincount(target, minlength=n_classes)
    means = torch.zeros(n_classes, n_classes).index_add_(0, target, answers)
    means = means / counts.clamp(min=1)[:, None]
    rest = answers - means[target]
    covariance = rest.T @ rest / len(rest)
    identity, seen = torch.eye(n_classes), counts > 0
    apart = identity - 1 / n_classes
    middle = means[seen].mean(0)
    scale = ((means - middle) * apart)[seen].sum() / apart[seen].square().sum()
    share = _EVEN_SPEAKERS / (_EVEN_SPEAKERS + n_speakers)
    means = torch.lerp(means, middle + scale * apart, share)
    covariance = torch.lerp(covariance, _EVEN_VARIANCE * identity, share)
    spread = covariance.trace() / n_classes
    return means, torch.linalg.inv(covariance + (_SHRINKAGE * spread + 1e-6) * identity)
