"""Both solvers of the ridge regression against scikit-learn: all clips, and some left out."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from ser.errors import SerError
from ser.models.dual_ridge import DualRidge
from ser.models.least_squares import Regression
from ser.models.primal_ridge import PrimalRidge

N, N_SPEAKERS, N_CLASSES = 120, 8, 4


def _problem(n_inputs: int, n_removed: int) -> tuple[torch.Tensor, Regression]:
    draw = torch.Generator().manual_seed(0)
    speaker = torch.arange(N) % N_SPEAKERS
    target = torch.randint(0, N_CLASSES, (N,), generator=draw)
    target[speaker == 0] = 0  # of one class alone
    voices = 2 * torch.randn(N_SPEAKERS, n_inputs, generator=draw)
    classes = torch.randn(N_CLASSES, n_inputs, generator=draw)
    inputs = torch.randn(N, n_inputs, generator=draw) + voices[speaker] + classes[target]
    weight = torch.rand(N, generator=draw, dtype=torch.float64) + 0.3
    penalty = 0.7 * n_inputs
    return inputs, Regression(target, speaker, weight, N_CLASSES, penalty, n_removed)


def _by_scikit_learn(
    inputs: torch.Tensor, task: Regression, clips: np.ndarray, n_removed: int
) -> SklearnRidge:
    """Fitted on inputs from which the speakers' directions are projected out."""
    rows, target = inputs.double().numpy()[clips], task.target.numpy()[clips]
    speaker, weight = task.speaker.numpy()[clips], task.clip_weight.numpy()[clips]
    classes = np.zeros((N_CLASSES, rows.shape[1]))
    for c in set(target):
        classes[c] = np.average(rows[target == c], 0, weight[target == c])
    rest = rows - classes[target]
    directions = np.stack([rest[speaker == s].mean(0) for s in sorted(set(speaker))])
    _, strength, axes = np.linalg.svd(directions, full_matrices=False)
    axes = axes[strength > 1e-3 * strength[0]][:n_removed]
    rows = rows - rows @ axes.T @ axes
    signs = 2.0 * np.eye(N_CLASSES)[target] - 1.0
    return SklearnRidge(alpha=task.penalty).fit(rows, signs, sample_weight=weight)


@pytest.mark.parametrize("solver", [DualRidge, PrimalRidge])
@pytest.mark.parametrize("n_inputs", [40, 300])
@pytest.mark.parametrize("n_removed", [0, 3, 40])
def test_solutions_equal_scikit_learns(
    solver: type[DualRidge | PrimalRidge], n_inputs: int, n_removed: int
) -> None:
    inputs, task = _problem(n_inputs, n_removed)
    solved = solver(inputs, task)
    plain = _by_scikit_learn(inputs, task, np.arange(N), n_removed)
    weight, constant = solved.solution()
    np.testing.assert_allclose(weight.T, plain.coef_, atol=1e-5)
    np.testing.assert_allclose(constant, plain.intercept_, atol=1e-5)
    for speakers in ([0, 1, 2], [7]):
        left_out = np.isin(task.speaker.numpy(), speakers)
        plain = _by_scikit_learn(inputs, task, np.flatnonzero(~left_out), n_removed)
        fold = torch.from_numpy(np.flatnonzero(left_out))
        expected = plain.predict(inputs.double().numpy()[left_out])
        np.testing.assert_allclose(solved.answers(fold), expected, atol=1e-4)


@pytest.mark.parametrize("solver", [DualRidge, PrimalRidge])
def test_directions_projected_out_have_no_weight(solver: type[DualRidge | PrimalRidge]) -> None:
    inputs, task = _problem(300, 300)
    means = torch.stack([inputs[task.speaker == s].mean(0) for s in range(N_SPEAKERS)]).double()
    share = task.one_hot * task.clip_weight[:, None]
    directions = means - task.mixture @ (share / share.sum(0)).T @ inputs.double()
    weight, _ = solver(inputs, task).solution()
    assert (directions @ weight).abs().max() < 1e-5
    free, _ = solver(*_problem(300, 0)).solution()
    assert (directions @ free).abs().max() > 1e-2


@pytest.mark.parametrize("solver", [DualRidge, PrimalRidge])
def test_one_speaker_has_no_directions_to_take_out(
    solver: type[DualRidge | PrimalRidge],
) -> None:
    inputs, task = _problem(60, 60)
    one = torch.zeros(N, dtype=torch.long)
    both = [
        solver(inputs, Regression(task.target, one, task.clip_weight, 4, 42.0, n_removed))
        for n_removed in (60, 0)
    ]
    fold = torch.arange(0, N, 3)
    torch.testing.assert_close(both[0].solution(), both[1].solution(), rtol=0, atol=0)
    torch.testing.assert_close(both[0].answers(fold), both[1].answers(fold), rtol=0, atol=0)


def test_fewer_inputs_than_clips_and_no_penalty_is_an_error() -> None:
    inputs, task = _problem(300, 0)
    with pytest.raises(SerError, match=r"penalty"):
        DualRidge(
            inputs[:, :10], Regression(task.target, task.speaker, task.clip_weight, 4, 0.0, 0)
        )
