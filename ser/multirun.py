"""The parent run of `train.py -m …`, and the table at its end."""

import atexit
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

if TYPE_CHECKING:
    from ser.tracking import Tracker

log = logging.getLogger(__name__)


class ParentRun(Callback):
    """Hydra's callback: children are started between the two calls, also by other launchers.

    While it lasts, the lock file `multirun-<id of the parent>.lock` is held.
    """

    def __init__(self) -> None:
        self._open: Any = None
        self._id = ""
        self._lock: FileLock

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run."""
        from ser.run import tracker_of

        words = " ".join(str(word) for word in config.hydra.overrides.task)
        tags = {"multirun": words, "kind": "parent"}
        tracker = tracker_of(config)
        close_killed(tracker)
        self._open = tracker.parent(f"multirun {words}"[:200], tags, None)
        self._id = self._open.__enter__()
        self._lock = FileLock(tracker.root / f"multirun-{self._id}.lock")
        self._lock.acquire()
        atexit.register(self._cut_off)  # Hydra calls nothing when a job ends by Ctrl-C

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table over the children and close the parent run."""
        from ser.comparison import tell_comparison
        from ser.run import tracker_of

        tell_comparison(tracker_of(config), self._id)
        atexit.unregister(self._cut_off)
        self._close(None)

    def _cut_off(self) -> None:
        """The program ends before the multirun: by an error that Python printed, or by Ctrl-C."""
        self._close(getattr(sys, "last_value", None) or KeyboardInterrupt())

    def _close(self, error: BaseException | None) -> None:
        self._open.__exit__(error and type(error), error, None)
        _remove(self._lock)


def close_killed(tracker: "Tracker") -> None:
    """Show the parents as killed whose process is gone without a word: no one goes on with them."""
    paths = list(tracker.root.glob("multirun-*.lock"))
    shown = tracker.running_parents() if paths else ()
    for path in paths:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if (run_id := path.stem.removeprefix("multirun-")) in shown:
            tracker.finish(run_id, "KILLED")
        _remove(lock)


def _remove(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
