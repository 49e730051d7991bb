"""Start-up: both `--help`, and the time to the first batch: `python -m bench.start`."""

import runpy
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.measure import Table, Timing, parser, publish
from bench.warm_run import overrides_of
from bench.worker import time_process
from ser.imports import quick_imports

HELP, SER, FIRST = "python train.py --help", "ser --help", "the first batch of python train.py"
GOALS = {HELP: 1.0, SER: 1.0, FIRST: 6.0}
HYDRA = "import hydra alone"
LIBRARIES = "import torch, pytorch_lightning, mlflow alone"


def stop_at_first_batch(overrides: list[str], told: Path) -> None:
    """Run train.py until its first training step; write down when that was."""
    with quick_imports("ser.task"):  # as train.py does
        from ser import task

    def first(*_: object) -> None:
        told.write_text(repr(time.time()))
        raise KeyboardInterrupt

    task.EmotionClassifier.training_step = first  # type: ignore[assignment,method-assign]
    sys.argv = ["train.py", *overrides]
    try:
        runpy.run_path("train.py", run_name="__main__")
    except (KeyboardInterrupt, SystemExit):
        sys.exit(0)


def first_batch(command: list[str], told: Path) -> Timing:
    """From the start of the process to its first training step."""
    start = time.time()
    timing = time_process(command)
    return replace(timing, seconds=float(told.read_text()) - start)


def main() -> None:
    """Print the three, and with --write renew docs/performance.md."""
    options = parser(__doc__, repeats=5)
    options.add_argument("--overrides", default="dataset=demo", help="further options of train.py")
    options.add_argument("--encoder-path", type=Path, help="folder of the encoder's weights")
    options.add_argument("--stop", nargs="+", help="internal: where to tell, and the options")
    given = options.parse_args()
    if given.stop:
        return stop_at_first_batch(given.stop[1:], Path(given.stop[0]))
    python = sys.executable
    ser = [python, "-c", "import sys; sys.argv[0] = 'ser'; from ser.cli import main; main()"]
    names = [HELP, HYDRA, SER, FIRST, LIBRARIES]
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        overrides = overrides_of(given.overrides, given.encoder_path, Path(scratch) / "runs")
        told = Path(scratch) / "first"
        stop = [python, "-m", "bench.start", "--stop", str(told), *overrides]
        for turn in range(given.repeats + 1):  # the first warms the caches of files and features
            measured = {
                HELP: time_process([python, "train.py", "--help"]),
                SER: time_process([*ser, "--help"]),
                FIRST: first_batch(stop, told),
                **{
                    name: time_process([python, "-c", name.removesuffix(" alone")])
                    for name in (HYDRA, LIBRARIES)
                },
            }
            for name, timing in measured.items():
                if turn:
                    timings[name].append(timing)
    table = Table(timings)
    notes = [
        f"{name}: {table.seconds(name):.2f} s, goal {goal:.0f} s." for name, goal in GOALS.items()
    ]
    notes += [
        f"What it cannot do without: `{bare.removesuffix(' alone')}` as Python does it takes "
        f"{table.seconds(bare) / table.seconds(name):.2f} of the time of {name}."
        for name, bare in ((HELP, HYDRA), (FIRST, LIBRARIES))
    ]
    notes.append("Processor seconds and peak MiB are of the whole process.")
    publish("start", "Start-up", [table, " ".join(notes)], given, "torch hydra-core mlflow")
    return None


if __name__ == "__main__":
    main()
