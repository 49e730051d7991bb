"""Files to samples: decode, mix down, resample, crop and pad."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from ser.errors import SerError
from ser.mp3 import cut_short

Waveform = npt.NDArray[np.float32]
"""Mono samples: float32, (samples,), full scale is 1."""

SAMPLE_RATE_HZ = 16_000
"""What every speech encoder here was trained on, and the rate of all features that do not say."""

_INT16_STEP = np.float32(2.0**-15)

_LFS_POINTER = b"version https://git-lfs"


def read_audio(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a WAV, FLAC, OGG or MP3 file.

    Returns:
        Samples (samples, channels), full scale is 1, and the sample rate in hertz.

    Raises:
        SerError: the file is missing, a folder, a git-lfs pointer, not audio, holds no samples or
            some that are not finite, or is an MP3 of which only the beginning can be decoded.
    """
    if path.is_dir():
        raise SerError(f"{path} is a folder: name a file in it.")
    if not path.is_file():
        raise SerError(
            f"{path}: there is no such file. The manifest may be older than the folder: list the "
            "corpus again, or mend the path."
        )
    try:
        with soundfile.SoundFile(path) as file:
            samples, rate = _decode(file), int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise SerError(_unreadable(path, error)) from error
    if len(samples) == 0:
        raise SerError(f"{path}: the file decodes to no samples. Remove it or fetch it again.")
    if lost := cut_short(path, len(samples)):
        raise SerError(f"{path}: {lost}.")
    return samples, rate


def _decode(file: soundfile.SoundFile) -> npt.NDArray[np.float32]:
    """All samples (samples, channels), full scale is 1.

    16-bit files are scaled here: libsndfile took .84 ms for 3.3 s at 48 kHz to give floats, .20
    for integers and their conversion, and the numbers are the same.
    """
    samples: npt.NDArray[np.float32]
    if file.subtype != "PCM_16":
        samples = file.read(dtype="float32", always_2d=True)
        if not np.isfinite(samples).all():
            raise SerError(
                f"{file.name}: holds samples that are not finite (NaN or infinity in a float "
                "file). Remove it or fetch it again."
            )
        return samples
    samples = file.read(dtype="int16", always_2d=True).astype(np.float32)
    samples *= _INT16_STEP
    return samples


def _unreadable(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            beginning = file.read(len(_LFS_POINTER))
    except OSError as denied:
        return f"{path}: cannot be opened ({denied.strerror}). Make it readable, or leave it out."
    if beginning == _LFS_POINTER:
        return (
            f"{path}: this is a git-lfs pointer and not the audio. Run `git lfs pull` in the "
            "clone, or download the corpus with `ser data download`."
        )
    return f"{path}: cannot be decoded as audio ({error}). Remove it or fetch it again."


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
        SerError: as `read_audio`.
    """
    samples, rate = read_audio(path)
    waveform = np.ascontiguousarray(mix_down(samples))
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
