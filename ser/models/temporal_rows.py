"""What both passes of TIM-Net's blocks do with rows, (directions, time, clips, channels)."""

from typing import NamedTuple

import torch
from torch import Tensor

from ser.models.onednn import add_product, applies, as_steps, product

FLOOR = 1e-8  # under the deviation's square root, where its gradient is still finite


class Clips(NamedTuple):
    """Which rows are real.

    Attributes:
        lengths: (clips,) frames of each.
        mask: (time, clips, 1) 1.0 on real frames; None where nothing is padded.
        n_real: frames of all clips.
        n_full: rows before the first that is padding.
    """

    lengths: Tensor
    mask: Tensor | None
    n_real: int
    n_full: int

    @classmethod
    def of(cls, lengths: Tensor, time: int, dtype: torch.dtype) -> "Clips":
        """Clips of these lengths, padded to `time`."""
        steps = torch.arange(time, device=lengths.device)[:, None]
        shortest = int(lengths.min())
        mask = None if shortest == time else (steps < lengths).to(dtype)[..., None]
        return cls(lengths, mask, int(lengths.sum()), shortest * len(lengths))

    @property
    def frames(self) -> Tensor:
        """(clips, 1) frames to divide a sum over a clip by."""
        return self.lengths.clamp(min=1)[:, None]

    def moments(self, rows: Tensor, work: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of the real rows, (directions, steps, channels).

        Each (directions, channels); `work` is memory of the rows' size.
        """
        if self.mask is None and len(rows) == 1:  # on several threads slower than what follows
            mean, variance = torch.batch_norm_update_stats(as_steps(rows[0]), None, None, 0.0)
            return mean[None], variance[None]
        mean = self._mean(rows)
        torch.sub(rows, mean[:, None], out=work)
        return mean, self._mean(work.square_())

    def _mean(self, rows: Tensor) -> Tensor:
        total = rows[:, : self.n_full].sum(1)
        if self.mask is not None:
            weight = self.mask.view(1, 1, -1)[..., self.n_full :].expand(len(rows), -1, -1)
            total += torch.bmm(weight, rows[:, self.n_full :])[:, 0]
        return total / self.n_real

    def silence(self, rows: Tensor) -> None:
        """Set padding to 0, in place: (2, time * clips, channels)."""
        if self.mask is not None:
            rows[:, self.n_full :] *= self.mask.view(-1, 1)[self.n_full :]


def summarise(rows: Tensor, clips: Clips, deviation: bool) -> Tensor:
    """Mean, and deviation, of each clip: (2, time, clips, channels) -> (2, clips, channels)."""
    mean = rows.sum(1) / clips.frames
    if not deviation:
        return mean
    centred = rows - mean[:, None]
    if clips.mask is not None:
        centred = centred * clips.mask
    return torch.cat([mean, (centred.square().sum(1) / clips.frames + FLOOR).sqrt()], -1)


def convolve(rows: Tensor, taps: Tensor, past: int) -> Tensor:
    """Each row's tap and that of the row `past` before it: (directions, steps, channels).

    taps (directions, 2 taps, channels in, channels out).
    """
    convolved = []
    for given, (earlier, current) in zip(rows, taps, strict=True):
        now = product(given, current.T) if applies(given) else given @ current
        if past < len(given):
            add_product(now[past:], given[:-past], earlier)
        convolved.append(now)
    return convolved[0][None] if len(convolved) == 1 else torch.stack(convolved)


def activate(
    centred: Tensor, scale: Tensor, beta: Tensor, keep: Tensor | None, out: Tensor
) -> Tensor:
    """ReLU of scale * centred + beta, times keep: (2, steps, channels) into `out`."""
    n_clips = out.shape[2]
    # a row of clips * channels numbers: long inner loops, and the dropout costs nothing
    factor, offset = (t[:, None].expand(-1, n_clips, -1) for t in (scale, beta))
    if keep is not None:
        factor, offset = factor * keep, offset * keep
    torch.addcmul(offset[:, None], centred.view_as(out), factor[:, None], out=out)
    return out.relu_()
