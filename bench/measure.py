"""What every bench shares: alternating timing, peak memory, limits and the printed section.

table = compare(ours, {"librosa": theirs}, repeats=5)
publish("mfcc", "MFCC of clips in memory", [table, "What the limit is …"], options)
"""

import argparse
import gc
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

_DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
_MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """One call: wall seconds, processor seconds of this process, most memory added (MiB)."""

    seconds: float
    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Table:
    """Timings by name, the first ours; round i of every name ran side by side."""

    timings: Mapping[str, Sequence[Timing]]
    unit_s: float = 1.0
    """Seconds of the unit printed: 1 for s, 1e-3 for ms."""

    def seconds(self, name: str) -> float:
        """Median wall seconds."""
        return statistics.median(timing.seconds for timing in self.timings[name])

    def cpu_s(self, name: str) -> float:
        """Median processor seconds of this process and its threads."""
        return statistics.median(timing.cpu_s for timing in self.timings[name])

    def ratios(self, name: str, against: str | None = None) -> list[float]:
        """Wall time of `name` over that of `against` (ours), round by round."""
        against = against or next(iter(self.timings))
        pairs = zip(self.timings[name], self.timings[against], strict=True)
        return [theirs.seconds / ours.seconds for theirs, ours in pairs]

    def __str__(self) -> str:
        """Markdown: a row a name."""
        unit = {1.0: "s", 1e-3: "ms"}[self.unit_s]
        rows = [
            [
                name,
                _digits(self.seconds(name) / self.unit_s),
                _digits(self.cpu_s(name) / self.unit_s),
                f"{max(0.0, *(timing.peak_mib for timing in timings)):.0f}",
                _spread(self.ratios(name)),
            ]
            for name, timings in self.timings.items()
        ]
        head = ["", f"median {unit}", f"processor {unit}", "peak MiB", "time over ours [min, max]"]
        return markdown(head, rows)


def compare(
    ours: Callable[[], object],
    others: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    name: str = "ours",
    warm_up: bool = True,
    unit_s: float = 1.0,
) -> Table:
    """Run ours and the others in alternation and time each.

    Every round runs each once, odd rounds in the opposite order, so that a machine that slows down
    slows all of them; a ratio is taken within a round.

    Args:
        ours: what the others are compared with; called without arguments, its result is dropped.
        others: the alternatives by the name printed.
        repeats: rounds that count.
        name: what ours is called in the table.
        warm_up: run each once before the rounds.
        unit_s: 1 to print seconds, 1e-3 for milliseconds.
    """
    calls = {name: ours, **others}
    if warm_up:
        for call in calls.values():
            call()
    timings: dict[str, list[Timing]] = {key: [] for key in calls}
    for turn in range(repeats):
        order = list(calls) if turn % 2 == 0 else list(reversed(calls))
        for key in order:
            timings[key].append(measure(calls[key]))
    return Table(timings, unit_s)


def measure(call: Callable[[], object]) -> Timing:
    """One call, timed; garbage is collected before and not during."""
    gc.collect()
    gc.disable()
    try:
        with PeakMemory() as memory:
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            cpu_s, seconds = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        gc.enable()
    return Timing(seconds, cpu_s, memory.added_mib)


class PeakMemory:
    """The most resident memory within a `with` block (Linux; elsewhere the figures are NaN)."""

    peak_mib = added_mib = float("nan")

    def __enter__(self) -> "PeakMemory":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # brings VmHWM down to VmRSS
            self._before = _status_mib("VmRSS")
        except OSError:
            self._before = float("nan")
        return self

    def __exit__(self, *_: object) -> None:
        if self._before == self._before:
            self.peak_mib = _status_mib("VmHWM")
            self.added_mib = self.peak_mib - self._before


def _status_mib(field: str) -> float:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match.group(1)) / 1024 if match else float("nan")


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rule, *rows])


def machine() -> str:
    """Processor, cores, memory, threads: one line."""
    import torch

    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return (
        f"{found.group(1) if found else platform.processor()}, {cores} cores, {memory:.0f} GiB"
        f"{gpu}, {platform.system()}; {torch.get_num_threads()} torch threads; load average "
        f"{load:.1f} at the end"
    )


def versions(*packages: str) -> str:
    """Python and the packages named, with their versions."""
    found = [f"{package} {metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])


@contextmanager
def one_core() -> Iterator[None]:
    """The calling thread, and what it starts, on one core; BLAS and torch on one thread."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def bandwidth_gib_s() -> float:
    """Bytes that one core copies a second, read and written counted (best of five), in GiB/s."""
    source = np.ones(64 * _MIB, dtype=np.uint8)
    target = np.empty_like(source)
    best = min(measure(lambda: np.copyto(target, source)).seconds for _ in range(5))
    return 2 * source.nbytes / best / 2**30


def matmul_gflops() -> float:
    """Float32 operations that one core does a second in a large matrix product, in GFLOP/s.

    By oneDNN where torch has it, else by torch's BLAS. Best of five, by processor time: what else
    runs on the machine counts little.
    """
    import torch

    from ser.onednn import linear

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = 1536
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = min(measure(lambda: linear(left, right)).cpu_s for _ in range(5))
    torch.set_num_threads(threads)
    return 2 * size**3 / best / 1e9


def parser(description: str | None, *, repeats: int | None) -> argparse.ArgumentParser:
    """Options that every bench has: --write, and --repeats where rounds are repeated."""
    options = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    if repeats is not None:
        options.add_argument("--repeats", type=int, default=repeats, help="rounds that are timed")
    options.add_argument("--write", action="store_true", help="renew docs/performance.md")
    return options


def publish(
    name: str, title: str, parts: Sequence[object], options: argparse.Namespace, packages: str
) -> None:
    """Print the section; with --write put it in docs/performance.md too.

    Args:
        name: the bench's, as in `python -m bench.NAME` and in the markers.
        title: the heading.
        parts: tables and paragraphs, in order.
        options: what `parser` gave; the command printed names paths and lists by their option only.
        packages: whose versions matter, separated by spaces.
    """
    made = [f"`{_command(name, options)}`", *map(str, parts)]
    made.append(f"Machine: {machine()}. {versions(*packages.split())}.")
    text = "\n\n".join([f"## {title}", *made])
    print(text)
    if options.write:
        write_section(_DOCUMENT, name, text)


def _command(name: str, options: argparse.Namespace) -> str:
    words = [f"python -m bench.{name}"]
    for key, value in vars(options).items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, Path | list):
            words.append(f"{flag} {key.upper()}")
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None:
            words.append(f"{flag} {_as_given(str(value))}")
    threads = os.environ.get("OMP_NUM_THREADS")
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + " ".join(words)


def _as_given(value: str) -> str:
    """A value as a reader can give it: quoted where it is several words, without our folders."""
    from ser.command_text import without_folders

    words = [without_folders(word) for word in value.split()]
    return f'"{" ".join(words)}"' if len(words) > 1 else value


def write_section(document: Path, name: str, text: str) -> None:
    """Put a section between its markers, or at the end of a document without them."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = document.read_text() if document.exists() else "# Performance\n"
    block = f"{begin}\n{text}\n{end}"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + block + rest.split(end, 1)[1]
    else:
        new = old.rstrip("\n") + f"\n\n{block}\n"
    document.write_text(new)


def fail(message: str) -> None:
    """Leave with a message: what is missing and what to do."""
    sys.exit(f"bench: {message}")
