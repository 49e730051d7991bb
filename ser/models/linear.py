"""The control row: logistic regression on a frozen encoder's pooled layers."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ser.batch import Batch
from ser.models.base import Batches, EmotionModel, chosen_layers, require, stream_shape
from ser.models.pooling import running_statistics

UNSEEN = -1e4  # logit of a class without a training clip


class Linear(EmotionModel):
    """scikit-learn's logistic regression, fitted once on the train split; its weights are buffers.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        layers: encoder layers used, side by side, 0 being the transformer's input;
            `all`, or `inner` for all but the first and the last.
        inverse_penalty: scikit-learn's C.
        max_iterations: of the solver.
    """

    trainable: ClassVar[bool] = False
    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        layers: Sequence[int] | str,
        inverse_penalty: float,
        max_iterations: int,
    ) -> None:
        super().__init__(n_classes, self.reads_of({}))
        n_layers, n_inputs = stream_shape("Linear", streams, "embedding")
        self.layers = chosen_layers(layers, n_layers)
        self.inverse_penalty, self.max_iterations = inverse_penalty, max_iterations
        self.register_buffer("mean", torch.zeros(len(self.layers), n_inputs))
        self.register_buffer("deviation", torch.ones(len(self.layers), n_inputs))
        self.register_buffer("weight", torch.zeros(len(self.layers) * n_inputs, n_classes))
        self.register_buffer("bias", torch.zeros(n_classes))

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Pooled embeddings."""
        return frozenset({"embedding"})

    @property
    def refits(self) -> bool:
        """It chooses nothing on validation."""
        return True

    def fit(self, batches: Batches) -> None:
        """Standardise and solve.

        The penalty does not change under a rotation, so the problem is solved in the span of the
        clips, which has fewer dimensions than the embedding: the same weights, much sooner.
        """
        whole = list(batches())
        embedding = torch.cat([self._chosen(batch).cpu() for batch in whole])
        target = torch.cat([batch.target for batch in whole]).cpu().numpy()
        self.mean, self.deviation = (
            value.to(self.mean.device) for value in running_statistics([embedding])
        )
        scaled = ((embedding - self.mean.cpu()) / self.deviation.cpu()).flatten(1)
        left, length, axes = torch.linalg.svd(scaled, full_matrices=False)
        weight, bias = self._solve((left * length).numpy(), target)
        self.weight = (axes.T @ weight).to(self.weight.device)
        self.bias = bias.to(self.bias.device)

    def _solve(self, inputs: np.ndarray, target: np.ndarray) -> tuple[Tensor, Tensor]:
        """(clips, dimensions), (clips,) -> weight (dimensions, n_classes), bias (n_classes,)."""
        from sklearn.linear_model import LogisticRegression

        solved = LogisticRegression(C=self.inverse_penalty, max_iter=self.max_iterations)
        solved.fit(inputs, target)
        return class_weights(solved, inputs.shape[1], self.n_classes)

    def _chosen(self, batch: Batch) -> Tensor:
        return require(batch.embedding, "embedding")[:, self.layers].float()

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        scaled = (self._chosen(batch) - self.mean) / self.deviation
        return scaled.flatten(1) @ self.weight + self.bias


def class_weights(solved: Any, n_inputs: int, n_classes: int) -> tuple[Tensor, Tensor]:
    """A fitted scikit-learn classifier as weight (n_inputs, n_classes) and bias (n_classes,)."""
    coefficients, intercepts = solved.coef_, solved.intercept_
    if len(solved.classes_) == 2:  # one row, for the second class; the first one's logit is 0
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
    weight = torch.zeros(n_inputs, n_classes)
    bias = torch.full((n_classes,), UNSEEN)
    weight[:, solved.classes_] = torch.as_tensor(coefficients.T, dtype=torch.float32)
    bias[solved.classes_] = torch.as_tensor(intercepts, dtype=torch.float32)
    return weight, bias
