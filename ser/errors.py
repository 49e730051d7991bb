"""The exceptions that a user's mistake raises, and how a program ends by one."""

import errno
from pathlib import Path

MISTAKE = 2
"""Exit status of a program that a user's mistake ended."""
INTERRUPTED = 130
"""And of one that Ctrl-C ended, as shells have it."""

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""Of the system's errors: what a full disk, and a folder that must not be written, raise."""


class SerError(Exception):
    """A mistake that the user can mend: the message names the culprit, the rule and the fix.

    The scripts and the command line print it as one paragraph, without a traceback.
    """


class OptionError(SerError):
    """An option that the code does not know, or one that it lacks."""


def made_by_other_code(path: Path, error: OptionError) -> SerError:
    """The error of a run or a checkpoint whose options are those of another version of the code."""
    return SerError(
        f"{path} was written by another version of this code: {error} Take that version (run.json "
        "has its commit), or train again."
    )
