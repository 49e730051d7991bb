"""Augmentation: of the waveform before the features, and of the features in a batch."""

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torchaudio.functional as F
from torch import Tensor, nn

from ser.babble import Voices
from ser.batch import Batch
from ser.conditions import FAMILIES, Degradation
from ser.errors import SerError
from ser.features import Feature
from ser.loss import draw_pairs
from ser.silence import cut_margins
from ser.voice import VoiceChange

_RANGES = {"speed": (0.1, 10), "low_pass_hz": (1, 7999)}  # of 16 kHz; decibels may be any
SPEED_STEPS = 20  # of 5 %: the resampling kernel of 1.05 is small, that of 1.0473 is not


class WaveformChange(Protocol):
    """What `Augmented` does to each clip: an augmentation, or a condition of an evaluation.

    An augmentation that mixes other voices in also has `with_voices(voices)`, which gives the same
    with the voices of the clips trained on; others need no such method.
    """

    def settings(self) -> Mapping[str, Any]:
        """All that determines the numbers."""

    def __call__(
        self, waveform: np.ndarray, sample_rate_hz: int, seed: int, key: str
    ) -> np.ndarray:
        """The changed clip (samples,) float32; `key` is the hash of the clip's content."""


class WaveformAugment:
    """Speed, level, noise and band of a waveform, drawn anew for each clip and copy.

    Ranges are (low, high), drawn uniformly; the probability of each is `probability`.
    """

    def __init__(
        self,
        *,
        probability: float,
        speed: Sequence[float],
        gain_db: Sequence[float],
        snr_db: Sequence[float],
        low_pass_hz: Sequence[float],
    ) -> None:
        self.probability = probability
        self.ranges = {
            "speed": tuple(speed),
            "gain_db": tuple(gain_db),
            "snr_db": tuple(snr_db),
            "low_pass_hz": tuple(low_pass_hz),
        }
        for name, values in self.ranges.items():
            least, most = _RANGES.get(name, (-math.inf, math.inf))
            if len(values) != 2 or not least <= values[0] <= values[1] <= most:
                raise SerError(
                    f"augment.waveform.{name}={list(values)}: give [low, high] within {least} to "
                    f"{most}."
                )

    def settings(self) -> dict[str, Any]:
        """All that determines the numbers."""
        ranges = {name: list(values) for name, values in self.ranges.items()}
        return {"probability": self.probability, **ranges, "version": 1}

    def __call__(
        self, waveform: np.ndarray, sample_rate_hz: int, seed: int, key: str = ""
    ) -> np.ndarray:
        """An augmented copy (samples,) float32; the same seed gives the same copy."""
        draw = np.random.default_rng(seed)
        noise = torch.Generator().manual_seed(seed)
        drawn = {
            name: float(draw.uniform(low, high)) if draw.random() < self.probability else None
            for name, (low, high) in self.ranges.items()
        }
        sound = torch.from_numpy(waveform)
        if drawn["speed"] is not None:
            factor = _in_steps(drawn["speed"])
            sound = F.speed(sound, sample_rate_hz, factor)[0] if factor != 1 else sound
        if drawn["low_pass_hz"] is not None:
            sound = F.lowpass_biquad(sound, sample_rate_hz, drawn["low_pass_hz"])
        if drawn["snr_db"] is not None:
            hiss = torch.randn(sound.shape, generator=noise)
            sound = F.add_noise(sound, hiss, torch.tensor(drawn["snr_db"]))
        if drawn["gain_db"] is not None:
            sound = F.gain(sound, drawn["gain_db"])
        return sound.float().numpy()


def _in_steps(speed: float) -> float:
    return round(speed * SPEED_STEPS) / SPEED_STEPS


