"""The parent run of `train.py -m …`, and the table at its end."""

import atexit
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ser.config import tell
from ser.errors import MISTAKE
from ser.mistakes import mistake_of

log = logging.getLogger(__name__)


class ParentRun(Callback):
    """Hydra's callback: children are started between the two calls, also by other launchers."""

    def __init__(self) -> None:
        self._open: Any = None
        self._id = ""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run."""
        from ser.run import tracker_of

        words = " ".join(str(word) for word in config.hydra.overrides.task)
        tags = {"multirun": words, "kind": "parent"}
        with _told(config):
            self._open = tracker_of(config).parent(f"multirun {words}"[:200], tags, None)
            self._id = self._open.__enter__()
        atexit.register(self._cut_off)  # Hydra calls nothing when a job ends by Ctrl-C

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table over the children and close the parent run."""
        from ser.comparison import tell_comparison
        from ser.run import tracker_of

        with _told(config):
            tell_comparison(tracker_of(config), self._id)
        atexit.unregister(self._cut_off)
        self._open.__exit__(None, None, None)

    def _cut_off(self) -> None:
        """The program ends before the multirun: by an error that Python printed, or by Ctrl-C."""
        log.warning(
            "this multirun is cut off: what has finished is kept, but the same command begins all "
            "anew. `python sweep.py` with the values in sweep.grid does what is missing (--help)"
        )
        error = getattr(sys, "last_value", None) or KeyboardInterrupt()
        self._open.__exit__(type(error), error, None)


@contextmanager
def _told(config: DictConfig) -> Iterator[None]:
    """End the program by a user's mistake: of what callbacks raise Hydra makes a warning."""
    try:
        yield
    except Exception as error:
        mistake = mistake_of(error, config)
        if mistake is None:
            raise
        tell(mistake)
        sys.exit(MISTAKE)
