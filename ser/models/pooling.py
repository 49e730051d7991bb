"""Summaries over time that never see the padding."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

STD_FLOOR = 1e-5  # variance floor: keeps the gradient of the square root finite on silence
FLAT = 1e-4  # a feature that varies less is taken as constant


def mask_of(length: Tensor, size: int) -> Tensor:
    """True on a clip's own steps: lengths (batch,) -> (batch, size)."""
    return torch.arange(size, device=length.device) < length[:, None]


def masked_mean(sequence: Tensor, length: Tensor) -> Tensor:
    """Mean over each clip's own steps: (batch, time, width) -> (batch, width)."""
    mask = mask_of(length, sequence.shape[1])[..., None]
    count = length.clamp(min=1)[:, None].to(sequence.dtype)
    return sequence.masked_fill(~mask, 0).sum(1) / count


def masked_mean_std(sequence: Tensor, length: Tensor) -> Tensor:
    """Mean and population deviation, side by side: (batch, time, width) -> (batch, 2 * width)."""
    mean = masked_mean(sequence, length)
    variance = masked_mean((sequence - mean[:, None]).square(), length)
    return torch.cat([mean, variance.clamp(min=STD_FLOOR**2).sqrt()], dim=-1)


class AttentivePooling(nn.Module):
    """Weighted mean and deviation; the weights come from a small network over each step.

    Okabe et al., Attentive Statistics Pooling (INTERSPEECH 2018), section 3.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, sequence: Tensor, length: Tensor) -> Tensor:
        """(batch, time, width), (batch,) -> (batch, 2 * width)."""
        mask = mask_of(length, sequence.shape[1])[..., None]
        score = self.score(sequence).masked_fill(~mask, float("-inf"))
        weight = score.softmax(dim=1)
        sequence = sequence.masked_fill(~mask, 0)
        mean = (weight * sequence).sum(1)
        variance = (weight * (sequence - mean[:, None]).square()).sum(1)
        return torch.cat([mean, variance.clamp(min=STD_FLOOR**2).sqrt()], dim=-1)


class FrameScaler(nn.Module):
    """Standardise the frames by the train split or by the clip's own frames.

    `train` divides each feature by its own deviation, `global` all of them by one, `clip` each by
    its deviation in the clip.
    """

    KINDS = ("none", "train", "global", "clip")
    mean: Tensor
    deviation: Tensor

    def __init__(self, n_features: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def fit(self, clips: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take mean and deviation over all real frames of (frames, lengths) batches."""
        self.mean, self.deviation = running_statistics(
            frames[mask_of(length, frames.shape[1])] for frames, length in clips
        )

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        """(batch, time, features) -> the same, standardised."""
        if self.kind == "global":
            return (frames - self.mean) / self.deviation.square().mean().sqrt()
        if self.kind == "train":
            return (frames - self.mean) / self.deviation
        mean, deviation = masked_mean_std(frames, length)[:, None].chunk(2, dim=-1)
        return (frames - mean) / deviation.clamp(min=FLAT)


def running_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the first axis of all batches; a flat feature gets deviation 1."""
    count, mean, square = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double()  # merged in float64: Chan et al. (1983), pairwise update
        n, batch_mean = len(values), values.mean(0)
        delta = batch_mean - mean
        total = count + n
        square = square + (values - batch_mean).square().sum(0) + delta**2 * (count * n / total)
        mean, count = mean + delta * (n / total), total
    deviation = (square / max(count, 1)).sqrt()
    flat = torch.where(deviation > FLAT, deviation, torch.ones_like(deviation))
    return mean.float(), flat.float()