class RobustAugment:
    """A random chain of listening conditions, from the room to the line.

    `steps` are taken in order. Each has `families` (one is drawn), `chance` of being taken and
    `severity` (low, high), drawn uniformly. Raises SerError for a step that cannot be.
    """

    voices: Voices | None = None

    def __init__(self, *, steps: Sequence[Mapping[str, Any]]) -> None:
        self.steps = [
            (tuple(step["families"]), float(step["chance"]), tuple(step["severity"]))
            for step in steps
        ]
        for families, chance, severity in self.steps:
            wrong = [family for family in families if family not in FAMILIES]
            if wrong or not families or not 0 <= chance <= 1 or len(severity) != 2:
                raise SerError(
                    f"augment.waveform.steps: families={list(families)} chance={chance} severity="
                    f"{list(severity)} is no step. Families are of {', '.join(FAMILIES)}, chance "
                    "is from 0 to 1, severity is [low, high]."
                )

    def with_voices(self, voices: Voices) -> "RobustAugment":
        """The same, with babble from these clips."""
        other = copy.copy(self)
        other.voices = voices
        return other

    def settings(self) -> dict[str, Any]:
        """All that determines the numbers."""
        heard = any("babble" in families for families, _, _ in self.steps)
        pool = self.voices.digest if self.voices and heard else None
        steps = [
            [list(families), chance, list(severity)] for families, chance, severity in self.steps
        ]
        return {"steps": steps, "voices": pool, "version": 1}

    def __call__(
        self, waveform: np.ndarray, sample_rate_hz: int, seed: int, key: str
    ) -> np.ndarray:
        """An augmented copy (samples,) float32; the same seed and key give the same copy."""
        draw = np.random.default_rng(seed)
        for families, chance, (low, high) in self.steps:
            taken = draw.random() < chance
            family, severity = families[draw.integers(len(families))], draw.uniform(low, high)
            step_seed = int(draw.integers(2**32))
            if taken:
                severity = _in_steps(severity) if family == "speed" else severity
                change = Degradation(family, float(severity), self.voices)
                waveform = change(waveform, sample_rate_hz, step_seed, key)
        return waveform


class Augmented(Feature):
    """The features of a changed copy of each clip; `copy` numbers the copies."""

    def __init__(self, feature: Feature, augment: WaveformChange, copy: int) -> None:
        self.stream = feature.stream  # type: ignore[misc]
        self.dtype = feature.dtype  # type: ignore[misc]
        self.sample_rate_hz = feature.sample_rate_hz
        self._feature, self._augment, self._copy = feature, augment, copy

    def settings(self) -> dict[str, Any]:
        """The feature's own settings, the augmentation's, and the number of the copy."""
        return {
            **self._feature.settings(),
            "augment": dict(self._augment.settings()),
            "copy": self._copy,
        }

    def shape(self) -> tuple[int, ...]:
        """The feature's own shape."""
        return self._feature.shape()

    def extract(self, waveforms: Sequence[np.ndarray], keys: Sequence[str]) -> list[np.ndarray]:
        """Augment each clip, seeded by its content and the copy's number, then extract."""
        copies = [
            self._augment(waveform, self.sample_rate_hz, self._seed(key), key)
            for waveform, key in zip(waveforms, keys, strict=True)
        ]
        return self._feature.extract(copies, keys)

    def release(self) -> None:
        """Drop what the feature holds for extraction."""
        self._feature.release()

    def _seed(self, key: str) -> int:
        digest = hashlib.sha256(f"{key}/{self._copy}".encode()).digest()
        return int.from_bytes(digest[:4], "little")


