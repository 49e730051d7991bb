"""One audio file, decoded once: what it holds, and what is wrong with it."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ser.mp3 import cut_short, length_is_guessed

PROBE_VERSION = 2
"""Raise when a check or a number below changes: cached probes of another version are not read."""

_POINTER = b"version https://git-lfs"
_SILENCE_PEAK = 2 / 32768
"""At most the two lowest steps of 16-bit audio: what is left of digital silence after dither."""
_OPEN_SIZES = (0, 0xFFFFFFFF)
"""The data sizes that a program writes when it streams a WAV and cannot go back."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one file holds. A file with a `problem` may lack the rest."""

    duration_s: float = 0.0
    sample_rate_hz: int = 0
    channels: int = 0
    sha256: str = ""
    rms_db: float = float("-inf")
    """Level of the mean over channels, dB relative to full scale."""
    problem: str = ""


def content_sha256(samples: np.ndarray, sample_rate_hz: int) -> str:
    """Hash decoded samples (samples, channels) float32 with their shape and rate.

    A FLAC and a WAV of the same samples agree; the same samples at another rate do not.
    """
    samples = np.ascontiguousarray(samples, dtype="<f4")
    head = f"{samples.shape[0]} {samples.shape[1]} {sample_rate_hz} "
    digest = hashlib.sha256(head.encode())
    digest.update(samples.data)
    return digest.hexdigest()


def probe_file(path: Path) -> Probe:
    """Decode a file and look for everything that makes it unusable; never raises for the file."""
    try:
        problem = _before_decoding(path)
        if problem:
            return Probe(problem=problem)
        with soundfile.SoundFile(path) as file:
            promised = file.frames
            sample_rate_hz = int(file.samplerate)
            try:
                samples = file.read(dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                return Probe(problem=f"truncated: or damaged, {str(error).strip()}")
    except (OSError, soundfile.SoundFileError) as error:
        return Probe(problem=f"unreadable: {str(error).strip()}")
    if lost := cut_short(path, len(samples)):
        return Probe(problem=f"cut short: {lost}")
    if len(samples) < promised and length_is_guessed(path):
        promised = len(samples)
    return _describe(samples, sample_rate_hz, promised)


def _describe(samples: np.ndarray, sample_rate_hz: int, promised: int) -> Probe:
    """Measure decoded samples (samples, channels)."""
    frames, channels = samples.shape
    if frames == 0:
        return Probe(problem="zero-length: a header without samples (an Ogg cut off reads so)")
    if not np.isfinite(samples).all():
        return Probe(problem="non-finite: the samples hold NaN or infinity")
    problem = ""
    if frames < promised:
        problem = f"truncated: the header promises {promised} samples, {frames} could be decoded"
    elif np.abs(samples).max() <= _SILENCE_PEAK:
        problem = "all-zero: the file is silent"
    mono = samples.mean(axis=1)  # (samples, channels) -> (samples,)
    power = float(np.mean(np.square(mono, dtype=np.float64)))
    return Probe(
        duration_s=frames / sample_rate_hz,
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        sha256=content_sha256(samples, sample_rate_hz),
        rms_db=10 * float(np.log10(power)) if power > 0 else float("-inf"),
        problem=problem,
    )


def _before_decoding(path: Path) -> str:
    """What the bytes alone give away: nothing there, a git-lfs pointer, a cut-off WAV."""
    size = path.stat().st_size
    if size == 0:
        return "zero-length: the file has 0 bytes"
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        return (
            "git-lfs pointer: a note of where the audio is, not the audio; run `git lfs pull` in "
            "the clone, or `ser data download crema_d`"
        )
    if head[:4] == b"RIFF":
        return _riff_truncation(path, size)
    return ""


def _riff_truncation(path: Path, size: int) -> str:
    """Compare the data chunk's promised size with the file: libsndfile mends it in silence."""
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            kind, length = struct.unpack("<4sI", header)
            start = file.tell()
            if kind == b"data":
                if length not in _OPEN_SIZES and start + length > size:
                    return (
                        f"truncated: the header promises {length} bytes of audio, "
                        f"the file holds {size - start}"
                    )
                return ""
            file.seek(start + length + length % 2)
    return "truncated: the file ends before its audio begins"
