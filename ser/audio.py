"""Files to samples: decode, mix down, resample, crop and pad."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from ser.probe import check_mix, read_audio

Waveform = npt.NDArray[np.float32]
"""Mono samples: float32, (samples,), full scale is 1."""

_FRAME_S = 0.1
_FAINT = 10 ** (-30 / 20)  # of the loudest channel: hiss of an open line
_ALIKE = 0.5  # correlation of levels: near 1 for one voice in two microphones

SAMPLE_RATE_HZ = 16_000
"""What every speech encoder here was trained on, and the rate of all features that do not say."""


def mix_down(samples: npt.NDArray[np.float32]) -> Waveform:
    """(samples, channels) to mono by the mean of the channels."""
    n_channels = samples.shape[1]
    if n_channels == 1:
        return samples[:, 0]
    total = samples[:, 0].copy()  # channel by channel: numpy's mean over a short axis is slow
    for channel in range(1, n_channels):
        total += samples[:, channel]
    total /= np.float32(n_channels)
    return total


def channels_differ(samples: npt.NDArray[np.float32], rate_hz: int) -> bool:
    """Whether channels (samples, channels) are loud at other times: a call with a speaker each.

    A channel 30 dB below the loudest does not count, nor does less than a second.
    """
    hop = int(_FRAME_S * rate_hz)
    n_frames = len(samples) // hop
    if samples.shape[1] == 1 or n_frames * _FRAME_S < 1:
        return False
    frames = samples[: n_frames * hop].reshape(n_frames, hop, -1)
    power = np.einsum("fsc,fsc->fc", frames, frames) / hop  # without a copy of an hour's samples
    levels = np.sqrt(np.maximum(power - frames.mean(1) ** 2, 0))  # (frames, channels)
    levels = levels[:, levels.max(0) > _FAINT * levels.max()]
    levels = levels - levels.mean(0)
    length = np.linalg.norm(levels, axis=0)
    return bool((levels.T @ levels < _ALIKE * np.outer(length, length)).any())


def resample(waveform: Waveform, from_hz: int, to_hz: int) -> Waveform:
    """Resample with soxr at its HQ setting, which is also librosa's default.

    Returns:
        ceil(samples * to_hz / from_hz) samples.
    """
    if from_hz == to_hz:
        return waveform
    n_samples = -(-len(waveform) * to_hz // from_hz)
    resampled: Waveform = soxr.resample(waveform, from_hz, to_hz, quality="HQ")
    if len(resampled) < n_samples:
        resampled = np.pad(resampled, (0, n_samples - len(resampled)))  # costs 60 us also for none
    return resampled[:n_samples]


def load_waveform(
    path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ, *, many: bool = False
) -> Waveform:
    """Decode, mix down and resample one file.

    Args:
        path: the file.
        sample_rate_hz: of the samples that come back.
        many: it is one of many: a rate of three times `sample_rate_hz` is brought down by compiled
            loops, which take half of soxr's time and a second to begin. The samples differ by 5e-7
            of the peak.

    Raises:
        SerError: the file cannot be used (docs/data.md), or is too short or silent once mixed down.
    """
    return to_waveform(path, *read_audio(path), sample_rate_hz, many=many)


def to_waveform(
    path: Path,
    samples: npt.NDArray[np.float32],
    rate: int,
    sample_rate_hz: int,
    *,
    many: bool = False,
) -> Waveform:
    """`load_waveform` of what `read_audio` gave for `path`."""
    waveform = np.ascontiguousarray(mix_down(samples))
    check_mix(path, samples, waveform, rate)
    if many and rate == 3 * sample_rate_hz:
        from ser.decimate import third_of  # numba takes a while

        return third_of(waveform)
    return resample(waveform, rate, sample_rate_hz)


def centre_crop_or_pad(waveform: Waveform, n_samples: int) -> Waveform:
    """Exactly n_samples: the middle of a longer waveform, or zeros on both sides of a shorter one.

    An odd difference puts the extra sample at the end, as TIM-Net's preparation does.
    """
    surplus = len(waveform) - n_samples
    if surplus >= 0:
        return waveform[surplus // 2 : surplus // 2 + n_samples]
    return np.pad(waveform, (-surplus // 2, -surplus - -surplus // 2))
