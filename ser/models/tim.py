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
from ser.models.pooling import FrameScaler, mask_of
from ser.models.temporal import run_blocks, train_blocks
from ser.models.temporal_rows import clips_of

BATCH_NORM_EPSILON = 1e-3  # Keras's default, which the published model uses
ROUND = 8  # matrix products over 40 columns take 2/3 of the time of those over 39


class CausalConv(nn.Module):
    """The parameters of a causal convolution of kernel 2: weight (out, in, 2), [..., 1] is now."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        like = nn.Conv1d(width, width, 2, dilation=dilation)  # PyTorch's initial values
        assert like.bias is not None
        self.weight, self.bias = like.weight, like.bias


class Norm(nn.Module):
    """The state of a batch normalisation."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))


class TemporalBlock(nn.Module):
    """Twice [causal convolution, BatchNorm, ReLU, channel dropout], a sigmoid, times the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = CausalConv(width, dilation), Norm(width)
        self.conv2, self.norm2 = CausalConv(width, dilation), Norm(width)


class TemporalBranch(nn.Module):
    """The parameters of one direction: the stem, then blocks of dilation 1, 2, 4, ..."""

    def __init__(self, n_features: int, width: int, n_blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(n_features, width, 1)
        self.blocks = nn.ModuleList(TemporalBlock(width, 2**j) for j in range(n_blocks))


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
        self.masked, self.n_blocks, self.jitter = masked, n_blocks, jitter
        self.lr_factor, self.voices = lr_factor, voices
        if not 0 <= dropout < 1:
            raise SerError(f"model.dropout={dropout}: a probability from 0 to below 1.")
        if mixup < 0:
            raise SerError(f"model.mixup={mixup}: alpha is above 0, or 0 to mix nothing.")
        check_choice("normalise", normalise, FrameScaler.KINDS)
        self.scaler = None if normalise == "none" else FrameScaler(n_features, normalise)
        self.width, self.dropout, self.deviation = width, dropout, deviation
        self.norm_momentum, self.mixup = norm_momentum, mixup
        self.forward_branch = TemporalBranch(n_features, width, n_blocks)
        self.backward_branch = TemporalBranch(n_features, width, n_blocks)
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
            both = self._summaries(self._stems(frames, length), length).sum(1)
            parts = torch.split(both, round_up(self.width), -1)  # mean, and deviation
            return torch.cat([part[..., : self.width] for part in parts], -1).transpose(0, 1)

    def _stems(self, frames: Tensor, length: Tensor) -> Tensor:
        """(batch, time, features) -> rows as read in each direction, (2, time, batch, channels)."""
        mask = mask_of(length, frames.shape[1])[..., None]
        steps = torch.arange(frames.shape[1], device=length.device)
        mirror = (length[:, None] - 1 - steps).clamp(min=0)[..., None]  # (batch, time, 1)
        mirrored = frames.gather(1, mirror.expand_as(frames))
        both = torch.stack([frames, mirrored]).transpose(1, 2)  # (2, time, batch, features)
        weight, bias = self.stem_weights()
        rows = torch.baddbmm(bias, both.flatten(1, 2), weight).view(*both.shape[:3], -1)
        return rows if bool(mask.all()) else rows * mask.transpose(0, 1)

    def _summaries(self, rows: Tensor, length: Tensor) -> Tensor:
        """(2, time, batch, channels) -> each block's, (n_blocks, 2, batch, channels or twice)."""
        clips = clips_of(length, rows.shape[1], rows.dtype)
        pasts = [2**j * len(length) for j in range(self.n_blocks)]
        taps, bias, gamma, beta = self.block_weights()
        if not self.training:
            mean, variance = self.block_statistics()
            scale = gamma * (variance + BATCH_NORM_EPSILON).rsqrt()
            bias = (bias - mean) * scale + beta
            taps = taps * scale[..., None, None, :]
            return run_blocks(rows, taps, bias, clips, pasts, self.deviation)
        summaries, mean, variance = train_blocks(
            rows, taps, bias, gamma, beta, self._keep(gamma, len(length)), clips, pasts,
            BATCH_NORM_EPSILON, self.deviation,
        )  # fmt: skip
        each = zip(self._layers()[1], mean.flatten(0, 2), variance.flatten(0, 2), strict=True)
        for norm, new, var in each:
            norm.running_mean.lerp_(new[: self.width], self.norm_momentum)
            norm.running_var.lerp_(var[: self.width], self.norm_momentum)
        return summaries

    def stem_weights(self) -> tuple[Tensor, Tensor]:
        """Both directions': (2, n_features, channels) and (2, 1, channels)."""
        stems = [self.forward_branch.stem, self.backward_branch.stem]
        weight = torch.stack([stem.weight[..., 0].T for stem in stems])
        bias = torch.stack([stem.bias for stem in stems if stem.bias is not None])[:, None]
        extra = (0, round_up(self.width) - self.width)
        return F.pad(weight, extra), F.pad(bias, extra)

    def block_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Taps, bias, gamma and beta as `train_blocks` takes them; channels added are 0."""
        convs, norms = self._layers()
        weight = torch.stack([conv.weight for conv in convs])
        extra = round_up(self.width) - self.width
        weight = weight.view(self.n_blocks, 2, 2, *weight.shape[1:]).permute(0, 1, 2, 5, 4, 3)
        taps = F.pad(weight, (0, extra, 0, extra))  # (n_blocks, 2, 2, 2 taps, in, out)
        gamma = self._stacked([norm.gamma for norm in norms])
        beta = self._stacked([norm.beta for norm in norms])
        return taps, self._stacked([conv.bias for conv in convs]), gamma, beta

    def block_statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance, shaped as gamma."""
        _, norms = self._layers()
        mean = self._stacked([norm.running_mean for norm in norms])
        return mean, self._stacked([norm.running_var for norm in norms])

    def _layers(self) -> tuple[list[CausalConv], list[Norm]]:
        """By block, place in the block and direction, as the fast arithmetic has them."""
        branches = (self.forward_branch.blocks, self.backward_branch.blocks)
        pairs: Any = list(zip(*branches, strict=True))
        convs = [c for pair in pairs for c in (*(b.conv1 for b in pair), *(b.conv2 for b in pair))]
        norms = [n for pair in pairs for n in (*(b.norm1 for b in pair), *(b.norm2 for b in pair))]
        return convs, norms

    def _stacked(self, vectors: list[Tensor]) -> Tensor:
        """(n_blocks, 2, 2, channels); what is added is 0."""
        both = torch.stack(vectors).view(self.n_blocks, 2, 2, -1)
        return F.pad(both, (0, round_up(self.width) - self.width))

    def _keep(self, like: Tensor, n_clips: int) -> Tensor | None:
        """Channel dropout: one draw for each clip and channel, 0 or 1 / (1 - dropout)."""
        if self.dropout == 0:
            return None
        return F.dropout(like.new_ones(*like.shape[:-1], n_clips, like.shape[-1]), self.dropout)

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


def round_up(width: int) -> int:
    """The width that matrix products are fast on."""
    return -(-width // ROUND) * ROUND
