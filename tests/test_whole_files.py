"""Files are replaced as a whole, or stay; what fails says of which file."""

import os
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from ser.checkpoint import SafeCheckpointIO
from ser.shards import write_whole
from ser.tables import write_table
from ser.whole_files import save_figure, write_text

WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "figure": lambda path: save_figure(Figure(), path),
    "shard": lambda path: write_whole(path, b"new"),
    "table": lambda path: write_table(pd.DataFrame({"a": [1]}), path),
    "checkpoint": lambda path: SafeCheckpointIO().save_checkpoint({"a": 1}, path),
}


def test_a_name_with_dollars_in_a_figure_is_no_formula(tmp_path: Path) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label="$_$ legend")
    axes.set_title("$_$ title")
    axes.set_xticks([0, 1], ["$_$", "a$b$"])
    figure.legend()
    save_figure(figure, tmp_path / "figure.png")  # as a formula `_` alone is an error
    assert axes.get_title() == "$_$ title"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file_alone_and_is_said_of_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    (tmp_path / f"kept.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="space") as caught:
        WRITERS[kind](path)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_place_that_refuses_is_said_of_the_file_and_not_of_what_lay_beside_it(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "kept"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        WRITERS[kind](path)
    assert (caught.value.filename, caught.value.strerror) == (str(path), "Is a directory")
    assert list(tmp_path.iterdir()) == [path]
