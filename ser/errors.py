"""The exceptions that a user's mistake raises."""

from pathlib import Path


class SerError(Exception):
    """A mistake that the user can mend: the message names the culprit, the rule and the fix.

    The scripts and the command line print it as one paragraph, without a traceback.
    """


class OptionError(SerError):
    """An option that the code does not know, or one that it lacks."""


def written_otherwise(path: Path, error: OptionError) -> SerError:
    """What a run or a checkpoint gets whose options are those of another version of this code."""
    return SerError(
        f"{path} was written by another version of this code: {error} Take that version (run.json "
        "has its commit), or train again."
    )
