"""One audio file, decoded once: what it holds, and what is wrong with it."""

import hashlib
import io
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ser.errors import SerError
from ser.mp3 import cut_short, length_is_guessed

PROBE_VERSION = 4
"""Raise when a check or a number below changes: cached probes of another version are not read."""

_Samples = npt.NDArray[np.float32]

_INT16_STEP = np.float32(2.0**-15)
NOT_UTF8 = "its name is not UTF-8: rename it"
POINTER = b"version https://git-lfs"
_SILENCE_SWING = 2 / 32768
"""About its middle, the two lowest steps of 16 bits: digital silence with dither, or an offset."""
_MOST_PEAK = 100
"""Of float samples: 40 dB beyond full scale, which a careless gain may do; integers reach more."""
_LEAST_HZ, _MOST_HZ = 1_000, 768_000
"""What a header may say: a wrong rate of 1 Hz would be resampled to gigabytes."""
_MENDED = ("AIFF", "AU", "W64", "RF64")
_CUT = re.compile(r"(\d+) \(should be (\d+)\)")
"""What libsndfile's log alone says of a file of these that was cut off: bytes promised and held."""
LEAST_S = 0.02
"""A clip must hold: a period of a low voice, a frame of the speech encoders."""
_STRIDE = 61
"""Among every 61st sample some are above silence in any speech: the others are rarely looked at."""
_OPEN_SIZE = 0xFFFFFFFF
"""The data size that a program writes when it streams a WAV and cannot go back."""


class UnusableError(SerError):
    """An audio file that cannot be used: `path` in UTF-8, and `problem`, after its kind."""

    def __init__(self, path: Path, kind: str, why: str) -> None:
        self.path = Path(str(path).encode(errors="backslashreplace").decode())  # maybe no UTF-8
        super().__init__(f"{self.path}: {why}.")
        self.problem = f"{kind}: {why}"


@dataclass(frozen=True, slots=True)
class Probe:
    """What one file holds. A file with a `problem` lacks the rest."""

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
    """Decode a file and measure it; what makes it unusable is its `problem` and is not raised."""
    try:
        samples, rate_hz = read_audio(path)
        mono = samples.mean(axis=1)  # (samples, channels) -> (samples,)
        check_mix(path, samples, mono, rate_hz)
    except UnusableError as error:
        return Probe(problem=error.problem)
    power = float(np.mean(np.square(mono, dtype=np.float64)))
    return Probe(
        duration_s=len(mono) / rate_hz,
        sample_rate_hz=rate_hz,
        channels=samples.shape[1],
        sha256=content_sha256(samples, rate_hz),
        rms_db=10 * float(np.log10(power)),
    )


def read_audio(path: Path) -> tuple[_Samples, int]:
    """All samples (samples, channels) of a file, full scale is 1, and the sample rate in hertz.

    Raises UnusableError for what docs/data.md calls a problem of one file, but for what
    `check_mix` tells of.
    """
    if not is_utf8(path):
        raise UnusableError(path, "unreadable", NOT_UTF8)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError(path, "unreadable", _irregular(status.st_mode))
        with path.open("rb", buffering=0) as raw:
            if problem := _before_decoding(raw, status.st_size):
                raise UnusableError(path, *problem)
    except FileNotFoundError as error:
        raise UnusableError(path, "unreadable", _absent(path)) from error
    except OSError as error:
        why = f"cannot be opened ({error.strerror}); make it readable, or leave it out"
        raise UnusableError(path, "unreadable", why) from error
    try:
        with soundfile.SoundFile(path) as file:
            return _decode(path, file), int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise UnusableError(path, "unreadable", _no_audio(error)) from error


def _decode(path: Path, file: soundfile.SoundFile) -> _Samples:
    promised = file.frames
    if not _LEAST_HZ <= file.samplerate <= _MOST_HZ:
        why = (
            f"its header gives a sample rate of {file.samplerate} Hz, and speech has "
            f"{_LEAST_HZ} to {_MOST_HZ} Hz; mend the header, or fetch it again"
        )
        raise UnusableError(path, "unreadable", why)
    try:
        samples = _read(file)
    except (ValueError, MemoryError) as error:
        why = (
            f"its header promises {promised} samples, more than fit in memory (a FLAC written to a "
            "pipe says so); convert it to WAV with ffmpeg, in pieces if it is long"
        )
        raise UnusableError(path, "unreadable", why) from error
    except soundfile.SoundFileError as error:
        why = f"decoding stops within ({_words(error)}): cut off or damaged; fetch it again"
        raise UnusableError(path, "truncated", why) from error
    _check_length(path, file, promised, len(samples))
    if file.subtype in ("FLOAT", "DOUBLE"):
        check_floats(path, samples)
    return samples


def _check_length(path: Path, file: soundfile.SoundFile, promised: int, frames: int) -> None:
    """Raise where a file holds more than the `frames` that were decoded, or should."""
    if frames == 0:
        why = "a header without samples (an Ogg cut off reads so); remove it or fetch it again"
        raise UnusableError(path, "zero-length", why)
    if file.format == "MP3":
        content = path.read_bytes()
        if lost := cut_short(content, frames):
            raise UnusableError(path, "cut short", lost)
        if length_is_guessed(content):
            promised = frames
    if file.format in _MENDED and (sizes := _CUT.search(file.extra_info)):
        promised = frames * int(sizes[1]) // max(int(sizes[2]), 1)
    if frames < promised:
        why = f"the header promises {promised} samples, {frames} could be decoded; fetch it again"
        raise UnusableError(path, "truncated", why)


