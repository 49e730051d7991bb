"""What the arithmetics of TIM-Net's blocks are given: a batch, its weights, how to work."""

from typing import NamedTuple

import torch
from torch import Tensor


class Clips(NamedTuple):
    """Which rows are real.

    Attributes:
        frames: (clips, 1) frames of each, 1 at least: what a sum over a clip is divided by.
        mask: (time, clips, 1) 1.0 on real frames; None where nothing is padded.
        n_real: frames of all clips.
        n_full: rows before the first that is padding.
    """

    frames: Tensor
    mask: Tensor | None
    n_real: int
    n_full: int


def clips_of(lengths: Tensor, time: int, dtype: torch.dtype) -> Clips:
    """Clips of these lengths (clips,), padded to `time`."""
    steps = torch.arange(time, device=lengths.device)[:, None]
    shortest = int(lengths.min())
    mask = None if shortest == time else (steps < lengths).to(dtype)[..., None]
    return Clips(lengths.clamp(min=1)[:, None], mask, int(lengths.sum()), shortest * len(lengths))


class Options(NamedTuple):
    """What both passes must know.

    Attributes:
        pasts: the dilation of each block, in rows: frames * clips.
        epsilon: of the normalisation.
        deviation: give the deviation over the clip's frames beside their mean.
        onednn: multiply by oneDNN (`ser.onednn.applies`).
        frames_grad: the gradient of the frames is wanted.
    """

    pasts: list[int]
    epsilon: float
    deviation: bool
    onednn: bool
    frames_grad: bool


class Given(NamedTuple):
    """What a training pass reads, shaped as in `ser.models.temporal.train_blocks`."""

    frames: Tensor
    stem: Tensor
    taps: Tensor
    gamma: Tensor
    beta: Tensor
    keep: Tensor | None

    def of(self, one: slice) -> "Given":
        """That of some directions."""
        by_place = [None if each is None else each[:, :, one] for each in self[2:]]
        return Given(self.frames[one], self.stem[one], *by_place)  # type: ignore[arg-type]
