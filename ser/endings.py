"""What asks a script to end, and must not be lost on the way: signals, and a disk that is full."""

import _thread
import logging
import signal
import sys
import threading
from typing import Any

from ser.errors import is_full

_log_error = logging.Handler.handleError


def hear() -> None:
    """Have SIGTERM end the script as Ctrl-C does, so that MLflow hears of it, and lose neither."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _heard_later
    logging.Handler.handleError = _told_by_log  # type: ignore[assignment, method-assign]


def _heard_later(lost: Any) -> None:
    """A Ctrl-C in a callback of Python's own, as of a weak reference, is lost there: come again."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(0.1, _thread.interrupt_main, [signal.SIGTERM]).start()
    else:
        sys.__unraisablehook__(lost)


def _told_by_log(handler: logging.Handler, record: logging.LogRecord) -> None:
    """A full disk under a log ends the script as one under what it prints does."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError) and is_full(error):
        raise error
    _log_error(handler, record)
