"""A command as a reader can give it."""

import re
import shlex
from collections.abc import Sequence


def without_folders(word: str) -> str:
    """An option whose value is a folder outside the project: its last name only."""
    return re.sub(r"=/(?:[^/]+/)*([^/]+)/?$", r"=…/\1", word)


def command_text(script: str, words: Sequence[str]) -> str:
    """The command as a reader can give it."""
    shown = [without_folders(word) for word in words]
    return " ".join(["python", script, *map(_quoted, shown)])


def _quoted(word: str) -> str:
    """As people quote; what double quotes do not protect is for shlex."""
    if re.search(r'["$`\\]', word):
        return shlex.quote(word)
    return f'"{word}"' if re.search(r"[\[\]{}()*? ;&|<>]", word) else word
