"""Benches whose contestants need processes of their own: other libraries, other settings."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.measure import Table, Timing, measure

_ROOT = Path(__file__).resolve().parent.parent


def serve(call: Callable[[], object]) -> None:
    """Call once to warm up, then once for every line on the standard input; answer its timing."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print does not mix with the answers
    call()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(asdict(measure(call))), file=answers, flush=True)


class Worker:
    """A process that answers with timings; the others rest while it works."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"bench: {' '.join(self._command)} ended; what it wrote is above.")
        return line

    def time(self) -> Timing:
        """One timed call."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Timing(**json.loads(self._read()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare_workers(
    commands: Mapping[str, Sequence[str]], repeats: int, unit_s: float = 1.0
) -> Table:
    """Time each command's worker `repeats` times, in alternation; the first is ours."""
    workers = {name: Worker(command) for name, command in commands.items()}
    timings: dict[str, list[Timing]] = {name: [] for name in workers}
    for turn in range(repeats):
        order = list(workers) if turn % 2 == 0 else list(reversed(workers))
        for name in order:
            timings[name].append(workers[name].time())
    for worker in workers.values():
        worker.close()
    return Table(timings, unit_s)


def time_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Timing:
    """A whole process, from start to exit: its wall and processor seconds, its most memory."""
    with tempfile.TemporaryFile() as told:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=told, stderr=told, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            told.seek(0)
            sys.exit(f"bench: {' '.join(command)} failed:\n{told.read().decode()[-2000:]}")
    return Timing(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare_processes(commands: Mapping[str, Sequence[str]], repeats: int) -> Table:
    """Time whole processes in alternation; the first is ours."""
    timings: dict[str, list[Timing]] = {name: [] for name in commands}
    for turn in range(repeats):
        order = list(commands) if turn % 2 == 0 else list(reversed(commands))
        for name in order:
            timings[name].append(time_process(commands[name]))
    return Table(timings)
