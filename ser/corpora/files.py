"""The audio files of a folder, and what else lies there."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ser.errors import SerError
from ser.probe import NOT_UTF8, UnusableError, is_utf8

AUDIO_SUFFIXES = (
    ".wav", ".flac", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64",
    ".ogg", ".oga", ".opus", ".mp3",
)  # fmt: skip
"""The audio files that an adapter sees, in any case; the earlier is preferred over its copies."""

_UNDECODED = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mkv", ".mov", ".avi")
"""Recordings that libsndfile cannot decode."""

_SHOWN = 3
"""Names of files that are passed over."""


def audio_files(
    folder: Path,
    on_error: Callable[[UnusableError], object] = lambda error: None,
    pass_over: Callable[[Path], object] = lambda path: None,
) -> Iterator[Path]:
    """Every audio file under a folder, sorted; AppleDouble and other hidden names are no audio.

    Linked folders are entered like others, but for those that lead back to a folder that they lie
    in. Links that lead nowhere are listed: what reads them says so. `on_error` is told of folders
    that cannot be listed and of names that are not UTF-8, `pass_over` of links that lead back and
    of files that are no audio by their names.
    """
    for path in sorted(_files(folder, on_error, pass_over)):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            pass_over(path)
        elif is_utf8(path):
            yield path
        else:
            on_error(UnusableError(path, "unreadable", NOT_UTF8))


def _files(
    folder: Path,
    on_error: Callable[[UnusableError], object],
    pass_over: Callable[[Path], object],
    above: tuple[Path, ...] = (),
) -> Iterator[Path]:
    """Whatever is no folder and not hidden; `above` has where the links on the way here lie."""

    def refuse(error: OSError) -> None:
        why = f"cannot be listed ({error.strerror}); make it readable, or leave it out"
        on_error(UnusableError(Path(error.filename), "unreadable", why))

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            link = Path(place, name)
            if link.is_symlink():
                places, target = (*above, Path(place).resolve()), link.resolve()
                if any(one.is_relative_to(target) for one in places):
                    pass_over(link)
                else:
                    yield from _files(link, on_error, pass_over, places)
        yield from (Path(place, name) for name in files if not name.startswith("."))


def recordings(
    named: Sequence[Path], on_error: Callable[[SerError], None], tell: Callable[[str], object]
) -> Iterator[Path]:
    """The files as named, and all audio files of each folder, sorted.

    `tell` is given one line on what is passed over in a folder, `on_error` one on recordings there
    that must be converted first.
    """
    for path in named:
        if not os.path.isdir(path):  # where pathlib raises for a name that is too long
            yield path
            continue
        passed: list[Path] = []
        found = list(audio_files(path, on_error, passed.append))
        undecoded = [one for one in passed if one.suffix.lower() in _UNDECODED]
        others = [one for one in passed if one.suffix.lower() not in _UNDECODED]
        if others:
            why = "are no audio by their names or are links back to a folder above"
            tell(f"passed over in {path}, {len(others)} that {why}: {_first(others)}\n")
        if undecoded:
            why = "of a kind that is not decoded here; convert to WAV or FLAC with ffmpeg"
            on_error(SerError(f"{path}: left out {len(undecoded)} {why}: {_first(undecoded)}"))
        elif not found:
            why = f"no audio was found in it ({', '.join(AUDIO_SUFFIXES)})"
            on_error(SerError(f"{path}: {why}. Name another, or a file."))
        yield from found


def _first(paths: Sequence[Path]) -> str:
    """The names of a few, and whether there are more."""
    first = ", ".join(on_one_line(path.name) for path in paths[:_SHOWN])
    return first + ", ..." * (len(paths) > _SHOWN)


def on_one_line(name: str) -> str:
    """Line feeds, escapes and the like as Python writes them in a string."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in name
    )
