"""Ridge regression in the space of the inputs: its time and memory are linear in the clips."""

import torch
from torch import Tensor

from ser.models.least_squares import Regression
from ser.onednn import linear

_ROWS = 8_192  # clips whose products are summed in float32 before they join the others in float64


class PrimalRidge:
    """Sums over all clips, from which those of clips left out are taken.

    Args:
        inputs: (clips, inputs), float32.
        regression: the rest of the problem.
    """

    def __init__(self, inputs: Tensor, regression: Regression) -> None:
        self.inputs, self.regression = inputs, regression
        self.speakers = (regression.owner.T.float() @ inputs).double()
        self.sums = self._sums(torch.arange(len(inputs)))

    def solution(self) -> tuple[Tensor, Tensor]:
        """Weights (inputs, classes) and the constant (classes,) of all clips, float64."""
        return self._solve(self.sums, self.regression.others(None))

    def answers(self, fold: Tensor) -> Tensor:
        """To these clips (their positions), solved without them: (fold, classes), float64."""
        rest = [whole - mine for whole, mine in zip(self.sums, self._sums(fold), strict=True)]
        weight, constant = self._solve(rest, self.regression.others(fold))
        return self.inputs[fold] @ weight.float() + constant

    def _sums(self, clips: Tensor) -> list[Tensor]:
        """Weighted: each class's clips, the sums of its inputs, and the inputs' products."""
        task, size = self.regression, self.inputs.shape[1]
        number = torch.zeros(task.n_classes, dtype=torch.float64)
        first = torch.zeros(task.n_classes, size, dtype=torch.float64)
        second = torch.zeros(size, size, dtype=torch.float64)
        for part in torch.split(clips, _ROWS):
            rows, weight = self.inputs[part], task.clip_weight[part, None]
            share = task.one_hot[part] * weight
            number += share.sum(0)
            first += share.float().T @ rows
            rows = rows * weight.sqrt().float()
            second += linear(rows.T, rows.T)
        return [number, first, second]

    def _solve(self, sums: list[Tensor], others: Tensor) -> tuple[Tensor, Tensor]:
        task, (number, first, second) = self.regression, sums
        total, mean = number.sum(), first.sum(0) / number.sum()
        signs = 2.0 * torch.eye(task.n_classes, dtype=torch.float64) - 1.0
        constant = number @ signs / total
        system = second - total * mean[:, None] * mean
        system.diagonal().add_(task.penalty)
        classes = first / number.clamp(min=1e-12)[:, None]
        direction = self.speakers[others] - task.mixture[others] @ classes
        direction = task.strongest(direction @ direction.T) @ direction
        columns = torch.cat([first.T @ signs - total * mean[:, None] * constant, direction.T], 1)
        solved = torch.cholesky_solve(columns, torch.linalg.cholesky(system))
        weight, shadow = solved[:, : task.n_classes], solved[:, task.n_classes :]
        weight = weight - shadow @ torch.linalg.solve(direction @ shadow, direction @ weight)
        return weight, constant - mean @ weight
