"""Other speakers and other tempi from the frames of a clip, drawn anew for every batch."""

import math
from collections.abc import Sequence

import torch
import torchaudio.functional as F
from torch import Tensor, nn

from ser.errors import SerError

STEPS = 15
"""Vocal tracts between the shortest and the longest, on a logarithmic scale."""
_MEL_BREAK_HZ, _MEL_BREAK = 1000.0, 15.0
"""Slaney's mel scale is linear up to here, 66.7 Hz a mel, and logarithmic above."""
_MEL_LOG = math.log(6.4) / 27


class VoiceChange(nn.Module):
    """Stretches the spectrum and the time of each clip by factors of its own.

    A spectrum stretched along frequency is a shorter or longer vocal tract with a voice to match.
    It is a linear map of the cepstra (Pitz and Ney, IEEE Trans. Speech Audio Proc. 2005), so
    it costs a small matrix product. Pitch moves along, voicing and level stay.

    It is for the frames of `MfccProsody` without deltas, and for logarithmic mel spectra, whose
    bands it reads between. Other frames, of another width, are stretched in time alone.
    """

    maps: Tensor

    def __init__(
        self,
        *,
        n_mfcc: int | None,
        n_mels: int | None,
        sample_rate_hz: int | None,
        warp: float,
        tempo: float,
    ) -> None:
        """Choose the ranges.

        Args:
            n_mfcc: of the frames; None where they are no MFCC.
            n_mels, sample_rate_hz: as of the frames; None where they are no mel spectra either.
            warp: logarithm of the largest factor of frequency; the smallest is its inverse.
            tempo: likewise of the tempo.
        """
        super().__init__()
        self.tempo = tempo
        maps = torch.empty(0, 0, 0)
        if n_mels is not None and sample_rate_hz is not None:
            factors = torch.linspace(-warp, warp, STEPS if warp else 1).exp().tolist()
            maps = torch.stack(
                [mel_map(factor, n_mels, sample_rate_hz).float() for factor in factors]
                if n_mfcc is None
                else [cepstral_map(factor, n_mfcc, n_mels, sample_rate_hz) for factor in factors]
            )
        self.register_buffer("maps", maps, persistent=False)  # (STEPS, features, features)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, features) and lengths (batch,) to the changed ones."""
        if frames.shape[2] == self.maps.shape[-1]:
            drawn = torch.randint(len(self.maps), (len(frames),), device=frames.device)
            frames = torch.bmm(frames, self.maps[drawn].to(frames.dtype))
        if not self.tempo:
            return frames, lengths
        draw = 2 * torch.rand(len(frames), device=frames.device) - 1
        return at_tempo(frames, lengths, (self.tempo * draw).exp())


