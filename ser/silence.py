"""The silence around the speech of a clip, cut at random in training."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ser.audio import SAMPLE_RATE_HZ
from ser.features.speech import FRAME_S, MARGIN, RANGE_DB

_HOP = round(FRAME_S * SAMPLE_RATE_HZ)


def cut_margins(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a random part of the silence before and after the speech of each clip.

    Args:
        waveform: (batch, samples) at 16 kHz, 0 past a clip's length.
        lengths: (batch,) samples.
    """
    first, last = speech_bounds(waveform, lengths)
    draw = torch.rand(2, len(lengths), device=lengths.device)
    begin = (first * draw[0]).long()
    size = (last + (lengths - last) * draw[1]).long() - begin
    place = torch.arange(int(size.max()), device=lengths.device)
    at = (begin[:, None] + place).clamp(max=waveform.shape[1] - 1)
    return waveform.gather(1, at) * (place < size[:, None]), size


def speech_bounds(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """First sample of the speech and the one after its last (batch,), as `cut_to_speech` cuts."""
    n_frames = (lengths + _HOP - 1) // _HOP
    longest = int(n_frames.max())
    padded = F.pad(waveform, (0, max(0, longest * _HOP - waveform.shape[1])))[:, : longest * _HOP]
    level_db = 10 * (padded.reshape(-1, longest, _HOP).square().mean(2) + 1e-12).log10()
    around = torch.arange(-1, longest + 1, device=lengths.device).clamp(min=0)
    around = torch.minimum(around, n_frames[:, None] - 1)  # beyond an end it is as at the end
    level_db = level_db.gather(1, around).unfold(1, 3, 1).mean(2)
    level_db = level_db.masked_fill(
        torch.arange(longest, device=lengths.device) >= n_frames[:, None], -torch.inf
    )
    speech = (level_db >= level_db.amax(1, keepdim=True) - RANGE_DB).int()
    first = (speech.argmax(1) - MARGIN).clamp(min=0)
    last = torch.minimum(longest - speech.flip(1).argmax(1) + MARGIN, n_frames)
    return first * _HOP, torch.minimum(last * _HOP, lengths)