def check_floats(path: Path, samples: _Samples) -> None:
    """Raise UnusableError where samples are not finite or far beyond full scale."""
    peak = _peak(samples)
    if not np.isfinite(peak):
        why = (
            "holds samples that are not finite (NaN or infinity in a float file); remove it or "
            "fetch it again"
        )
        raise UnusableError(path, "non-finite", why)
    if peak > _MOST_PEAK:
        why = (
            f"its float samples reach {peak:.3g}, where full scale is 1 and {_MOST_PEAK} is the "
            "most: divide them by the full scale that they were written at (32768 for 16 bits)"
        )
        raise UnusableError(path, "beyond full scale", why)


def _read(file: soundfile.SoundFile) -> _Samples:
    """Samples (samples, channels), full scale is 1.

    16-bit files are scaled here: libsndfile took .84 ms for 3.3 s at 48 kHz to give floats, .20
    for integers and their conversion, and the numbers are the same.
    """
    samples: _Samples
    if file.subtype != "PCM_16":
        n = -1 if file.seekable() else file.frames  # some ADPCM: soundfile wants to be told
        samples = file.read(n, dtype="float32", always_2d=True)
        return samples
    samples = file.read(dtype="int16", always_2d=True).astype(np.float32)
    samples *= _INT16_STEP
    return samples


def check_mix(path: Path, samples: _Samples, mono: _Samples, rate_hz: int) -> None:
    """Raise UnusableError where `samples` mixed down to `mono` are too short or digital silence."""
    if len(mono) < LEAST_S * rate_hz:
        why = f"lasts {1000 * len(mono) / rate_hz:.3g} ms: {1000 * LEAST_S:.0f} ms are the least"
        raise UnusableError(path, "too short", f"{why}; give a longer recording")
    if _swing(mono[::_STRIDE]) > _SILENCE_SWING or _swing(mono) > _SILENCE_SWING:
        return
    if _swing(samples) <= _SILENCE_SWING:
        raise UnusableError(path, "all-zero", "the file is silent: give one that holds speech")
    why = "silent once its channels are mixed down: they cancel; keep one channel of it"
    raise UnusableError(path, "all-zero", why)


def _peak(samples: _Samples) -> float:
    """The greatest magnitude; not finite where a sample is not."""
    return float(max(samples.max(), -samples.min()))


def _swing(samples: _Samples) -> float:
    """How far the samples go from the middle of their range, in the channel where it is most."""
    return float((samples.max(0) - samples.min(0)).max()) / 2


def is_utf8(path: Path) -> bool:
    """Whether the path can be written into a table; only such files are read."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _absent(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {os.readlink(path)}, which does not exist; mend the link"
    return "there is no such file; mend the path"


def _irregular(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a folder: name a file in it"
    return "is no regular file (a pipe or a device): save the audio to a file first"


def _no_audio(error: Exception) -> str:
    return (
        f"cannot be decoded as audio ({_words(error)}). Fetch it again if it is damaged, or "
        "convert it with ffmpeg: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF and W64 are read"
    )


def _words(error: Exception) -> str:
    """libsndfile's own, without the name of the file."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _before_decoding(raw: io.FileIO, size: int) -> tuple[str, str] | None:
    """Kind and reason of what the bytes alone give away."""
    if size == 0:
        return "zero-length", "the file is empty (0 bytes); remove it or fetch it again"
    head = raw.read(len(POINTER))
    if head == POINTER:
        return "git-lfs pointer", (
            "holds no audio but a note of where it is; run `git lfs pull` in the clone, or `ser "
            "data download crema_d`"
        )
    if head[4:8] == b"ftyp":
        return "unreadable", (
            "holds MPEG-4 audio (M4A, MP4), which is not decoded here; convert it to WAV or FLAC "
            "with ffmpeg"
        )
    if head[:4] == b"RIFF":
        return _riff_problem(raw, size)
    return None


def _riff_problem(raw: io.FileIO, size: int) -> tuple[str, str] | None:
    """Compare the data chunk's promised size with the file: libsndfile mends it in silence."""
    place = 12
    while len(header := _bytes_at(raw, place)) == 8:
        kind, length = struct.unpack("<4sI", header)
        place += 8
        if kind == b"data":
            held = size - place
            if length == 0 and held:
                return "zero-length", (
                    f"the header says that there is no audio, {held} bytes follow: its recorder "
                    "never closed the file; mend it with `ffmpeg -i FILE MENDED.wav`"
                )
            if length != _OPEN_SIZE and length > held:
                return "truncated", (
                    f"the header promises {length} bytes of audio, the file holds {held}; fetch "
                    "it again"
                )
            return None
        place += length + length % 2
    return "truncated", "the file ends before its audio begins; fetch it again"


def _bytes_at(raw: io.FileIO, place: int) -> bytes:
    raw.seek(place)
    return raw.read(8) or b""