class VocalTracts(nn.Module):
    """Each clip as heard from several vocal tracts, by the maps of `VoiceChange`."""

    maps: Tensor

    def __init__(
        self,
        *,
        factors: Sequence[float],
        n_mfcc: int | None,
        n_mels: int | None,
        sample_rate_hz: int | None,
    ) -> None:
        """Choose the factors of frequency, 1 for the clip as it is.

        Args:
            factors: above 0.
            n_mfcc, n_mels, sample_rate_hz: as of the frames; None where they are no MFCC, which
                have only the factor 1.

        Raises:
            SerError: no factor, one that is not above 0, or another than 1 of frames of no MFCC.
        """
        super().__init__()
        if not factors or min(factors) <= 0:
            raise SerError(f"voices.factors={list(factors)}: give factors above 0, or [1].")
        self.factors = [float(factor) for factor in factors]
        maps = torch.empty(0, 0, 0)
        if self.factors != [1.0]:
            if n_mfcc is None or n_mels is None or sample_rate_hz is None:
                raise SerError(
                    f"voices.factors={self.factors}: only frames of feature=mfcc can be heard from "
                    "other vocal tracts. Choose that feature, or factors of [1]."
                )
            maps = torch.stack(
                [cepstral_map(factor, n_mfcc, n_mels, sample_rate_hz) for factor in self.factors]
            )
        self.register_buffer("maps", maps, persistent=False)  # (factors, features, features)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, features) -> (factors, batch, frames, features).

        Raises:
            SerError: frames with deltas, or of another width.
        """
        if self.factors == [1.0]:
            return frames[None]
        if frames.shape[-1] != self.maps.shape[-1]:
            raise SerError(
                f"voices.factors={self.factors}: frames of {self.maps.shape[-1]} features can be "
                f"heard from other vocal tracts, and these have {frames.shape[-1]}. Leave "
                "feature.mfcc as it is, without deltas, or choose factors of [1]."
            )
        return frames @ self.maps[:, None].to(frames.dtype)


def at_tempo(frames: Tensor, lengths: Tensor, tempo: Tensor) -> tuple[Tensor, Tensor]:
    """Read each clip at its tempo (batch,), 2 for twice as fast, between frames by proportion."""
    last = (lengths - 1)[:, None]
    changed = ((lengths - 1) / tempo).round().long() + 1
    steps = torch.arange(int(changed.max()), device=frames.device)
    place = torch.minimum(steps * tempo[:, None], last)  # (batch, new frames)
    before = place.long()
    after = torch.minimum(before + 1, last)
    width = frames.shape[2]
    earlier, later = (
        frames.gather(1, at[..., None].expand(-1, -1, width)) for at in (before, after)
    )
    mixed = torch.lerp(earlier, later, (place - before)[..., None].to(frames.dtype))
    return mixed.masked_fill((steps >= changed[:, None])[..., None], 0), changed


def cepstral_map(factor: float, n_mfcc: int, n_mels: int, sample_rate_hz: int) -> Tensor:
    """The matrix that frames (…, n_mfcc + 3) are multiplied with: its spectrum at `factor` times
    the frequency takes each frequency's place.
    """
    warp = mel_map(factor, n_mels, sample_rate_hz)
    dct = F.create_dct(n_mfcc, n_mels, norm="ortho").double()  # (n_mels, n_mfcc)
    whole = torch.eye(n_mfcc + 3, dtype=torch.float64)
    whole[:n_mfcc, :n_mfcc] = dct.T @ warp @ dct
    whole[n_mfcc + 1, n_mfcc] = -math.log2(factor)  # octaves times voicing
    return whole.float()


def mel_map(factor: float, n_mels: int, sample_rate_hz: int) -> Tensor:
    """The same of log-mel spectra (…, n_mels), float64."""
    top = hz_to_mel(torch.tensor(sample_rate_hz / 2, dtype=torch.float64))
    centres = torch.linspace(0, 1, n_mels + 2, dtype=torch.float64)[1:-1] * top
    wanted = hz_to_mel((mel_to_hz(centres) * factor).clamp(max=sample_rate_hz / 2))
    band = (wanted / top * (n_mels + 1) - 1).clamp(0, n_mels - 1)
    below = band.floor().clamp(max=n_mels - 2).long()
    share = band - below
    columns = torch.arange(n_mels)
    warp = torch.zeros(n_mels, n_mels, dtype=torch.float64)  # (band read, band)
    warp[below, columns] = 1 - share
    warp[below + 1, columns] = share
    return warp


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's scale, as librosa and torchaudio have it."""
    above = _MEL_BREAK + (hz.clamp(min=_MEL_BREAK_HZ) / _MEL_BREAK_HZ).log() / _MEL_LOG
    return torch.where(hz < _MEL_BREAK_HZ, hz * _MEL_BREAK / _MEL_BREAK_HZ, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse."""
    above = _MEL_BREAK_HZ * ((mel - _MEL_BREAK) * _MEL_LOG).exp()
    return torch.where(mel < _MEL_BREAK, mel * _MEL_BREAK_HZ / _MEL_BREAK, above)
