"""TIM-Net: gated causal blocks over the frames, read in both directions.

Ye et al., Temporal Modeling Matters (ICASSP 2023, arXiv 2211.08233), section 2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser.batch import Batch
from ser.models.base import Batches, EmotionModel, check_choice, require, stream_shape
from ser.models.packed import CausalConv, Norm, Packing, conv_norm_relu, round_up
from ser.models.pooling import FrameScaler

BATCH_NORM_EPSILON = 1e-3  # Keras's default, which the published model uses


class TemporalBlock(nn.Module):
    """Twice [causal convolution, BatchNorm, ReLU, channel dropout], a sigmoid, times the input."""

    def __init__(self, width: int, dilation: int, dropout: float, momentum: float) -> None:
        super().__init__()
        self.conv1 = CausalConv(width, dilation)
        self.norm1 = Norm(width, BATCH_NORM_EPSILON, momentum)
        self.conv2 = CausalConv(width, dilation)
        self.norm2 = Norm(width, BATCH_NORM_EPSILON, momentum)
        self.dropout = dropout

    def forward(self, rows: Tensor, packing: Packing, has_past: Tensor) -> Tensor:
        """(steps, width) -> (steps, width)."""
        hidden = conv_norm_relu(
            rows, self.conv1, self.norm1, self._factor(rows, packing), packing, has_past
        )
        hidden = conv_norm_relu(
            hidden, self.conv2, self.norm2, self._factor(rows, packing), packing, has_past
        )
        return rows * hidden.sigmoid()

    def _factor(self, rows: Tensor, packing: Packing) -> Tensor | None:
        """Channel dropout: one draw for each clip and channel, 0 or 1 / (1 - dropout)."""
        if not self.training or self.dropout == 0:
            return None
        return F.dropout(rows.new_ones(len(packing.lengths), rows.shape[1]), self.dropout)


class TemporalBranch(nn.Module):
    """One direction: the stem, then blocks of dilation 1, 2, 4, ..."""

    def __init__(
        self,
        n_features: int,
        width: int,
        n_blocks: int,
        dropout: float,
        momentum: float,
        deviation: bool,
    ) -> None:
        super().__init__()
        self.deviation = deviation
        self.stem = nn.Conv1d(n_features, width, 1)
        self.blocks = nn.ModuleList(
            TemporalBlock(width, 2**j, dropout, momentum) for j in range(n_blocks)
        )

    def forward(self, rows: Tensor, packing: Packing, pasts: list[Tensor]) -> list[Tensor]:
        """(steps, n_features) -> each block's mean over the clip, (batch, width) each."""
        width = self.stem.out_channels
        extra = round_up(width) - width
        assert self.stem.bias is not None
        weight = F.pad(self.stem.weight[..., 0], (0, 0, 0, extra))
        rows = F.linear(rows, weight, F.pad(self.stem.bias, (0, extra)))
        summaries = []
        for block, past in zip(self.blocks, pasts, strict=True):
            rows = block(rows, packing, past)
            mean = packing.mean(rows)
            parts = [mean, packing.deviation(rows, mean)] if self.deviation else [mean]
            summaries.append(torch.cat([part[:, :width] for part in parts], 1))
        return summaries


class TimNet(EmotionModel):
    """TIM-Net over the stream `frames`; as published with masked=false, normalise=none.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        width: channels; null takes the number of features, as published.
        n_blocks: blocks a direction.
        dropout: of whole channels, in the blocks.
        norm_momentum: share of a new batch in the running statistics; 0.01 as published, which in
            a run of under a thousand steps leaves them behind the weights.
        deviation: summarise a clip by its frames' deviation too; false as published.
        summary_norm: normalise the clip's summary over the batch; false as published.
        head_dropout: of the clip's summary, before the classes; 0 as published.
        masked: leave padding out of the reversal, the statistics and the means.
        normalise: none, `global` (each feature's mean and one deviation for all of them, both of
            the train split: low coefficients keep their larger share), `train` (mean and
            deviation of each feature on the train split) or
            `clip` (of the clip itself, which takes the microphone and the level away).
        lr_factor: of the optimizer's learning rate, for this arm.
        jitter: in training, deviation of a random offset of each of a clip's features: another
            voice or microphone; 0 as published.
    """

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        width: int | None,
        n_blocks: int,
        dropout: float,
        norm_momentum: float,
        deviation: bool,
        summary_norm: bool,
        head_dropout: float,
        masked: bool,
        normalise: str,
        jitter: float,
        lr_factor: float,
    ) -> None:
        super().__init__(n_classes, {"frames"})
        (n_features,) = stream_shape("TimNet", streams, "frames")
        width = width or n_features
        self.masked, self.n_blocks, self.jitter = masked, n_blocks, jitter
        self.lr_factor = lr_factor
        check_choice("normalise", normalise, FrameScaler.KINDS)
        self.scaler = None if normalise == "none" else FrameScaler(n_features, normalise)
        self.forward_branch = TemporalBranch(
            n_features, width, n_blocks, dropout, norm_momentum, deviation
        )
        self.backward_branch = TemporalBranch(
            n_features, width, n_blocks, dropout, norm_momentum, deviation
        )
        self.fusion = nn.Parameter(torch.full((n_blocks,), 1.0 / n_blocks))
        self.head_dropout = nn.Dropout(head_dropout)
        self.n_outputs = 2 * width if deviation else width
        self.summary_norm = nn.BatchNorm1d(self.n_outputs) if summary_norm else None
        self.head = nn.Linear(self.n_outputs, n_classes)

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """The streams read under these options."""
        return frozenset({"frames"})

    @property
    def receptive_field(self) -> int:
        """Frames that one output frame sees in one direction: two taps, twice a block."""
        return int(2 ** (self.n_blocks + 1) - 1)

    def learning_rates(self) -> list[tuple[float, list[nn.Parameter]]]:
        """One group, at the arm's own rate."""
        return [(self.lr_factor, list(self.parameters()))]

    def fit(self, batches: Batches) -> None:
        """Take the features' statistics over the train split."""
        if self.scaler is not None:
            self.scaler.fit(
                (require(b.frames, "frames"), require(b.frames_length, "frames_length"))
                for b in batches()
            )

    def scales(self, batch: Batch) -> Tensor:
        """The dynamic summary of each block, g_j: (batch, n_blocks, width)."""
        frames = require(batch.frames, "frames")
        length = require(batch.frames_length, "frames_length")
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            if self.scaler is not None:
                frames = self.scaler(frames, length)
            if self.training and self.jitter:
                frames = frames + self.jitter * torch.randn_like(frames[:, :1])
            if not self.masked:
                length = torch.full_like(length, frames.shape[1])
            packing = Packing(length)
            rows = packing.pack(frames)
            pasts = [packing.has_past(2**j) for j in range(self.n_blocks)]
            ahead = self.forward_branch(rows, packing, pasts)
            mirrored = rows.index_select(0, packing.reversed_rows())
            back = self.backward_branch(mirrored, packing, pasts)
            return torch.stack(ahead, 1) + torch.stack(back, 1)

    def summary(self, batch: Batch) -> Tensor:
        """The blocks' weighted sum: (batch, width)."""
        summary = torch.einsum("bjw,j->bw", self.scales(batch), self.fusion)
        return summary if self.summary_norm is None else self.summary_norm(summary)

    def classify(self, summary: Tensor) -> Tensor:
        """(batch, width) -> logits (batch, n_classes)."""
        logits: Tensor = self.head(self.head_dropout(summary))
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        return self.classify(self.summary(batch))
