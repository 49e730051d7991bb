"""Ridge regression in the span of the clips: where these are not many times the inputs."""

import torch
from scipy.linalg import lapack
from torch import Tensor

from ser.errors import SerError
from ser.models.least_squares import Regression
from ser.onednn import linear


class DualRidge:
    """One inverse for all clips, from which the answers to clips left out follow.

    With K the inner products of the clips' inputs, c the clips' weights and p the penalty, solving
    without the clips F takes the inverse of a part of A = K + diag(p / c). The blocks of the whole
    one, G, give it: for columns B, with Z = G B and R from G[F, F] R = Z[F],

        K[F, rest] inv(A[rest, rest]) B[rest] = B[F] - R,
        B[rest].T inv(A[rest, rest]) B[rest] = B.T Z - R.T Z[F]

    (An, Liu & Venkatesh, Pattern Recognition 40, 2007, have the first for the targets alone). So a
    fold costs the cube of its own clips. Of the columns' inner products the constant and the
    multipliers follow, which keep the weights orthogonal to the speakers' directions.

    Args:
        inputs: (clips, inputs), float32.
        regression: the rest of the problem.
    """

    def __init__(self, inputs: Tensor, regression: Regression) -> None:
        self.inputs, self.regression = inputs, regression
        one_hot, weight = regression.one_hot, regression.clip_weight[:, None]
        self.gram = linear(inputs, inputs).double()
        self.ease = regression.penalty / weight
        system = self.gram.clone()
        system.diagonal().add_(self.ease[:, 0])
        self.inverse = _inverse(system)
        # directions are made of these: the speakers' means, then the classes' sums
        self.basis = torch.cat([regression.owner, one_hot * weight], 1)
        fixed = torch.cat([2.0 * one_hot - 1.0, torch.ones_like(weight)], 1)
        self.columns = torch.cat([fixed, self.gram @ self.basis], 1)
        self.solved = self.inverse @ self.columns
        self.inner = self.columns.T @ self.solved
        self.basis_inner = self.basis.T @ self.columns[:, fixed.shape[1] :]

    def solution(self) -> tuple[Tensor, Tensor]:
        """Weights (inputs, classes) and the constant (classes,) of all clips, float64."""
        step, shadow = self._step(self.inner, self.basis_inner, self._directions(None, None))
        coefficients = self.solved @ step - self.basis @ shadow
        return self.inputs.T.double() @ coefficients, -step[self.regression.n_classes]

    def answers(self, fold: Tensor) -> Tensor:
        """To these clips (their positions), solved without them: (fold, classes), float64."""
        n = self.regression.n_classes
        both = fold[:, None], fold
        gram, inverse = self.gram[both], self.inverse[both]
        columns, solved = self.columns[fold], self.solved[fold]
        lost = self.basis[fold][:, -n:]  # from the classes' sums
        eased = self.ease[fold] * lost
        of_lost = lost - inverse @ eased  # solved, of the columns gram @ lost
        inner = _bordered(
            self.inner,
            columns.T @ lost - solved.T @ eased,
            (gram @ lost).T @ lost - of_lost.T @ eased,
        )
        basis_inner = _bordered(
            self.basis_inner, columns[:, n + 1 :].T @ lost, lost.T @ gram @ lost
        )
        solved = torch.cat([solved, of_lost], 1)
        rest = torch.cholesky_solve(solved, torch.linalg.cholesky(inverse))
        inner = inner - rest.T @ solved
        step, _ = self._step(inner, basis_inner, self._directions(fold, lost.sum(0)))
        return columns[:, :n] - rest @ step

    def _directions(self, fold: Tensor | None, lost: Tensor | None) -> Tensor:
        """(speakers, basis): each speaker's mean less the classes' means, of the clips not lost."""
        task = self.regression
        others = task.others(fold)
        means = torch.eye(len(task.mixture), dtype=torch.float64)[others]
        total = task.clip_weight @ task.one_hot
        if lost is None:
            return torch.cat([means, -task.mixture[others] / total.clamp(min=1e-12)], 1)
        shares = task.mixture[others] / (total - lost).clamp(min=1e-12)
        return torch.cat([means, -shares, shares], 1)

    def _step(self, inner: Tensor, basis_inner: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """What the columns weigh in the clips' errors, and the basis in the projection.

        The constant b and the multipliers m of the directions D solve, over the columns 1, targets
        y and D, with <u, v> = u.T inv(A) v,

            <1, y> = <1, 1> b - <1, D> m,   <D, y> = <D, 1> b + (D.T D - <D, D>) m.
        """
        n = self.regression.n_classes
        direction = self.regression.strongest(direction @ basis_inner @ direction.T) @ direction
        change = torch.zeros(1 + len(direction), len(inner) - n, dtype=torch.float64)
        change[0, 0], change[1:, 1:] = 1.0, direction
        system = change @ inner[n:, n:] @ change.T
        system[1:, 1:] = direction @ basis_inner @ direction.T - system[1:, 1:]
        system[0, 1:] *= -1
        found = torch.linalg.solve(system, change @ inner[n:, :n])
        shadow = direction.T @ found[1:]
        return torch.cat([torch.eye(n, dtype=torch.float64), -found[:1], shadow]), shadow


def _inverse(system: Tensor) -> Tensor:
    """Of a symmetric matrix, which is overwritten: in half of torch's time on AMD's processors."""
    factor, failed = lapack.dpotrf(system.numpy().T, overwrite_a=True)
    if not failed:
        half, failed = lapack.dpotri(factor, overwrite_c=True)  # its upper triangle
    if failed:
        raise SerError("model.penalty is too small for these clips: the ridge has no one solution.")
    upper = torch.from_numpy(half).triu()
    return upper + upper.triu(1).T


def _bordered(inner: Tensor, across: Tensor, corner: Tensor) -> Tensor:
    return torch.cat([torch.cat([inner, across], 1), torch.cat([across.T, corner], 1)])
