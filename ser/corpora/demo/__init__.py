"""Synthetic emotional speech, laid out like the real corpora: to try everything without a download.

espeak-ng (from the PyPI package espeakng-loader) speaks; the emotions are ours (`delivery.py`). It
is not speech data: figures on it say that the program works, and nothing about people.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ser.errors import SerError

VERSION = 1
"""Raise it with any change that alters the samples: older folders are then rendered anew."""
MARKER = "demo.json"

_log = logging.getLogger(__name__)


def render_demo(folder: Path, *, seed: int) -> Path:
    """Write the demo corpora ravdess, tess, crema_d and savee below `folder`, and return it.

    A folder rendered before with this version and seed is returned as it is, in no time; one of
    another seed or version is replaced. The samples depend on the seed, and on the espeak-ng and
    NumPy in use. Runs at the same time wait for one of them; a killed run leaves no half folder.
    Raises SerError where espeak-ng cannot be used or `folder` holds something else.
    """
    from filelock import FileLock

    folder = Path(folder).absolute()
    if _is_current(folder, seed):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not _is_current(folder, seed):
            _refuse_foreign(folder)
            _render(folder, seed)
    return folder


def _is_current(folder: Path, seed: int) -> bool:
    try:
        made: object = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return made == {"version": VERSION, "seed": seed}


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise SerError(
            f"{folder} holds files that the demo did not make, and the demo replaces its folder as "
            "a whole. Give it an empty folder or a new name."
        )


def _render(folder: Path, seed: int) -> None:
    """Render beside the folder, then rename: the folder is whole or not there. Holds the lock."""
    for left_over in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(left_over, ignore_errors=True)  # its speaker may not have ended yet
    _log.info("rendering the synthetic demo corpora into %s", folder)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        new = work / "new"
        _speak_in_a_process(new, seed)
        (new / MARKER).write_text(
            json.dumps({"version": VERSION, "seed": seed}) + "\n", encoding="utf-8"
        )
        if folder.exists():
            folder.rename(work / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(work)


def _speak_in_a_process(folder: Path, seed: int) -> None:
    """Run `python -m ser.corpora.demo`: espeak-ng keeps state and knows no threads.

    A process of its own starts from the same state each time (same seed, same samples), and a
    crash of the C library ends there. It ends when its input does, and so with this process.
    """
    its_input, held_open = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(folder), str(seed)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=its_input,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(its_input)
        os.close(held_open)
    if done.returncode:
        code = done.returncode
        how = signal.strsignal(-code) if code < 0 else f"exit status {code}"
        reason = (done.stderr.strip().splitlines() or [f"its process ended ({how})."])[-1]
        raise SerError(
            f"The demo corpus could not be spoken: {reason} "
            "It needs espeak-ng from PyPI: `pip install --force-reinstall espeakng-loader`; "
            "or use real speech, as `dataset=ravdess`."
        )
