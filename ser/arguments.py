"""What a word of the command line may be; argparse tells a refusal with the usage."""

from argparse import ArgumentTypeError
from pathlib import Path


def at_least_1(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}: it must be a whole number of at least 1")
    return int(text)


def filled(text: str) -> str:
    """Any word; an empty one would, as a path, be the folder that the command is started in."""
    if not text:
        raise ArgumentTypeError("it is empty: is a variable of the shell not set?")
    return text


def filled_path(text: str) -> Path:
    """A path that is not empty."""
    return Path(filled(text))
