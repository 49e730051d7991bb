"""Tiny fake corpora in the real layouts, written with soundfile.

Each clip is a tone whose pitch and tremolo tell its emotion, in the speaker's own register, with
seeded noise: two clips never hold the same samples, and a tiny model can learn them.
"""

import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
EMOTIONS = {
    "ravdess": ("01", "02", "03", "04", "05", "06", "07", "08"),
    "ravdess_song": ("01", "02", "03", "04", "05", "06"),
    "tess": ("neutral", "happy", "sad", "angry", "fear", "disgust", "ps"),
    "crema_d": ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"),
    "savee": ("n", "h", "sa", "a", "f", "d", "su"),
    "emodb": ("N", "F", "T", "W", "A", "E", "L"),
    "folder": ("neutral", "happy", "sad", "angry"),
}
SPEAKERS = {
    "ravdess": tuple(f"{actor:02d}" for actor in range(1, 25)),
    "ravdess_song": tuple(f"{actor:02d}" for actor in range(1, 18)),
    "tess": ("OAF", "YAF"),
    "crema_d": tuple(str(actor) for actor in range(1001, 1092)),
    "savee": ("DC", "JE", "JK", "KL"),
    "emodb": ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"),
    "folder": ("ann", "bob", "cat", "dan", "eve", "fay"),
}
_WORDS = ("back", "bar", "base", "bath", "bean", "beg", "bite", "boat")
_SENTENCES = ("TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")


def write_corpus(
    name: str,
    root: Path,
    *,
    speakers: int = 2,
    takes: int = 1,
    suffix: str = ".wav",
    layout: str = "plain",
    seconds: float = 0.3,
    rate_hz: int = RATE_HZ,
    seed: int = 0,
) -> list[Path]:
    """Write `takes` clips of every emotion by each of the first `speakers`; returns their paths.

    Layouts: `plain` as the publisher gives it, `flat` all clips in the root (SAVEE as on Kaggle),
    `twice` the plain tree and the same tree once more inside it (as on Kaggle).
    """
    paths = []
    for speaker in SPEAKERS[name][:speakers]:
        for number, emotion in enumerate(EMOTIONS[name]):
            for take in range(takes):
                place = root / _place(name, speaker, emotion, take, layout)
                path = place.with_name(place.name + suffix)
                key = f"{name} {speaker} {emotion} {take} {seed}"
                register = SPEAKERS[name].index(speaker)
                write_clip(path, tone(key, number, register, seconds, rate_hz), rate_hz)
                paths.append(path)
    if name == "crema_d":
        write_demographics(root)
    if layout == "twice":
        paths += list(_copy_inside(root, paths))
    return paths


def write_clip(path: Path, waveform: np.ndarray, rate_hz: int = RATE_HZ) -> Path:
    """Write (samples,) or (samples, channels) in the format that the suffix names.

    Lossless formats hold the same 16-bit samples: libsndfile's own rounding differs by format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower().lstrip(".")
    if kind in ("wav", "flac"):
        waveform = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(path, waveform, rate_hz, format=kind.upper())
    return path


def tone(
    key: str, emotion: int = 0, register: int = 0, seconds: float = 0.3, rate_hz: int = RATE_HZ
) -> np.ndarray:
    """A waveform (samples,) float32 that `key` alone decides."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch_hz = 200 * 1.25**emotion + 5 * register
    tremolo = 1 + 0.5 * np.sin(2 * np.pi * (2 + 2 * emotion) * time_s)
    phase = rng.uniform(0, 2 * np.pi)
    wave = 0.2 * tremolo * np.sin(2 * np.pi * pitch_hz * time_s + phase)
    return (wave + rng.normal(0, 0.01, len(time_s))).astype(np.float32)


def write_pointer(path: Path, sha256: str = "0" * 64, size_bytes: int = 12345) -> Path:
    """Write what git-lfs leaves in place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    )
    return path


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut a file off as an interrupted copy would."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def write_demographics(root: Path) -> Path:
    """Write CREMA-D's table: the odd actors men, aged 20 and up."""
    rows = ['"ActorID","Age","Sex","Race","Ethnicity"']
    for number, actor in enumerate(SPEAKERS["crema_d"]):
        sex = "Female" if number % 2 else "Male"
        rows.append(f'{actor},{20 + number % 50},"{sex}","Caucasian","Not Hispanic"')
    path = root / "VideoDemographics.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def _place(name: str, speaker: str, emotion: str, take: int, layout: str) -> Path:
    """The path of a clip inside its corpus, without suffix."""
    folder, stem = _name(name, speaker, emotion, take)
    if layout != "flat":
        return Path(folder) / stem
    return Path("ALL", f"{speaker}_{stem}") if name == "savee" else Path(stem)


def _name(name: str, speaker: str, emotion: str, take: int) -> tuple[str, str]:
    if name in ("ravdess", "ravdess_song"):
        channel = "01" if name == "ravdess" else "02"
        intensity = 1 if emotion == "01" else 1 + take // 4 % 2
        fields = f"{intensity:02d}-{1 + take % 2:02d}-{1 + take // 2 % 2:02d}"
        return f"Actor_{speaker}", f"03-{channel}-{emotion}-{fields}-{speaker}"
    if name == "tess":
        return f"{speaker}_{emotion}", f"{speaker}_{_WORDS[take]}_{emotion}"
    if name == "crema_d":
        return "AudioWAV", f"{speaker}_{_SENTENCES[take]}_{emotion}_XX"
    if name == "savee":
        return f"AudioData/{speaker}", f"{emotion}{take + 1:02d}"
    if name == "emodb":
        return "wav", f"{speaker}{_TEXTS[take]}{emotion}a"
    return f"{emotion}/{speaker}", f"take{take}"


def _copy_inside(root: Path, paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        copy = root / "the_same_tree_again" / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        yield Path(shutil.copyfile(path, copy))