class SpecAugment(nn.Module):
    """Masks over time and features of the frames (Park et al., Interspeech 2019).

    Masked values become the clip's own mean of that feature, which is neutral for any
    normalisation that follows. `time_fraction` is the widest mask as a share of the clip,
    `feature_width` the most neighbouring features in one mask.
    """

    def __init__(
        self, *, time_masks: int, time_fraction: float, feature_masks: int, feature_width: int
    ) -> None:
        super().__init__()
        self.time_masks, self.time_fraction = time_masks, time_fraction
        self.feature_masks, self.feature_width = feature_masks, feature_width

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, features) and (batch,) to frames of the same shape."""
        batch, longest, n_features = frames.shape
        time = torch.arange(longest, device=frames.device)
        valid = time < lengths[:, None]  # (batch, frames)
        total = (frames * valid[..., None]).sum(1)
        mean = (total / lengths[:, None]).unsqueeze(1)  # (batch, 1, features)
        feature = torch.arange(n_features, device=frames.device)
        hidden = torch.zeros_like(frames, dtype=torch.bool)
        for _ in range(self.time_masks):
            hidden |= _span(time, lengths, self.time_fraction * lengths)[..., None]
        sizes = torch.full((batch,), n_features, device=frames.device)
        widths = torch.full((batch,), float(self.feature_width), device=frames.device)
        for _ in range(self.feature_masks):
            hidden |= _span(feature, sizes, widths)[:, None, :]
        return torch.where(hidden & valid[..., None], mean, frames)


def _span(axis: Tensor, sizes: Tensor, widest: Tensor) -> Tensor:
    """For each clip one random span of 0 to `widest` places: (batch, len(axis)) of bool."""
    width = (torch.rand(len(sizes), device=axis.device) * (widest.floor() + 1)).floor()
    places = (sizes - width + 1).clamp(min=1)
    start = (torch.rand(len(sizes), device=axis.device) * places).floor()
    return (axis >= start[:, None]) & (axis < (start + width)[:, None])


def mixup(batch: Batch, partner: Tensor, share: float) -> Batch:
    """Mix each clip with its partner, `share` of the first (Zhang et al., ICLR 2018).

    A clip keeps its length: of a longer partner only as much is laid over it, and past the end of
    a shorter one it stays as it is. Padding is not mixed in, since zeros are no silence in MFCC
    or log-mel frames. Targets are the caller's to mix.
    """

    def mix(stream: Tensor | None, lengths: Tensor | None = None) -> Tensor | None:
        if stream is None:
            return None
        mixed = share * stream + (1 - share) * stream[partner]
        if lengths is None:
            return mixed
        common = torch.minimum(lengths, lengths[partner])
        place = torch.arange(stream.shape[1], device=stream.device)
        heard = (place < common[:, None]).reshape(*stream.shape[:2], *[1] * (stream.ndim - 2))
        return torch.where(heard, mixed, stream)

    return batch._replace(
        frames=mix(batch.frames, batch.frames_length),
        embedding=mix(batch.embedding),
        embedding_whole=mix(batch.embedding_whole),
        waveform=mix(batch.waveform, batch.waveform_length),
    )


class BatchAugment(nn.Module):
    """What is done to a training batch on its way to the model.

    `margins` cuts a random part of the silence around the speech from waveforms.
    """

    def __init__(
        self,
        *,
        voice: VoiceChange | None,
        specaugment: SpecAugment | None,
        margins: bool,
        mixup_alpha: float,
    ) -> None:
        super().__init__()
        self.voice, self.specaugment = voice, specaugment
        self.margins, self.mixup_alpha = margins, mixup_alpha

    def forward(self, batch: Batch) -> tuple[Batch, Tensor | None, float]:
        """The batch, and when mixed the partner of each clip (batch,) and the first one's share."""
        if batch.frames is not None and batch.frames_length is not None:
            frames, lengths = batch.frames, batch.frames_length
            if self.voice is not None:
                frames, lengths = self.voice(frames, lengths)
            if self.specaugment is not None:
                frames = self.specaugment(frames, lengths)
            if frames is not batch.frames:
                batch = batch._replace(frames=frames, frames_length=lengths)
        if self.margins and batch.waveform is not None and batch.waveform_length is not None:
            waveform, length = cut_margins(batch.waveform, batch.waveform_length)
            batch = batch._replace(waveform=waveform, waveform_length=length)
        if self.mixup_alpha <= 0:
            return batch, None, 1.0
        partner, share = draw_pairs(len(batch.target), self.mixup_alpha, batch.target.device)
        return mixup(batch, partner, share), partner, share
