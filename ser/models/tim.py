"""TIM-Net: gated causal blocks over the frames, read in both directions.

Ye et al., Temporal Modeling Matters (ICASSP 2023, arXiv 2211.08233), section 2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser.batch import Batch
from ser.errors import SerError
from ser.loss import Mixed, draw_pairs
from ser.models.base import Batches, EmotionModel, check_choice, require, stream_shape
from ser.models.pooling import FrameScaler
from ser.models.temporal import run_blocks, train_blocks
from ser.models.temporal_batch import clips_of

BATCH_NORM_EPSILON = 1e-3  # Keras's default, which the published model uses
ROUND = 8  # channels are rounded up: products over 40 take 2/3 of the time of those over 39


class TemporalBlocks(nn.Module):
    """The stem and the gated blocks of both directions, their parameters side by side.

    A block of dilation 1, 2, 4, ...: twice [causal convolution of kernel 2, BatchNorm, ReLU,
    channel dropout], a sigmoid, times the block's input. Initial values are those of `nn.Conv1d`.

    Args:
        n_features: features of a frame.
        width: channels.
        n_blocks: blocks a direction.
        dropout, norm_momentum, deviation: as in `TimNet`.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self,
        n_features: int,
        width: int,
        n_blocks: int,
        dropout: float,
        norm_momentum: float,
        deviation: bool,
    ) -> None:
        super().__init__()
        self.dropout, self.norm_momentum, self.deviation = dropout, norm_momentum, deviation
        self.added = -width % ROUND  # channels, 0 throughout
        stems, taps, biases = [], [], []
        for _ in range(2):
            stem = nn.Conv1d(n_features, width, 1)
            convolutions = [nn.Conv1d(width, width, 2) for _ in range(2 * n_blocks)]
            stems.append(torch.cat([stem.weight[..., 0].T, _bias(stem)[None]]))
            taps.append(torch.stack([one.weight.permute(2, 1, 0) for one in convolutions]))
            biases.append(torch.stack([_bias(one) for one in convolutions]))
        of_each = (n_blocks, 2, 2, width)
        self.stem = _parameter(torch.stack(stems))  # (2 directions, n_features + 1, width)
        # (blocks, 2 convolutions, 2 directions, 2 taps, in, out), the past tap first
        self.taps = _parameter(torch.stack(taps, 1).view(*of_each[:3], 2, width, width))
        self.bias = _parameter(torch.stack(biases, 1).view(of_each))
        self.gamma, self.beta = _parameter(torch.ones(of_each)), _parameter(torch.zeros(of_each))
        self.register_buffer("running_mean", torch.zeros(of_each))
        self.register_buffer("running_variance", torch.ones(of_each))

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        """(batch, time, features) -> each block's summary, (batch, n_blocks, width or twice)."""
        order = length.argsort(stable=True)
        length = length[order]
        clips = clips_of(length, frames.shape[1], frames.dtype)
        read = _read_both_ways(frames, length, order)
        stem, taps, bias, gamma, beta = self.weights()
        pasts = [2**j * len(length) for j in range(len(taps))]
        if self.training:
            keep = self._keep(gamma, len(length))
            summaries, mean, variance = train_blocks(
                read, stem, taps, bias, gamma, beta, keep, clips, pasts, BATCH_NORM_EPSILON,
                self.deviation,
            )  # fmt: skip
            width = self.gamma.shape[-1]
            self.running_mean.lerp_(mean[..., :width], self.norm_momentum)
            self.running_variance.lerp_(variance[..., :width], self.norm_momentum)
        else:
            mean, variance = self.statistics()
            scale = gamma * (variance + BATCH_NORM_EPSILON).rsqrt()
            bias = (bias - mean) * scale + beta
            taps = taps * scale[..., None, None, :]
            summaries = run_blocks(read, stem, taps, bias, clips, pasts, self.deviation)
        both = summaries.sum(1).transpose(0, 1).index_select(0, order.argsort())
        if not self.added:
            return both
        parts = both.chunk(2 if self.deviation else 1, -1)  # mean, and deviation
        return torch.cat([part[..., : -self.added] for part in parts], -1)

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Stem, taps, bias, gamma and beta as `train_blocks` takes them; channels added are 0."""
        taps = F.pad(self.taps, (0, self.added, 0, self.added))
        stem, bias, gamma, beta = map(self._widened, (self.stem, self.bias, self.gamma, self.beta))
        return stem, taps, bias, gamma, beta

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance, shaped as gamma."""
        return self._widened(self.running_mean), self._widened(self.running_variance)

    def _widened(self, values: Tensor) -> Tensor:
        return F.pad(values, (0, self.added))

    def _keep(self, like: Tensor, n_clips: int) -> Tensor | None:
        """Channel dropout: one draw for each clip and channel, 0 or 1 / (1 - dropout)."""
        if self.dropout == 0:
            return None
        return F.dropout(like.new_ones(*like.shape[:-1], n_clips, like.shape[-1]), self.dropout)


