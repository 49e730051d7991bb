"""The corpora: one module each, found by listing this package."""

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from ser.corpora.base import Corpus
from ser.corpora.files import audio_files
from ser.errors import SerError

_log = logging.getLogger(__name__)


def _discover() -> dict[str, type[Corpus]]:
    found: dict[str, type[Corpus]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            own = member.__module__ == module.__name__ and not inspect.isabstract(member)
            if own and issubclass(member, Corpus):
                found[member.name] = member
    return dict(sorted(found.items()))


def corpus_class(name: str) -> type[Corpus]:
    """The adapter called `name`; SerError with the valid names where there is none."""
    if name not in CORPORA:
        raise SerError(f"There is no corpus {name!r}. Choose one of: {', '.join(CORPORA)}.")
    return CORPORA[name]


def find_corpora(data_root: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
    """Find the corpora that lie in `data_root`, one folder each, by the folder's name.

    A folder counts if its name, without case and punctuation, is exactly one of the adapter's
    `folders`, and it holds audio. With `names`, each of them must be there, or
    CorpusNotFoundError; without, whatever is there is returned (perhaps nothing).
    """
    data_root = Path(data_root)
    wanted = {name: corpus_class(name) for name in (CORPORA if names is None else names)}
    by_name: dict[str, list[Path]] = {}
    for folder in sorted(data_root.iterdir()) if data_root.is_dir() else ():
        if folder.is_dir():
            by_name.setdefault(_normal(folder.name), []).append(folder)
    found: dict[str, Path] = {}
    for name, corpus in wanted.items():
        aliases = dict.fromkeys(_normal(alias) for alias in corpus.folders)
        folders = [folder for alias in aliases for folder in by_name.get(alias, ())]
        root = _choose(name, folders)
        if root is not None:
            found[name] = root
        elif names is not None:
            named = " or ".join(corpus.folders[:2]) or corpus.name
            raise corpus(data_root).missing(f"no folder called {named} there holds audio")
    return found


def _normal(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _choose(name: str, folders: Sequence[Path]) -> Path | None:
    """The first folder that holds audio; says so where there were others or none."""
    full = [folder for folder in folders if next(audio_files(folder), None) is not None]
    for folder in folders:
        if folder not in full:
            _log.warning("%s: %s holds no audio and is not used", name, folder)
    if len(full) > 1:
        others = ", ".join(str(folder) for folder in full[1:])
        _log.warning("%s: taken from %s; not from %s", name, full[0], others)
    return full[0] if full else None


CORPORA: dict[str, type[Corpus]] = _discover()  # last: the modules listed import from here
"""Every adapter by name: each concrete `Corpus` defined in a module of this package."""
