"""Pooled layers of an encoder as the inputs of a linear model."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ser.batch import Batch
from ser.errors import SerError
from ser.models.base import chosen_layers, require, stream_shape


class PooledInputs:
    """One stream of pooled layers as a regression's inputs: layers × statistics × width, flat.

    Args:
        streams: trailing shapes of the streams given.
        stream: which of them.
        statistics: of the stream, in its order.
        layers: encoder layers used; a list, `all`, or `inner` for all but the first and the last.
    """

    def __init__(
        self,
        streams: Mapping[str, tuple[int, ...]],
        stream: str,
        statistics: Sequence[str],
        layers: Sequence[int] | str,
    ) -> None:
        n_layers, n_inputs = stream_shape("Ridge", streams, stream)
        self.stream, self.statistics = stream, list(statistics)
        self.layers = chosen_layers(layers, n_layers)
        self.width = n_inputs // len(self.statistics)
        self.size = len(self.layers) * n_inputs

    def views(
        self, option: str, views: Sequence[Sequence[str]], share: float, first: int = 0
    ) -> list[tuple[Tensor, float]]:
        """Positions of each view's inputs, the stream's beginning at `first`, and its weight."""
        grid = torch.arange(first, first + self.size)
        grid = grid.view(len(self.layers), len(self.statistics), self.width)
        if not views:
            raise SerError(f"model.{option}=[]: name at least one view.")
        chosen = []
        for view in views:
            unknown = [name for name in view if name not in self.statistics]
            if unknown or not view:
                raise SerError(
                    f"model.{option}={list(view)}: the feature gives {', '.join(self.statistics)}. "
                    "Name one or more of these, or add to feature.embedding.statistics."
                )
            columns = grid[:, [self.statistics.index(name) for name in view]].flatten()
            chosen.append((columns, share / len(views)))
        return chosen

    def inputs(self, batch: Batch) -> Tensor:
        """(batch, size), each statistic of a layer standardised."""
        chosen = require(getattr(batch, self.stream), self.stream)[:, self.layers].float()
        rows = chosen.view(*chosen.shape[:2], len(self.statistics), self.width)
        mean, deviation = rows.mean(3, keepdim=True), rows.std(3, keepdim=True)
        inputs: Tensor = ((rows - mean) / deviation.clamp(min=1e-6)).flatten(1)
        return inputs