def _bias(convolution: nn.Conv1d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().contiguous())


def _read_both_ways(frames: Tensor, length: Tensor, order: Tensor) -> Tensor:
    """As each direction reads them, (2, time, batch, features + 1), the last one 1; 0 on padding.

    frames (batch, time, features); length (batch,) of the clips as ordered.
    """
    n_clips, time, n_features = frames.shape
    steps = torch.arange(time, device=frames.device)[:, None]
    places = order * time + torch.stack([steps.expand(-1, n_clips), length - 1 - steps])
    rows = F.pad(frames.flatten(0, 1), (0, 1, 0, 1))
    rows[:-1, n_features] = 1
    return F.embedding(torch.where(steps < length, places, n_clips * time), rows)


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
        mixup: in training, the alpha of Beta(alpha, alpha), from which the share of each clip's
            summary in a mixture with another one's is drawn (manifold mixup at this one layer,
            Verma et al., ICML 2019, section 2); 0 mixes nothing, as published.
        masked: leave padding out of the reversal, the statistics and the means.
        normalise: none, `global` (each feature's mean and one deviation for all of them, both of
            the train split: low coefficients keep their larger share), `train` (mean and
            deviation of each feature on the train split) or
            `clip` (of the clip itself, which takes the microphone and the level away).
        lr_factor: of the optimizer's learning rate, for this arm.
        jitter: in training, deviation of a random offset of each of a clip's features: another
            voice or microphone; 0 as published.
        voices: outside training, the vocal tracts that a clip is heard from, frames (batch, time,
            features) to (voices, batch, time, features); its summary is the mean of theirs. None
            for the clip alone, as published.
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
        mixup: float,
        masked: bool,
        normalise: str,
        jitter: float,
        lr_factor: float,
        voices: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(n_classes, {"frames"})
        (n_features,) = stream_shape("TimNet", streams, "frames")
        width = width or n_features
        if voices is not None:
            voices(torch.zeros(1, 1, n_features))  # frames that it cannot take show here
        self.masked, self.jitter, self.lr_factor, self.voices = masked, jitter, lr_factor, voices
        if not 0 <= dropout < 1:
            raise SerError(f"model.dropout={dropout}: a probability from 0 to below 1.")
        if mixup < 0:
            raise SerError(f"model.mixup={mixup}: alpha is above 0, or 0 to mix nothing.")
        check_choice("normalise", normalise, FrameScaler.KINDS)
        self.scaler = None if normalise == "none" else FrameScaler(n_features, normalise)
        self.mixup = mixup
        self.blocks = TemporalBlocks(n_features, width, n_blocks, dropout, norm_momentum, deviation)
        self.fusion = nn.Parameter(torch.full((n_blocks,), 1.0 / n_blocks))
        self.head_dropout = nn.Dropout(head_dropout)
        self.n_outputs = 2 * width if deviation else width
        self.summary_norm = nn.BatchNorm1d(self.n_outputs) if summary_norm else None
        self.head = nn.Linear(self.n_outputs, n_classes)

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """The streams read under these options."""
        return frozenset({"frames"})

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
            frames = frames.to(self.fusion.dtype)  # float32
            if self.scaler is not None:
                frames = self.scaler(frames, length)
            if self.training and self.jitter:
                frames = frames + self.jitter * torch.randn_like(frames[:, :1])
            if not self.masked:
                length = torch.full_like(length, frames.shape[1])
            summaries: Tensor = self.blocks(frames, length)
            return summaries

    def summary(self, batch: Batch) -> Tensor:
        """The blocks' weighted sum: (batch, width)."""
        heard = 1
        if self.voices is not None and not self.training:
            frames = self.voices(require(batch.frames, "frames"))
            length = require(batch.frames_length, "frames_length")
            heard = len(frames)
            batch = batch._replace(frames=frames.flatten(0, 1), frames_length=length.repeat(heard))
        summary = torch.einsum("bjw,j->bw", self.scales(batch), self.fusion)
        if self.summary_norm is not None:
            summary = self.summary_norm(summary)
        return summary.view(heard, -1, self.n_outputs).mean(0)

    def classify(self, summary: Tensor) -> Tensor:
        """(batch, width) -> logits (batch, n_classes)."""
        logits: Tensor = self.head(self.head_dropout(summary))
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        return self.classify(self.summary(batch))

    def training_logits(self, batch: Batch) -> Sequence[Tensor | Mixed]:
        """With `mixup` the logits as they are, without a gradient, and those of the mixtures."""
        summary = self.summary(batch)
        logits = self.classify(summary)
        return [logits.detach(), self.classify_mixed(summary)] if self.mixup else [logits]

    def classify_mixed(self, summary: Tensor) -> Tensor | Mixed:
        """(batch, width) -> logits of what the loss is applied to."""
        if not self.mixup:
            return self.classify(summary)
        partner, share = draw_pairs(len(summary), self.mixup, summary.device)
        mixed = torch.lerp(summary[partner], summary, share)
        return Mixed(self.classify(mixed), partner, share)
