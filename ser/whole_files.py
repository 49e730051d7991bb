"""Files that are replaced as a whole: a kill or a full disk leaves the old one, or the new one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ser.errors import FULL, REFUSED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written, which takes its place in the end.

    Nothing is left of it where that fails, but for what a kill leaves (`*.part`). The error of a
    disk that is full or refuses names `path`: the system's own names no file, or this one.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.errno in (*FULL, *REFUSED):  # pyarrow's has words of its own
            error.filename, error.strerror = str(path), os.strerror(error.errno)
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def save_figure(figure: "Figure", path: Path) -> None:
    """Replace a PNG as a whole; a `$` in a name that it shows is a dollar and begins no formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with replacing(path) as part:
        figure.savefig(part, format="png")
