"""The speech that benches run on."""

import argparse
import os
from pathlib import Path

import soundfile

from bench.measure import fail
from ser.cache import Clip

ORIGINAL_HZ = 48_000
"""RAVDESS as published."""


def add_root(options: argparse.ArgumentParser) -> None:
    """--root: the folder that holds the corpora, as for train.py."""
    default = Path(os.environ.get("SER_DATA", "data"))
    options.add_argument("--root", type=Path, default=default, help="folder of the corpora")


def ravdess(root: Path) -> list[Path]:
    """RAVDESS's clips at any rate; the program ends with a message when there are none."""
    return _found(root, ("ravdess",), None)


def ravdess_originals(root: Path) -> list[Path]:
    """RAVDESS's clips as published, 48 kHz WAV."""
    return _found(root, ("ravdess_original", "ravdess"), ORIGINAL_HZ)


def _found(root: Path, folders: tuple[str, ...], rate: int | None) -> list[Path]:
    for folder in folders:
        paths = sorted((root / folder).glob("Actor_*/*.*"))
        if paths and rate in (None, soundfile.info(paths[0]).samplerate):
            return paths
    fail(
        f"no RAVDESS clips{f' at {rate} Hz' if rate else ''} in {' or '.join(folders)} under "
        f"{root}. Download them (`ser data download ravdess`) or say --root FOLDER."
    )
    raise AssertionError


def as_clips(paths: list[Path], times: int = 1) -> list[Clip]:
    """What the cache asks for; repeated files count as different clips."""
    clips = []
    for copy in range(times):
        for path in paths:
            duration_s = soundfile.info(path).duration
            clips.append(Clip(path, f"{copy}/{path.stem}", duration_s))
    return clips
