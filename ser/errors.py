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


class DivergedError(SerError):
    """A training whose numbers are no longer finite."""


def made_by_other_code(path: Path, error: OptionError) -> SerError:
    """The error of a run or a checkpoint whose options are those of another version of the code."""
    return SerError(
        f"{path} was written by another version of this code: {error} Take that version (run.json "
        "has its commit), or train again."
    )


def of_the_disk(error: OSError) -> SerError | None:
    """What the user is told of a disk or a folder; None where the error is none of theirs."""
    if is_full(error):
        return SerError(
            f"{full_place(error)}. Free some and run the same command again, or name a folder on "
            "another disk."
        )
    if error.errno in REFUSED and error.filename:
        return SerError(
            f"{error.filename} cannot be opened or written ({refusal(error)}). Make it "
            "accessible, or name another folder or file."
        )
    return None


def is_full(error: OSError) -> bool:
    """Whether a disk is full; where all are, Python finds no folder for temporary files."""
    return error.errno in FULL or _NO_TEMPORARY in str(error)


_NO_TEMPORARY = "No usable temporary directory"


def full_place(error: Exception, *others: str) -> str:
    """Where no space is left; without a file's name it is `others`, a temporary file or stdout."""
    at = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if at:
        return f"{at}: no space is left on its disk"
    import tempfile  # not needed for a start

    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:
        temporary = "temporary files (TMPDIR)"
    places = " or ".join([*others, temporary, "what is printed"])
    return f"{places}: no space is left on its disk"


def refusal(error: OSError) -> str:
    """Why a folder or file is refused: the system's words, but for those of a folder to be made."""
    if error.errno == errno.EEXIST:
        return "a file, or a link to what is not there, has its name"
    return str(error.strerror)
