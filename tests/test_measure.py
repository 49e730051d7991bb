"""What the benches share."""

import argparse
import mmap
import time
from pathlib import Path

import numpy as np
import pytest

from bench.device import NOT_RUN, on_gpu
from bench.measure import (
    PeakMemory,
    Table,
    Timing,
    _command,
    compare,
    markdown,
    write_section,
)


def test_ratio_is_taken_within_a_round() -> None:
    ours = [Timing(1.0, 1.0, 0.0), Timing(2.0, 2.0, 0.0), Timing(4.0, 4.0, 0.0)]
    theirs = [Timing(3.0, 3.0, 0.0), Timing(4.0, 4.0, 0.0), Timing(20.0, 9.0, 7.0)]
    table = Table({"ours": ours, "theirs": theirs})
    assert table.ratios("theirs") == [3.0, 2.0, 5.0]
    assert str(table).splitlines()[3] == "| theirs | 4 | 4 | 7 | 3.00 [2.00, 5.00] |"


def test_compare_alternates_and_warms_up() -> None:
    calls: list[str] = []
    compare(lambda: calls.append("a"), {"b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b", "a", "b", "b", "a"]


def test_compare_times_what_sleeps() -> None:
    table = compare(lambda: None, {"sleep": lambda: time.sleep(0.02)}, repeats=1, warm_up=False)
    assert table.seconds("sleep") >= 0.02
    assert table.cpu_s("sleep") < 0.02


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux keeps the peak")
def test_peak_memory_forgets_what_was_before() -> None:
    big = np.ones(2**26, dtype=np.uint8)
    del big
    with PeakMemory() as memory, mmap.mmap(-1, 2**25) as fresh:  # malloc may hand out old pages
        for _ in range(32):
            fresh.write(bytes(2**20))
    assert 24 < memory.added_mib < 48


def test_write_section_replaces_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    write_section(document, "one", "## One\n\nfirst")
    write_section(document, "two", "## Two")
    write_section(document, "one", "## One\n\nagain")
    text = document.read_text()
    assert text.startswith("# Performance\n\n<!-- begin one -->\n## One\n\nagain\n<!-- end one -->")
    assert "first" not in text
    assert text.count("## Two") == 1


def test_markdown_aligns_numbers_right() -> None:
    assert markdown(["", "s"], [["a", 1]]) == "|  | s |\n| --- | ---: |\n| a | 1 |"


def test_the_command_names_no_folder_of_this_machine() -> None:
    given = argparse.Namespace(
        repeats=2, write=True, root=Path("/some/where"), overrides="dataset=a dataset.root=/x/y/a"
    )
    expected = '--repeats 2 --write --root ROOT --overrides "dataset=a dataset.root=…/a"'
    assert _command("start", given).endswith(f"python -m bench.start {expected}")


def test_what_wants_a_gpu_says_so_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu, cpu, expected in (
        (False, False, [NOT_RUN]),
        (False, True, ["cpu"]),
        (True, False, ["cuda"]),
        (True, True, ["cpu"]),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        assert on_gpu(argparse.Namespace(cpu=cpu), lambda device: [device]) == expected
