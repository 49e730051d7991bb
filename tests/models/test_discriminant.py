"""The discriminant between scikit-learn's, for many speakers, and the largest answer, for none."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from ser.models.discriminant import fit_discriminant

CLASSES = 4


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, Tensor]:
    """Answers whose errors have a direction, and whose classes lie unevenly."""
    draw = torch.Generator().manual_seed(0)
    target = torch.arange(400) % CLASSES
    means = torch.eye(CLASSES) + 0.5 * torch.randn(CLASSES, CLASSES, generator=draw)
    errors = torch.randn(400, CLASSES, generator=draw) @ torch.randn(
        CLASSES, CLASSES, generator=draw
    )
    return means[target] + errors, target


def decided(answers: Tensor, means: Tensor, precision: Tensor) -> Tensor:
    away = answers[:, None] - means
    return torch.einsum("nki,ij,nkj->nk", away, precision, away).argmin(1)


def test_of_many_speakers_it_decides_as_scikit_learns(clips: tuple[Tensor, Tensor]) -> None:
    answers, target = clips
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=0.02, priors=np.full(CLASSES, 1 / CLASSES)
    ).fit(answers, target)
    means, precision = fit_discriminant(answers, target, 1_000_000)
    torch.testing.assert_close(means, torch.from_numpy(theirs.means_).float(), atol=1e-4, rtol=0)
    same = decided(answers, means, precision).numpy() == theirs.predict(answers)
    assert same.mean() > 0.99  # their shrinkage leaves the diagonal a little smaller
    plain = torch.from_numpy(theirs.set_params(shrinkage=None).fit(answers, target).covariance_)
    shrunk = plain + 0.02 * plain.trace() / CLASSES * torch.eye(CLASSES)
    torch.testing.assert_close(torch.linalg.inv(precision), shrunk.float(), rtol=1e-3, atol=1e-3)


def test_of_none_the_largest_answer_decides(clips: tuple[Tensor, Tensor]) -> None:
    answers, target = clips
    centred = answers - fit_discriminant(answers, target, 0)[0].mean(0)
    torch.testing.assert_close(
        decided(answers, *fit_discriminant(answers, target, 0)), centred.argmax(1)
    )
    assert not torch.equal(
        decided(answers, *fit_discriminant(answers, target, 8)), centred.argmax(1)
    )


def test_by_hand_two_classes_and_an_absent_one_of_two_speakers() -> None:
    """Means (1, -1, -1), (-1, 1, -1); even ones (1, -.5, -1.5), (-.5, 1, -1.5); half of each."""
    answers = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]).repeat(4, 1)
    means, precision = fit_discriminant(answers, torch.arange(8) % 2, 2)
    torch.testing.assert_close(means[:2], torch.tensor([[1, -0.75, -1.25], [-0.75, 1, -1.25]]))
    assert means.isfinite().all()
    # no errors of theirs, half of an even variance of .1, and 2 % of it
    torch.testing.assert_close(precision, torch.eye(3) / 0.051, rtol=1e-4, atol=0)
