"""A ridge regression brought nearer to one speaker by clips of theirs whose labels are not read."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_MEAN_PASSES = 10
_MEAN_WEIGHT = 3.0  # clips that a class's mean over training speakers counts as
_WEIGHT_PASSES = 6
_WEIGHT_PENALTY = 3.0  # against squared error, with inner products divided by the number of inputs

Likelihood = Callable[[Tensor, Tensor], Tensor]
"""Answers (clips, classes), class means (classes, classes) -> log-likelihoods (clips, classes), the
classes' prior added."""


class Voice(NamedTuple):
    """What is a speaker's own.

    Attributes:
        mean, deviation: of the inputs, (inputs,).
        weight: (inputs, classes) of the regression.
        class_means: of the answers, (classes, classes).
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    class_means: Tensor


def moved_means(answers: Tensor, common: Tensor, likelihood: Likelihood) -> Tensor:
    """The classes' means for one speaker, by expectation maximisation from the common ones.

    Maximum a posteriori estimation (Gauvain & Lee, IEEE TSAP 1994).
    """
    means = common
    for _ in range(_MEAN_PASSES):
        share = likelihood(answers, means).softmax(1)  # (clips, classes)
        total = _MEAN_WEIGHT * common + share.T @ answers
        means = total / (_MEAN_WEIGHT + share.sum(0))[:, None]
    return means


def adapted(
    inputs: Tensor, weight: Tensor, bias: Tensor, common: Tensor, likelihood: Likelihood
) -> tuple[Tensor, Tensor]:
    """The regression's weights and the classes' means for the speaker of these clips.

    The clips' own class shares, as they are believed at each pass, are the targets of a second
    ridge regression on what the first one leaves over (self-training; Yarowsky, ACL 1995, with
    shares in place of decisions). Clips that sound alike then get answers that are alike.

    Args:
        inputs: standardised by the speaker (clips, inputs).
        weight, bias: the common regression (inputs, classes), (classes,).
        common: its class means (classes, classes).
        likelihood: of answers under class means.

    Returns:
        Weights (inputs, classes) and class means (classes, classes).
    """
    first = inputs @ weight + bias
    inner = inputs @ inputs.T / inputs.shape[1]
    system = inner + _WEIGHT_PENALTY * torch.eye(len(inputs)).to(inputs)
    answers, change = first, torch.zeros_like(first)
    for _ in range(_WEIGHT_PASSES):
        share = likelihood(answers, moved_means(answers, common, likelihood)).softmax(1)
        change = torch.linalg.solve(system, 2 * share - 1 - first)
        answers = first + inner @ change
    moved = moved_means(answers, common, likelihood)
    return weight + inputs.T @ change / inputs.shape[1], moved
