"""Adaptation of a regression to one speaker: against plain formulas, and what it may not do."""

import pytest
import torch

from ser.models import enrolment
from ser.models.enrolment import adapted, moved_means

N_CLASSES, N_INPUTS = 3, 40


def _likelihood(answers: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    return -2.0 * (answers[:, None] - means).square().sum(-1)


def _clips(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs of a speaker whose classes lie elsewhere than the regression thinks; class; weight."""
    draw = torch.Generator().manual_seed(3)
    centres = torch.randn(N_CLASSES, N_INPUTS, generator=draw)
    own = centres + 2.0 * torch.randn(N_CLASSES, N_INPUTS, generator=draw)
    target = torch.arange(n) % N_CLASSES
    inputs = own[target] + 2.0 * torch.randn(n, N_INPUTS, generator=draw)
    signs = 2 * torch.eye(N_CLASSES) - 1
    return inputs, target, torch.linalg.pinv(centres) @ signs


def test_class_means_are_the_closed_form_where_the_shares_are_certain() -> None:
    common = 100 * torch.eye(N_CLASSES)
    answers = common[[0, 0, 1]] + torch.tensor([[3.0, 0, 0], [5.0, 0, 0], [0, 4.0, 0]])
    means = moved_means(answers, common, _likelihood)
    expected = common + torch.diag(torch.tensor([8.0 / 5, 4.0 / 4, 0.0]))  # the prior is 3 clips
    torch.testing.assert_close(means, expected)


def test_weights_move_so_that_the_speakers_clips_are_told_apart_better() -> None:
    inputs, target, weight = _clips(60)
    bias, common = torch.zeros(N_CLASSES), 2 * torch.eye(N_CLASSES) - 1
    own, means = adapted(inputs, weight, bias, common, _likelihood)
    before = _likelihood(inputs @ weight, moved_means(inputs @ weight, common, _likelihood))
    after = _likelihood(inputs @ own, means)
    right = [(scores.argmax(1) == target).float().mean() for scores in (before, after)]
    assert right[1] > right[0] + 0.02


def test_the_change_of_weights_is_a_ridge_regression_on_what_is_left_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enrolment, "_WEIGHT_PASSES", 1)
    inputs, _, weight = _clips(30)
    bias, common = torch.full((N_CLASSES,), 0.1), 2 * torch.eye(N_CLASSES) - 1
    own, _ = adapted(inputs, weight, bias, common, _likelihood)
    first = inputs @ weight + bias
    share = _likelihood(first, moved_means(first, common, _likelihood)).softmax(1)
    penalty = enrolment._WEIGHT_PENALTY * N_INPUTS
    primal = torch.linalg.solve(
        inputs.T @ inputs + penalty * torch.eye(N_INPUTS), inputs.T @ (2 * share - 1 - first)
    )
    torch.testing.assert_close(own - weight, primal, atol=1e-5, rtol=1e-4)
