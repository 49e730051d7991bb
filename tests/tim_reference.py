"""TIM-Net by PyTorch's own layers, and its weights by layer, which the tests compare ours with."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ser.models.temporal_rows import FLOOR
from ser.models.tim import TimNet


def joined_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights named by direction, block and layer, as the network holds them."""

    def of_blocks(name: str) -> torch.Tensor:
        places = [(f"block{block}", half) for block in range(1, 9) for half in (1, 2)]
        directions = [
            torch.stack([state[f"{d}.{block}.{name.format(half)}"] for block, half in places])
            for d in ("forward", "backward")
        ]
        return torch.stack(directions, 1).unflatten(0, (8, 2))

    stems = [
        torch.cat([state[f"{d}.stem.weight"][..., 0].T, state[f"{d}.stem.bias"][None]])
        for d in ("forward", "backward")
    ]
    return {
        "blocks.stem": torch.stack(stems),
        "blocks.taps": of_blocks("conv{}.weight").permute(0, 1, 2, 5, 4, 3),
        "blocks.bias": of_blocks("conv{}.bias"),
        "blocks.gamma": of_blocks("norm{}.gamma"),
        "blocks.beta": of_blocks("norm{}.beta"),
        "blocks.running_mean": of_blocks("norm{}.running_mean"),
        "blocks.running_variance": of_blocks("norm{}.running_var"),
        "fusion": state["fusion.weight"],
        "head.weight": state["head.weight"],
        "head.bias": state["head.bias"],
    }


def straight_port(model: TimNet, frames: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """The summaries by PyTorch's convolution and batch normalisation, in training mode.

    Each convolution reads clip by clip; the normalisation sees the real frames of all. Gives
    (batch, n_blocks, width), then the normalisations' running means and variances.
    """
    blocks = model.blocks
    total, running = 0.0, blocks.running_mean.new_zeros(2, *blocks.running_mean.shape)
    for direction in range(2):
        clips = [frames[row, :size] for row, size in enumerate(lengths)]
        stem = blocks.stem[direction]
        clips = [(clip.flip(0) if direction else clip) @ stem[:-1] + stem[-1] for clip in clips]
        clips = [clip.T[None] for clip in clips]
        summaries = []
        for number in range(len(blocks.taps)):
            hidden = clips
            for half in range(2):
                at = (number, half, direction)
                weight = blocks.taps[at].permute(2, 1, 0)
                hidden = [
                    F.conv1d(
                        F.pad(clip, (2**number, 0)), weight, blocks.bias[at], dilation=2**number
                    )
                    for clip in hidden
                ]
                mean, variance = (
                    blocks.running_mean[at].clone(),
                    blocks.running_variance[at].clone(),
                )
                joined = torch.cat(hidden, 2)
                unbiased = joined.shape[2] / (joined.shape[2] - 1)
                out = F.batch_norm(
                    joined, mean, variance, blocks.gamma[at], blocks.beta[at], True,
                    blocks.norm_momentum, 1e-3,
                )  # fmt: skip
                kept = blocks.running_variance[at] * (1 - blocks.norm_momentum)
                running[0][at], running[1][at] = mean, kept + (variance - kept) / unbiased
                hidden = list(out.relu().split(lengths, 2))
            clips = [clip * gate.sigmoid() for clip, gate in zip(clips, hidden, strict=True)]
            parts = [
                torch.cat([c.mean(2), (c.var(2, correction=0) + FLOOR).sqrt()], 1) for c in clips
            ]
            summaries.append(torch.cat(parts)[:, : model.n_outputs])
        total = total + torch.stack(summaries, 1)
    return [total, *running]
